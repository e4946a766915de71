"""What happened in an execution, by page or as it comes, and what was delivered of it by webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import orjson
from tornado.iostream import StreamClosedError

from kasal_jupyter.api.executions import execution_of
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.long_answer import LongAnswer
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.errors import Fault, InvalidRequest, KasalError, NotFound
from kasal_jupyter.events.prompts import Prompts, may_name
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.traces import EventFilter, TraceFold, trace_rows
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.executions import CursorQuery, EventPage, EventsQuery, TraceRows
from kasal_jupyter.schemas.webhooks import WebhookReport, WebhookSecret

PAGE_BYTES = 4 << 20
"""About how many bytes of events one answer has at the most."""

SIGN_OF_LIFE_SECONDS = 15.0
"""How often a stream says that it is still there, so that no proxy takes it for dead."""

STREAM = Media(
    "text/event-stream", "The same as Server-Sent Events, one a message, until the execution ends."
)

LAST_EVENT_ID = {
    "Last-Event-ID": "The seq of the last one already known, as a browser's EventSource sends it."
}

Lines = Callable[[bytes], Iterable[bytes]]
"""Makes what is streamed of an event's line: itself, its row, or nothing."""


class StreamHandler(LongAnswer):
    """What can be asked for as a stream: with ``Accept: text/event-stream``."""

    _gone = False
    _news: asyncio.Event

    def on_connection_close(self) -> None:
        """Let a stream that waits for news end."""
        super().on_connection_close()
        self._gone = True
        if hasattr(self, "_news"):
            self._news.set()

    def refuse(self, error: KasalError) -> None:
        """Let a stream that waits for news say that there will be none."""
        super().refuse(error)
        self._news.set()

    def wants_stream(self) -> bool:
        """Say whether the client asks for a stream."""
        return "text/event-stream" in self.request.headers.get("Accept", "")

    def cursor(self, query: CursorQuery) -> int:
        """Give the number of the last event that the client knows.

        Raises
        ------
        InvalidRequest
            It is no number.
        """
        text = self.request.headers.get("Last-Event-ID", "")
        if not text:
            return query.after
        if not (text.isascii() and text.isdigit() and len(text) < 13):
            raise InvalidRequest(
                "Invalid header", faults=[Fault("Last-Event-ID", "A whole number is required")]
            )
        return int(text)

    async def stream(self, feed: Feed, after: int, lines: Lines, prompts: Prompts | None = None) -> None:
        """Send what there is and what comes, until the execution ends, the client goes, or may not have it.

        The client's own pace is kept: nothing is read from the journal before it has taken what it got.

        Parameters
        ----------
        feed
            The execution's.
        after
            The ``seq`` of the last event already known.
        lines
            Given every event from the first on, in order.
        prompts
            Makes prompts whole that events name, where they are wanted whole.
        """
        if feed.summary.ended and after >= feed.journal.seq:
            # A browser's EventSource comes back for more after every end, until it hears this.
            self.nothing()
            return
        self._headers["Content-Type"] = "text/event-stream"
        # nginx would hold messages back to fill its buffer.
        self._headers["X-Accel-Buffering"] = "no"
        self._news = asyncio.Event()
        unwatch = self.parts.doors.watch.add(self)
        unsubscribe = feed.subscribe(lambda *_: self._news.set())
        seen = 0
        try:
            await self.flush()
            while not self._gone:
                self._news.clear()
                if not self.look_again():
                    self.tell_refusal()
                    break
                page = feed.journal.read(seen)
                for line in page:
                    seen += 1
                    if seen > after:
                        whole = line if prompts is None else await whole_line(prompts, line)
                        self.write(b"".join(_message(seen, data) for data in lines(whole)))
                        if whole is not line:
                            # One may be a thousand times as long as its line: they are not gathered.
                            await self.flush()
                    else:
                        list(lines(line))
                if page:
                    await self.flush()
                elif feed.summary.ended:
                    break
                elif not await _within(self._news, SIGN_OF_LIFE_SECONDS):
                    self.write(b": still here\n\n")
                    await self.flush()
        except StreamClosedError:
            return
        finally:
            unsubscribe()
            unwatch()
        if not self._gone:
            self.finish()

    def tell_refusal(self) -> None:
        """Say why nothing more comes. A browser's EventSource asks again, and is answered 401."""
        assert self.refused is not None
        self.write(b"event: refused\ndata: %b\n\n" % orjson.dumps(self.refused.body()))


class TracesHandler(StreamHandler):
    """``GET /executions/{job_id}/traces``."""

    tag = "Execution Management"

    @operation(
        "Get execution trace",
        access="viewer",
        query=CursorQuery,
        answers={200: (TraceRows, STREAM), 204: None},
        errors=(404,),
        headers=LAST_EVENT_ID,
    )
    async def get(self, job_id: str) -> None:
        """Give what was done, a row for each model call, tool call and task, in the order of their ends.

        `next` goes on behind the rows given. With `Accept: text/event-stream` the rows come as they are made;
        204 says that none will come any more.
        """
        query = self.query(CursorQuery)
        after = self.cursor(query)
        wanted = _filter(query)
        await execution_of(self, job_id)
        feed = await self.parts.runs.feed(job_id)
        if self.wants_stream():
            fold = TraceFold()

            def rows_of(line: bytes) -> Iterable[bytes]:
                event = orjson.loads(line)
                row = fold.feed(event)
                return (
                    [row.model_dump_json().encode()]
                    if row is not None and wanted.takes(event, fold.asked)
                    else []
                )

            await self.stream(feed, after, rows_of)
            return
        # In a thread: a long run's events take longer to read than the loop may be held up.
        rows, more = await LISTS.do(
            lambda: trace_rows(feed.journal, after, query.limit, wanted), owner=self.caller.owner
        )
        self.answer(TraceRows(traces=rows, next=rows[-1].seq if more else None))


class EventsHandler(StreamHandler):
    """``GET /executions/{job_id}/events``."""

    tag = "Execution Management"

    @operation(
        "Get execution events",
        access="viewer",
        query=EventsQuery,
        answers={200: (EventPage, STREAM), 204: None},
        errors=(404,),
        headers=LAST_EVENT_ID,
    )
    async def get(self, job_id: str) -> None:
        """Give every event of an execution, as the WebSocket sends them.

        Each model call comes with its messages and its answer, each tool call with its arguments. Of the
        messages, those that an earlier call has are named, or with `expand` there as well. `next` goes on
        behind the events given. With `Accept: text/event-stream` they come as they happen; 204 says that none
        will come any more.
        """
        query = self.query(EventsQuery)
        after = self.cursor(query)
        wanted = _filter(query)
        await execution_of(self, job_id)
        feed = await self.parts.runs.feed(job_id)
        prompts = feed.journal.prompts() if query.expand else None
        if self.wants_stream():
            await self.stream(feed, after, lambda line: [line] if _wanted(line, wanted) else [], prompts)
            return
        lines, last = await LISTS.do(
            lambda: _page(feed, after, query.limit, wanted, prompts), owner=self.caller.owner
        )
        following = str(last).encode() if last < feed.journal.seq else b"null"
        self.write_bytes(b'{"events":[%b],"next":%b}' % (b",".join(lines), following))


def _filter(query: CursorQuery) -> EventFilter:
    return EventFilter.read(query.kind, query.agent, query.task, find=query.find, failed=query.failed)


def _page(
    feed: Feed, after: int, limit: int, wanted: EventFilter, prompts: Prompts | None
) -> tuple[list[bytes], int]:
    """Give a page's events and the number of the last event that was looked at."""
    lines: list[bytes] = []
    last, size = after, 0
    while len(lines) < limit and size < PAGE_BYTES and (read := feed.journal.read(last)):
        for line in read:
            last += 1
            whole = line if prompts is None else prompts.line(line)
            if _wanted(whole, wanted):
                lines.append(whole)
                size += len(whole)
                if len(lines) == limit or size >= PAGE_BYTES:
                    break
    return lines, last


async def whole_line(prompts: Prompts, line: bytes) -> bytes:
    """Give an event's line with its whole prompt; looked up in a thread, since that may lead far back."""
    return await asyncio.to_thread(prompts.line, line) if may_name(line) else line


def _wanted(line: bytes, wanted: EventFilter) -> bool:
    return wanted.takes_all or wanted.takes(orjson.loads(line))


def _message(seq: int, data: bytes) -> bytes:
    """Write a message of a stream; JSON has no line ends of its own."""
    return b"id: %d\ndata: %b\n\n" % (seq, data)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True


# Webhooks: what was delivered of an execution, and the secret that signs.


class DeliveriesHandler(ApiHandler):
    """``GET /executions/{job_id}/webhooks``."""

    tag = "Execution Management"

    @operation("Get webhook deliveries", access="viewer", answers={200: WebhookReport}, errors=(404,))
    async def get(self, job_id: str) -> None:
        """Say what was delivered of an execution to its crew's webhook, and what could not be.

        404 where the crew had none when it was started.
        """
        await execution_of(self, job_id)
        report = await asyncio.to_thread(self.parts.webhooks.report, job_id)
        if report is None:
            raise NotFound(f"Execution {job_id} has no webhook")
        self.answer(report)


class SecretHandler(ApiHandler):
    """``GET /webhooks/secret``."""

    tag = "Crew Management"

    @operation("Get the webhook secret", access="editor", answers={200: WebhookSecret}, errors=(409,))
    async def get(self) -> None:
        """Give what your crews' webhooks are signed with, as *Standard Webhooks* has it.

        It is made when it is first needed.
        """
        self.answer(await self.parts.webhooks.secrets.of(self.caller.owner))


class RotateHandler(ApiHandler):
    """``POST /webhooks/secret/rotate``."""

    tag = "Crew Management"

    @operation("Rotate the webhook secret", access="editor", answers={200: WebhookSecret})
    async def post(self) -> None:
        """Make a new secret; for 24 hours the one before signs as well."""
        self.answer(await self.parts.webhooks.secrets.rotate(self.caller.owner))
