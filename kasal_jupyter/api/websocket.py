"""``/ws``: the reference's *WebSocket Events*."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import orjson
from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import Field
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from kasal_jupyter.api.base import BaseHandler, Parts
from kasal_jupyter.api.body import read_body
from kasal_jupyter.api.fanout import frame
from kasal_jupyter.api.handler import require
from kasal_jupyter.api.traces import whole_line
from kasal_jupyter.auth.gate import Caller
from kasal_jupyter.auth.standing import Standing
from kasal_jupyter.errors import Fault, Forbidden, InvalidRequest, KasalError, NotFound, Unauthorized
from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.wellformed import well_formed_json

QUEUE_BYTES = 2 << 20
"""Bytes waiting for one client behind which nothing more is queued: it has stopped reading.

More than a page of a journal and a quarter of this, so that a client which reads its past stays below it.
"""

TOO_SLOW = 4008
"""The close code for a client that stopped reading: it may come back with ``after``."""

GRACE_SECONDS = 5.0
"""How long such a client has to read the close code before the connection is cut."""

MOST_SUBSCRIPTIONS = 100


UNKNOWN_CALLER = 4401
"""The close code for a client that sent no valid token."""

INTERNAL = 1011
"""The close code where it cannot be told what the caller may."""

MOST_MESSAGE_BYTES = 65_536
"""Bytes of a client's message; all there are, are small."""


class SubscribeMessage(Model):
    """What a client sends to follow an execution, or no longer."""

    type: Literal["subscribe", "unsubscribe"]
    job_id: str
    after: int = Field(0, ge=0, description="The seq of the last event already known.")
    expand: bool = Field(
        False,
        description="Whether each model call comes with all that it was asked, and not with what is new.",
    )
    serve: bool = Field(
        False, description="Whether this connection's client answers the calls of tools that it brought."
    )


class AuthMessage(Model):
    """What a client sends first that cannot send a token with its request, as browsers cannot."""

    type: Literal["auth"]
    token: str


class EventSocket(BaseHandler, WebSocketHandler):
    """One client's connection, following any number of executions."""

    opened: ClassVar[set[EventSocket]] = set()
    """Connections of this process that are open."""

    def initialize(self, parts: Parts, template: str) -> None:
        """Take the parts and the path's template the route was made with."""
        super().initialize(parts, template)
        self._standing: Standing | None = None
        self._jupyter_token = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._known: Callable[[], None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._said = b""
        self._jobs: dict[str, asyncio.Task[None] | None] = {}
        self._served: dict[str, Callable[[], None]] = {}
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._past = asyncio.Lock()
        self._gone = False

    @property
    def ping_interval(self) -> float:
        """Seconds between pings; Jupyter's own setting counts milliseconds."""
        return 30.0

    @property
    def ping_timeout(self) -> float:
        """Seconds a pong may take."""
        return 25.0

    @property
    def max_message_size(self) -> int:
        """The most bytes of a message."""
        return MOST_MESSAGE_BYTES

    async def prepare(self) -> None:  # type: ignore[override]
        """Authenticate before the connection is upgraded, where the request says who asks.

        A cookie that a page of another origin makes the browser send says nothing.
        """
        self.parts.maintenance.check()
        try:
            caller = await self.identify()
        except Unauthorized:
            upgrades = self.request.headers.get("Upgrade", "").lower() == "websocket"
            if not upgrades or self.sent_token():
                raise
            # Looked at now, for a refusal that is an answer; counted when the connection is there.
            self.parts.doors.strangers.take(self.sender)()
            return
        if self.token_authenticated or BaseHandler.check_origin(self):
            await self._let_in(caller, self.sent_token())

    @allow_unauthenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Upgrade; ``prepare`` has authenticated the caller."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            # Tornado would say so in HTML.
            reason = "This is a WebSocket; connect with a client for those, at ws:// or wss://"
            raise InvalidRequest("Invalid request", faults=[Fault("Upgrade", reason)])
        await super().get(*args, **kwargs)

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:  # noqa: ARG002 - Jupyter's name
        """Let pages of every origin connect: they still need a token, see :meth:`prepare`."""
        return True

    def open(self, *args: str, **kwargs: str) -> None:  # noqa: ARG002 - as Tornado calls it
        """Give a client that is not known yet a moment to say who it is."""
        EventSocket.opened.add(self)
        self._unwatch = self.parts.doors.watch.add(self)
        if self._standing is None:
            try:
                self._known = self.parts.doors.strangers.take(self.sender)
            except KasalError as error:
                self._end(UNKNOWN_CALLER, error.message)
                return
            seconds = self.parts.doors.stranger_seconds
            self._deadline = asyncio.get_running_loop().call_later(
                seconds, self.close, UNKNOWN_CALLER, f"send a token within {seconds} seconds"
            )

    async def on_message(self, message: str | bytes) -> None:
        """Take a message; a wrong one is answered, and changes nothing."""
        job_id = None
        if not self.look_again():
            return
        try:
            data = self._said = message.encode("utf-8", "replace") if isinstance(message, str) else message
            if _is_auth(data):
                await self._authenticate(read_body(AuthMessage, data, "Invalid message").token)
                return
            wanted = read_body(SubscribeMessage, data, "Invalid message")
            job_id = wanted.job_id
            if self._standing is None:
                raise Unauthorized('Say who you are first: {"type": "auth", "token": "…"}')
            if wanted.type == "subscribe":
                await self._subscribe(self._standing.caller, wanted)
            else:
                self._unsubscribe(job_id)
        except KasalError as error:
            self.push(frame(orjson.dumps(_refusal(error, job_id))))
            if self._standing is None:
                if self._writer is not None:
                    await self._writer
                self.close(UNKNOWN_CALLER, "no valid token")

    def on_close(self) -> None:
        """Let go of everything."""
        EventSocket.opened.discard(self)
        # A server that ends itself when idle counts from here.
        self.settings["kasal_last_activity"] = datetime.now(UTC)
        self._gone = True
        self._room.set()
        self._stop_waiting()
        if self._unwatch is not None:
            self._unwatch()
        for job_id in list(self._jobs):
            self._unsubscribe(job_id)

    def said(self) -> bytes:
        """Give the latest message."""
        return self._said

    # -- as somebody who stays -----------------------------------------------------------------------

    def look_again(self) -> bool:
        """Say whether the caller still may do what they could; where not, the connection is closed."""
        if self._gone:
            return False
        if self._standing is None:
            return True
        try:
            self._standing.look()
        except Unauthorized as error:
            self._end(UNKNOWN_CALLER, error.message)
        except KasalError:
            # The store cannot be read, which says nothing about the caller.
            self._end(INTERNAL, "it cannot be told at the moment what you may do; connect again")
        return not self._gone

    async def ask_again(self) -> None:
        """Ask Jupyter about a caller whom it has let in; where they are gone, the connection is closed."""
        standing = self._standing
        if standing is None or not standing.by_jupyter:
            return
        if not await self.known_to_jupyter(self._jupyter_token):
            self._end(UNKNOWN_CALLER, "Jupyter no longer knows you; log in again")

    # -- as a receiver -------------------------------------------------------------------------------

    def push(self, frames: bytes) -> None:
        """Queue frames, for a caller who still may have them; a client that lets them pile up is closed."""
        if not self.look_again():
            return
        # What waits already counts, not what comes: one event may be larger than the whole queue.
        if self._pending_bytes > QUEUE_BYTES:
            self._cut()
            return
        if self._writer is not None:
            self._pending.append(frames)
            self._pending_bytes += len(frames)
            return
        stream = self._stream()
        # Mostly the socket takes it all at once, and a task would cost more than the write itself.
        if stream is None or not (rest := _sent_at_once(stream, frames)):
            return
        try:
            written = stream.write(rest)
        except StreamClosedError:
            self._gone = True
            return
        if not written.done():
            self._pending_bytes = len(rest)
            self._writer = asyncio.create_task(self._write_on(written))

    def done(self, job_id: str) -> None:
        """Forget a run that has ended."""
        self._unsubscribe(job_id)

    # -- inside --------------------------------------------------------------------------------------

    async def _authenticate(self, token: str) -> None:
        """Take the token of a first message, or a new one of the same caller: ours, or Jupyter's own."""
        caller = self.parts.accounts.gate.recognise(token)
        if caller is None:
            caller = await self.ask_jupyter_about(token)
        await self._let_in(caller, token)
        self._stop_waiting()
        self.push(frame(orjson.dumps({"type": "authenticated", "name": caller.name})))

    async def _let_in(self, caller: Caller, token: str) -> None:
        if self._standing is not None and self._standing.caller.owner != caller.owner:
            raise Forbidden("This connection is another caller's; open one of your own")
        self.parts.accounts.gate.spend(caller)
        if caller.sandbox and self._standing is None:
            self.parts = await self.parts.sandbox()
        ours = self.parts.accounts.gate.recognise(token) is not None if token else False
        self._standing = Standing(self.parts.accounts.gate, caller, token if ours else None)
        self._jupyter_token = "" if ours else token

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._known is not None:
            self._known()
            self._known = None

    async def _subscribe(self, caller: Caller, wanted: SubscribeMessage) -> None:
        job_id = wanted.job_id
        if job_id in self._jobs:
            self._unsubscribe(job_id)
        if len(self._jobs) >= MOST_SUBSCRIPTIONS:
            reason = f"At most {MOST_SUBSCRIPTIONS} executions a connection; unsubscribe from one"
            raise InvalidRequest("Too many subscriptions", faults=[Fault("job_id", reason)])
        stored = self.parts.store.executions.get(job_id)
        if stored is None or not caller.sees(stored):
            raise NotFound(f"There is no execution {job_id}")
        if wanted.serve:
            # What an agent is told in a tool's name is no viewer's to say.
            require("editor", caller)
        execution = await self.parts.runs.execution(job_id)
        if wanted.serve and execution.status not in ENDED:
            run = await self.parts.runs.running(job_id)
            if not self._gone:
                self._served[job_id] = run.calls.attend()
        self._jobs[job_id] = asyncio.create_task(self._follow(wanted))

    def _unsubscribe(self, job_id: str) -> None:
        task = self._jobs.pop(job_id, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self.parts.fanouts.leave(job_id, self)
        if leave := self._served.pop(job_id, None):
            leave()

    async def _follow(self, wanted: SubscribeMessage) -> None:
        follow = self._follow_whole if wanted.expand else self._catch_up
        try:
            await follow(wanted.job_id, wanted.after)
        except KasalError as error:
            self._unsubscribe(wanted.job_id)
            self.push(frame(orjson.dumps(_refusal(error, wanted.job_id))))

    async def _catch_up(self, job_id: str, after: int) -> None:
        """Send what the journal has behind ``after``, then join the live end without a gap or a duplicate."""
        feed = await self.parts.runs.feed(job_id)
        while not self._gone:
            # One page of the past at a time, however many runs the client catches up with.
            async with self._past:
                if lines := feed.journal.read(after):
                    after += len(lines)
                    self.push(b"".join(map(frame, lines)))
                    await self._drained()
                    continue
            if feed.summary.ended:
                self._unsubscribe(job_id)
                return
            if fanout := self.parts.fanouts.of(feed, after):
                fanout.join(self)
                self._jobs[job_id] = None
                # A run of another server is watched only while somebody follows it, and the past took time.
                await self.parts.runs.feed(job_id)
                return

    async def _follow_whole(self, job_id: str, after: int) -> None:
        """Send the same with whole prompts, each event as it is taken: few ask for that, and it is much."""
        feed = await self.parts.runs.feed(job_id)
        prompts, news = feed.journal.prompts(), asyncio.Event()
        unsubscribe = feed.subscribe(lambda *_: news.set())
        try:
            # A run of another server is watched only while somebody follows it.
            await self.parts.runs.feed(job_id)
            while not self._gone:
                news.clear()
                async with self._past:
                    lines = feed.journal.read(after)
                    for line in lines:
                        after += 1
                        self.push(frame(await whole_line(prompts, line)))
                        await self._drained()
                if lines:
                    continue
                if feed.summary.ended:
                    self._unsubscribe(job_id)
                    return
                await news.wait()
        finally:
            unsubscribe()

    async def _drained(self) -> None:
        """Wait until the client has read most of what is queued: a long past is sent at its own pace."""
        if self._pending_bytes > QUEUE_BYTES // 4:
            self._room.clear()
            await self._room.wait()
        else:
            await asyncio.sleep(0)

    async def _write_on(self, written: asyncio.Future[None]) -> None:
        # One write at a time: the bytes queued behind it stay here, where they are counted.
        try:
            await written
            self._pending_bytes = sum(map(len, self._pending))
            self._room.set()
            while self._pending and not self._gone:
                data = b"".join(self._pending)
                self._pending.clear()
                stream = self._stream()
                if stream is None:
                    return
                await stream.write(data)
                self._pending_bytes = sum(map(len, self._pending))
                self._room.set()
        except StreamClosedError:
            self._gone = True
            self._room.set()
        finally:
            self._writer = None

    def _stream(self) -> Any:
        return self.ws_connection.stream if self.ws_connection is not None else None

    def _cut(self) -> None:
        """Close a client that has stopped reading.

        The close frame is queued behind what the socket already holds, for a client that wakes up; the
        connection is cut soon after, since one that does not will never read it.
        """
        stream = self._stream()
        self._end(TOO_SLOW, "too slow: reconnect and subscribe with after")
        if stream is not None:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, stream.close)

    def _end(self, code: int, reason: str) -> None:
        """Close the connection, with nothing more of what was to come."""
        self._gone = True
        self._pending.clear()
        self._room.set()
        # A close frame has 125 bytes, two of them the code's.
        self.close(code, reason.encode()[:123].decode(errors="ignore"))
        for job_id in list(self._jobs):
            self._unsubscribe(job_id)


def _sent_at_once(stream: IOStream, frames: bytes) -> bytes:
    """Hand frames to a stream's socket, and give what it does not take now.

    The stream's own ``write`` makes a future each time, which is half the cost of an event to 500 sockets.
    """
    # An encrypted stream's socket is its own affair, and nothing may overtake what a stream holds back.
    if type(stream) is not IOStream or stream.closed() or stream.writing():
        return frames
    try:
        return frames[stream.socket.send(frames) :]
    except OSError:
        # It is full, or broken, which the stream finds out as well, and closes.
        return frames


def _is_auth(data: bytes) -> bool:
    """Say whether a message is one that says who asks; what is wrong with it, its model says."""
    try:
        message = orjson.loads(well_formed_json(data))
    except orjson.JSONDecodeError:
        return False
    return isinstance(message, dict) and message.get("type") == "auth"


def _refusal(error: KasalError, job_id: str | None) -> dict[str, Any]:
    """Give the answer to a wrong message. It has no ``seq``: it is no event of a run."""
    refusal = {"type": "error", "message": error.message, "code": error.code, "details": error.details()}
    return refusal | ({"job_id": job_id} if job_id else {})
