"""Webhooks: a run's events, signed and posted to the crew's receiver while the run goes on."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson

from kasal_jupyter.errors import (
    Conflict,
    DocumentDamaged,
    Fault,
    InvalidRequest,
    KasalError,
    NotFound,
    StoreError,
)
from kasal_jupyter.events.prompts import may_name
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.files import Presence
from kasal_jupyter.executions.traces import EventFilter
from kasal_jupyter.places import Places
from kasal_jupyter.schemas.base import parse_time, utc_now
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.webhooks import (
    Delivery,
    HookState,
    SigningSecret,
    Webhook,
    WebhookReport,
    WebhookSecret,
)
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox, SecretLost
from kasal_jupyter.tools.guard import HostGuard, HostRefused, RequestFailed, origin_of
from kasal_jupyter.version import __version__

PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds between the tries of one event: five in a minute and a half."""

TIMEOUT = 10.0
"""Seconds that a receiver has for its answer."""

AT_ONCE = 96
"""Requests that are under way at the same time, of all runs."""

EACH_OWNER = 6
"""How many of them are for one owner's crews."""

EACH_RECEIVER = 3
"""How many of those are at one host and port: one that hangs leaves its owner's others their places."""

GIVE_UP = 3
"""Events in a row that fail until the rest of the run, but for its last event, is left out."""

KEEP_PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds between the tries to keep how a delivery ended, where the disk is full; more are as the last."""

KEPT = 100
"""Deliveries that are remembered of a run."""

CLOSE_SECONDS = 1.0
"""How long deliveries may go on when the server ends; what is left is delivered by the next one."""

_DAMAGED = "What was kept of the delivery was damaged; what was left of it"

_TRANSIENT = frozenset({408, 425, 429})
"""Refusals that may be none a little later, as all from 500 on."""

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
    store
        Keeps how far each delivery is.
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
        store: Store,
        secrets: SigningSecrets,
        guard: HostGuard,
        *,
        pauses: Sequence[float] = PAUSES,
        timeout: float = TIMEOUT,
    ) -> None:
        self._store = store
        self.secrets = secrets
        self._guard = guard
        self._pauses = pauses
        self._timeout = timeout
        self._places = Places(AT_ONCE, each_owner=EACH_OWNER, each_target=EACH_RECEIVER)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Of what is delivered here; those that could not be written are tried again.
        self._states: dict[str, HookState] = {}
        self._unkept: set[str] = set()

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
        """Note what is to be delivered of a new run, within the change that stores it.

        The secret of the crew's owner signs, whoever runs it. It says whether the crew has a webhook.
        """
        if crew.webhook is None:
            return False
        webhook = crew.webhook
        state = HookState(id=job_id, owner=crew.owner, server=server, url=webhook.url, events=webhook.events)
        self._store.deliveries.insert(state)
        return True

    def begin(self, feed: Feed) -> None:
        """Deliver a run's events from where it stands, while they come; nothing where it has no webhook."""
        try:
            state = self._store.deliveries.get(feed.job_id)
        except DocumentDamaged as damaged:
            # The next server makes it anew.
            log.error("the webhooks of %s are not delivered: %s", feed.job_id, damaged)  # noqa: TRY400
            return
        if state is None or state.done:
            return
        task = asyncio.get_running_loop().create_task(self._deliver(feed, state))
        self._tasks[state.id] = task
        self._states[state.id] = state
        task.add_done_callback(lambda done: self._ended(state.id, done))

    async def take_over(self, presence: Presence, feed_of: Callable[[str], Awaitable[Feed]]) -> None:
        """Go on with what servers that are gone have left undelivered.

        Parameters
        ----------
        presence
            Says which servers are alive, and which is this one.
        feed_of
            Gives the events of a run.
        """

        def claim(job_id: str) -> bool:
            # Within a change: no two servers do it at once.
            state = self._standing(job_id)
            if state is None or state.done or presence.alive(state.server):
                return False
            self._store.deliveries.replace(state.model_copy(update={"server": presence.server_id}))
            return True

        for job_id in self._store.deliveries.ids(done=False):
            if job_id in self._tasks:
                continue
            try:
                if await self._store.change(partial(claim, job_id)):
                    self.begin(await feed_of(job_id))
            except NotFound:
                await self.forget(job_id)
            except (KasalError, OSError, ValueError):
                # The others' are delivered all the same, and this one's when it can be.
                log.exception("the webhooks of %s can't be delivered now", job_id)

    def report(self, job_id: str) -> WebhookReport | None:
        """Say what was delivered of a run; None where its crew had no webhook."""
        try:
            state = self._states.get(job_id) or self._store.deliveries.get(job_id)
        except DocumentDamaged:
            state = HookState(
                id=job_id, owner="", server="", url="", events=[], done=True, remark=f"{_DAMAGED} is unknown"
            )
        if state is None:
            return None
        fields = state.model_dump(include={"url", "events", "delivered", "failed", "deliveries", "remark"})
        return WebhookReport(job_id=job_id, state="done" if state.done else "delivering", **fields)

    async def forget(self, job_id: str) -> None:
        """Deliver nothing more of a run, and delete what is kept of it."""
        if task := self._tasks.get(job_id):
            task.cancel()
            await asyncio.wait([task])
        if self._store.deliveries.has(job_id):
            await self._store.change(lambda: self._store.deliveries.delete(job_id))

    async def close(self) -> None:
        """Let what is nearly done be done; the rest waits for the next server."""
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    # -- inside --------------------------------------------------------------------------------------

    def _standing(self, job_id: str) -> HookState | None:
        """Give where a delivery stands; made anew, within a change of the store, where that is damaged.

        The receiver's address is in no journal: it is the crew's, as it is now.
        """
        try:
            return self._store.deliveries.get(job_id)
        except DocumentDamaged as damaged:
            store = self._store
            execution = store.executions.get(job_id)
            if execution is None:
                raise NotFound(f"There is no execution {job_id}") from None
            crew = store.crews.get(execution.crew_id)
            webhook = crew.webhook if crew is not None else None
            again = (
                "every event is sent again, under the id that it had"
                if webhook
                else ("is not delivered: the crew has no webhook any more")
            )
            log.warning("%s; %s", damaged, again)
            state = HookState(
                id=job_id,
                owner=crew.owner if crew is not None else execution.owner,
                server=execution.server,
                url=webhook.url if webhook else "",
                events=webhook.events if webhook else [],
                done=webhook is None,
                remark=f"{_DAMAGED} {again}",
            )
            store.deliveries.delete(job_id)
            store.deliveries.insert(state)
            return state

    async def _keep(self, state: HookState) -> None:
        """Note where a delivery stands; what can't be written is kept here, and not delivered again."""
        self._states[state.id] = state

        def keep() -> None:
            # Its execution may be deleted meanwhile.
            if self._store.deliveries.has(state.id):
                self._store.deliveries.replace(state)

        try:
            await self._store.change(keep)
        except StoreError:
            if state.id not in self._unkept:
                log.exception("where the webhooks of %s stand could not be written", state.id)
            self._unkept.add(state.id)
        else:
            self._unkept.discard(state.id)

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)
        self._states.pop(job_id, None)
        self._unkept.discard(job_id)
        if not task.cancelled() and (error := task.exception()):
            log.error("the webhooks of %s failed", job_id, exc_info=error)

    async def _deliver(self, feed: Feed, state: HookState) -> None:
        try:
            state = await self._deliver_all(feed, state)
            pauses = itertools.chain(KEEP_PAUSES, itertools.repeat(KEEP_PAUSES[-1]))
            while state.id in self._unkept:
                await asyncio.sleep(next(pauses))
                await self._keep(state)
        finally:
            if state.id in self._unkept:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._keep(self._states[state.id])

    async def _deliver_all(self, feed: Feed, state: HookState) -> HookState:
        """Deliver what is wanted until the run has ended, and all of it was settled."""
        wanted = EventFilter.read(",".join(state.events), None, None)
        news = asyncio.Event()
        unsubscribe = feed.subscribe(lambda *_: news.set())
        seen, prompts = state.seq, feed.journal.prompts()
        try:
            while True:
                news.clear()
                lines = feed.journal.read(seen)
                for line in lines:
                    seen += 1
                    event = _event(line)
                    if event is not None and wanted.takes(event):
                        # Whoever gets some events alone has not got what the others have said.
                        body = await asyncio.to_thread(prompts.line, line) if may_name(line) else line
                        state = await self._settle(state.model_copy(update={"seq": seen}), event, body)
                        await self._keep(state)
                        if state.done:
                            return state
                if not lines:
                    if feed.summary.ended:
                        break
                    await news.wait()
        finally:
            unsubscribe()
        state = state.model_copy(update={"seq": seen, "done": True})
        await self._keep(state)
        return state

    async def _settle(self, state: HookState, event: dict[str, Any], line: bytes) -> HookState:
        """Deliver the event that `state` is at, or find that it cannot be; give how the delivery goes on."""
        last = event["type"] == "execution_status" and event.get("status") in ENDED
        if state.failing >= GIVE_UP and not last:
            attempts, outcome = 0, _Outcome(None, "Left out: those before it could not be delivered", True)
        else:
            # While nothing gets through, each is tried once: a long run is not to go on for days here.
            pauses = self._pauses if last or not state.failing else ()
            attempts, outcome = await self._send(state, line, pauses)
        delivered = outcome.error is None
        delivery = Delivery(
            seq=state.seq,
            type=event["type"],
            status=outcome.status,
            attempts=attempts,
            delivered=delivered,
            error=outcome.error,
            time=utc_now(),
        )
        return state.model_copy(
            update={
                "delivered": state.delivered + delivered,
                "failed": state.failed + (not delivered),
                "failing": 0 if delivered else state.failing + 1,
                "deliveries": [*state.deliveries, delivery][-KEPT:],
                # The standard's way to say that nobody is there any more.
                "done": outcome.status == HTTPStatus.GONE,
            }
        )

    async def _send(self, state: HookState, body: bytes, pauses: Sequence[float]) -> tuple[int, _Outcome]:
        attempts = 0
        for pause in (*pauses, None):
            attempts += 1
            outcome = await self._attempt(state, body)
            if outcome.final or pause is None:
                break
            await asyncio.sleep(pause)
        return attempts, outcome

    async def _attempt(self, state: HookState, body: bytes) -> _Outcome:
        try:
            # Asked for each time: they may have been changed meanwhile.
            keys = await self.secrets.keys(state.owner)
        except StoreError:
            log.exception("the secret that signs the webhooks of %s can't be read now", state.id)
            return _Outcome(None, "The secret that signs could not be read", final=False)
        except KasalError as error:
            return _Outcome(None, error.message, final=True)
        scheme, host, port = origin_of(state.url)
        try:
            status = await self._places.do(
                lambda: self._post(state, keys, body),
                owner=state.owner,
                # One owner's alone: another's, at the same host, may hang where this one answers.
                target=f"{state.owner} {scheme}://{host}:{port}",
                # The time limit of the request knows nothing of names that are looked up.
                seconds=self._timeout + 1,
            )
        except TimeoutError:
            return _Outcome(None, f"{host} was not found within {self._timeout:g} seconds.", final=False)
        except (HostRefused, RequestFailed) as error:
            # Tried again in any case: whether a name is unknown by now, or leads inside, is not told.
            return _Outcome(None, str(error), final=False)
        if 200 <= status < 300:
            return _Outcome(status, None, final=True)
        what = "Redirects are not followed" if 300 <= status < 400 else "It was not taken"
        return _Outcome(
            status,
            f"{what}: the receiver answered {status}",
            final=status < 500 and status not in _TRANSIENT,
        )

    def _post(self, state: HookState, keys: list[str], body: bytes) -> int:
        # They take 50 ms to import, which are not the server's start's, nor its loop's.
        import httpx

        from kasal_jupyter.tools.fetch import fetch

        # Made only now: it may have waited for its place, and receivers take no old ones.
        message_id, timestamp = f"msg_{state.id}_{state.seq}", int(time.time())
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
        return fetch(request, self._guard, timeout=self._timeout, max_bytes=1_000, follow=False).status


def _event(line: bytes) -> dict[str, Any] | None:
    """Read an event; None where the journal is damaged there."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("type"), str) else None


PREFIX = "whsec_"

KEY_BYTES = 32
"""Random bytes of a secret; the standard asks for 24 to 64."""

OVERLAP = timedelta(hours=24)
"""How long the secret before signs as well, so that receivers can change theirs meanwhile."""


class SigningSecrets:
    """The owners' secrets, each made at its first use and sealed where it is stored.

    Parameters
    ----------
    store
        Where they are kept.
    box
        What seals them.
    """

    def __init__(self, store: Store, box: SecretBox) -> None:
        self._store = store
        self._box = box

    async def of(self, owner: str) -> WebhookSecret:
        """Give an owner's secret.

        Raises
        ------
        Conflict
            It cannot be read any more: the store was brought here without its key.
        """
        return self._shown(await self._stored(owner))

    async def rotate(self, owner: str) -> WebhookSecret:
        """Give an owner a new secret; the one before signs as well for a day."""

        def change() -> SigningSecret:
            known = self._store.signing_secrets.readable(owner)
            fresh = self._fresh(owner)
            if known is None:
                # One that can't be read any more signs nothing.
                self._store.signing_secrets.delete(owner)
                self._store.signing_secrets.insert(fresh)
                return fresh
            until = (datetime.now(UTC) + OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")
            fresh = fresh.model_copy(update={"previous": known.sealed, "previous_until": until})
            self._store.signing_secrets.replace(fresh)
            return fresh

        return self._shown(await self._store.change(change))

    async def keys(self, owner: str) -> list[str]:
        """Give the secrets that sign now, the newest first.

        Raises
        ------
        Conflict
            They cannot be read any more.
        """
        stored = await self._stored(owner)
        sealed = [stored.sealed, *([stored.previous] if stored.previous and _signs_still(stored) else [])]
        return [self._opened(each) for each in sealed]

    async def _stored(self, owner: str) -> SigningSecret:
        if (known := self._store.signing_secrets.get(owner)) is not None:
            return known

        def make() -> SigningSecret:
            # Somebody else may have made it meanwhile.
            known = self._store.signing_secrets.get(owner)
            if known is None:
                known = self._fresh(owner)
                self._store.signing_secrets.insert(known)
            return known

        return await self._store.change(make)

    def _fresh(self, owner: str) -> SigningSecret:
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        return SigningSecret(id=owner, sealed=self._box.seal(f"{PREFIX}{key}"))

    def _shown(self, stored: SigningSecret) -> WebhookSecret:
        return WebhookSecret(
            secret=self._opened(stored.sealed),
            previous_until=stored.previous_until if _signs_still(stored) else None,
        )

    def _opened(self, sealed: str) -> str:
        try:
            return self._box.open(sealed)
        except SecretLost:
            raise Conflict(
                "The secret was sealed with another data folder's key; "
                "POST /webhooks/secret/rotate makes a new one"
            ) from None


def signature(keys: list[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message with each of some secrets, as the header ``webhook-signature`` has it."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(_digest(key, signed)).decode()}" for key in keys)


def _digest(key: str, signed: bytes) -> bytes:
    return hmac.new(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256).digest()


def _signs_still(stored: SigningSecret) -> bool:
    until = stored.previous_until
    return until is not None and parse_time(utc_now()) < parse_time(until)
