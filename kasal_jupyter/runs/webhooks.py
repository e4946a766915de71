"""Webhooks: a run's events, posted to the crew's receiver while the run goes on.

Events go out in their order, one request each, signed; the body is the line of the journal. Each is sent
until the receiver has taken it, a few times, under the same id: after a crash it may come twice, and is to be
known by that. A run never waits for its receiver.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import orjson

from kasal_jupyter.errors import Fault, InvalidRequest, KasalError, NotFound
from kasal_jupyter.runs.feed import Feed
from kasal_jupyter.runs.filter import EventFilter
from kasal_jupyter.runs.hook_file import HookFiles
from kasal_jupyter.runs.presence import Presence
from kasal_jupyter.runs.signing import SigningSecrets, signature
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.crews import Crew, Webhook
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.webhooks import Delivery, HookState, WebhookReport
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.fetch import RequestFailed, fetch
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from kasal_jupyter.version import __version__

PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds between the tries of one event: five in a minute and a half."""

TIMEOUT = 10.0
"""Seconds that a receiver has for its answer."""

AT_ONCE = 8
"""Requests that are under way at the same time, of all runs."""

GIVE_UP = 3
"""Events in a row that fail until the rest of the run, but for its last event, is left out."""

KEPT = 100
"""Deliveries that are remembered of a run."""

CLOSE_SECONDS = 1.0
"""How long deliveries may go on when the server ends; what is left is delivered by the next one."""

_TRANSIENT = frozenset({408, 425, 429})
"""Refusals that may be none a little later, as all from 500 on."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None
    error: str | None
    final: bool
    """Whether there is no point in trying again."""


class Webhooks:
    """Delivers the events of runs.

    Parameters
    ----------
    files
        Where it is kept how far each delivery is.
    secrets
        What the owners' messages are signed with.
    guard
        Which hosts may be called.
    pauses
        Seconds between the tries of an event.
    timeout
        Seconds that a receiver has for its answer.
    """

    def __init__(
        self,
        files: HookFiles,
        secrets: SigningSecrets,
        guard: HostGuard,
        *,
        pauses: Sequence[float] = PAUSES,
        timeout: float = TIMEOUT,
    ) -> None:
        self.files = files
        self.secrets = secrets
        self._guard = guard
        self._pauses = pauses
        self._timeout = timeout
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def require_allowed(self, webhook: Webhook | None) -> None:
        """Look at a receiver before it is stored; its host is looked at again whenever it is called.

        Raises
        ------
        InvalidRequest
            It may not be called.
        """
        if webhook is None:
            return
        try:
            self._guard.check(webhook.url)
        except HostRefused as error:
            raise InvalidRequest("Invalid webhook", faults=[Fault("webhook.url", str(error))]) from None

    def accept(self, job_id: str, crew: Crew, server: str) -> bool:
        """Note what is to be delivered of a new run; say whether its crew has a webhook.

        The secret of the crew's owner signs, whoever runs it.
        """
        if crew.webhook is None:
            return False
        webhook = crew.webhook
        self.files.write(
            HookState(id=job_id, owner=crew.owner, server=server, url=webhook.url, events=webhook.events)
        )
        return True

    def begin(self, feed: Feed) -> None:
        """Deliver a run's events from where it stands, while they come; nothing where it has no webhook."""
        state = self.files.read(feed.job_id)
        if state is None or state.done:
            return
        task = asyncio.get_running_loop().create_task(self._deliver(feed, state))
        self._tasks[state.id] = task
        task.add_done_callback(lambda done: self._ended(state.id, done))

    async def take_over(
        self, store: Store, presence: Presence, feed_of: Callable[[str], Awaitable[Feed]]
    ) -> None:
        """Go on with what servers that are gone have left undelivered.

        Parameters
        ----------
        store
            Its lock keeps two servers from both doing it.
        presence
            Says which servers are alive, and which is this one.
        feed_of
            Gives the events of a run.
        """

        def claim(state: HookState) -> bool:
            state = self.files.read(state.id) or state
            if state.done or presence.alive(state.server):
                return False
            self.files.write(state.model_copy(update={"server": presence.server_id}))
            return True

        for state in await asyncio.to_thread(list, self.files.pending()):
            if not presence.alive(state.server) and await store.change(partial(claim, state)):
                try:
                    self.begin(await feed_of(state.id))
                except NotFound:
                    await self.forget(state.id)

    def report(self, job_id: str) -> WebhookReport | None:
        """Say what was delivered of a run; None where its crew had no webhook."""
        state = self.files.read(job_id)
        if state is None:
            return None
        fields = state.model_dump(include={"url", "events", "delivered", "failed", "deliveries"})
        return WebhookReport(job_id=job_id, state="done" if state.done else "delivering", **fields)

    async def forget(self, job_id: str) -> None:
        """Deliver nothing more of a run, and delete what is kept of it."""
        if task := self._tasks.get(job_id):
            task.cancel()
            await asyncio.wait([task])
        await asyncio.to_thread(self.files.delete, job_id)

    async def close(self) -> None:
        """Let what is nearly done be done; the rest waits for the next server."""
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # -- inside --------------------------------------------------------------------------------------

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("the webhooks of %s failed", job_id, exc_info=error)

    async def _deliver(self, feed: Feed, state: HookState) -> None:
        wanted = EventFilter.read(",".join(state.events), None, None)
        news = asyncio.Event()
        unsubscribe = feed.subscribe(lambda *_: news.set())
        seen = state.seq
        try:
            while True:
                news.clear()
                lines = feed.journal.read(seen)
                for line in lines:
                    seen += 1
                    event = orjson.loads(line)
                    if wanted.takes(event):
                        state = await self._settle(state, event, line)
                        self.files.write(state)
                        if state.done:
                            return
                if not lines:
                    if feed.summary.ended:
                        break
                    await news.wait()
        finally:
            unsubscribe()
        self.files.write(state.model_copy(update={"seq": seen, "done": True}))

    async def _settle(self, state: HookState, event: dict[str, Any], line: bytes) -> HookState:
        """Deliver an event, or find that it cannot be; give where the delivery stands then."""
        last = event["type"] == "execution_status" and event["status"] in ENDED
        if state.failing >= GIVE_UP and not last:
            attempts, outcome = 0, _Outcome(None, "Left out: those before it could not be delivered", True)
        else:
            # While nothing gets through, each is tried once: a long run is not to go on for days here.
            pauses = self._pauses if last or not state.failing else ()
            attempts, outcome = await self._send(state, event["seq"], line, pauses)
        delivered = outcome.error is None
        delivery = Delivery(
            seq=event["seq"],
            type=event["type"],
            status=outcome.status,
            attempts=attempts,
            delivered=delivered,
            error=outcome.error,
            time=utc_now(),
        )
        return state.model_copy(
            update={
                "seq": event["seq"],
                "delivered": state.delivered + delivered,
                "failed": state.failed + (not delivered),
                "failing": 0 if delivered else state.failing + 1,
                "deliveries": [*state.deliveries, delivery][-KEPT:],
                # The standard's way to say that nobody is there any more.
                "done": outcome.status == HTTPStatus.GONE,
            }
        )

    async def _send(
        self, state: HookState, seq: int, body: bytes, pauses: Sequence[float]
    ) -> tuple[int, _Outcome]:
        attempts = 0
        for pause in (*pauses, None):
            attempts += 1
            async with self._places:
                outcome = await self._attempt(state, seq, body)
            if outcome.final or pause is None:
                break
            await asyncio.sleep(pause)
        return attempts, outcome

    async def _attempt(self, state: HookState, seq: int, body: bytes) -> _Outcome:
        try:
            # Asked for each time: they may have been changed meanwhile.
            keys = await self.secrets.keys(state.owner)
        except KasalError as error:
            return _Outcome(None, error.message, final=True)
        message_id, timestamp = f"msg_{state.id}_{seq}", int(time.time())
        request = httpx.Request(
            "POST",
            state.url,
            content=body,
            headers={
                "Content-Type": "application/json",
                "User-Agent": f"kasal-jupyter/{__version__}",
                "webhook-id": message_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature(keys, message_id, timestamp, body),
            },
        )
        try:
            answer = await _in_a_thread(
                lambda: fetch(request, self._guard, timeout=self._timeout, max_bytes=1_000, follow=False)
            )
        except (HostRefused, RequestFailed) as error:
            # Tried again in any case: whether a name is unknown by now, or leads inside, is not told.
            return _Outcome(None, str(error), final=False)
        if 200 <= answer.status < 300:
            return _Outcome(answer.status, None, final=True)
        what = "Redirects are not followed" if 300 <= answer.status < 400 else "It was not taken"
        return _Outcome(
            answer.status,
            f"{what}: the receiver answered {answer.status}",
            final=answer.status < 500 and answer.status not in _TRANSIENT,
        )


async def _in_a_thread(work: Callable[[], T]) -> T:
    """Do something in a thread of its own.

    Not in the loop's: those are few and carry the runs' bookkeeping, which must not wait for receivers that
    hang. And the end of the process does not wait for this one.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = (work(), None)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome = (None, error)
        # The server may have ended meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=run, name="kasal-webhook", daemon=True).start()
    return await done
