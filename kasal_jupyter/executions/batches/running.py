"""A batch that this server runs: rows are started as there is room for them, and the last one ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import (
    BudgetUsedUp,
    Conflict,
    KasalError,
    NotFound,
    NotRunnable,
    StoreError,
    TooManyRequests,
    Unavailable,
)
from kasal_jupyter.executions import verbs
from kasal_jupyter.executions.batches import rows
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.batches import MOST_AT_ONCE, BatchReason, RowError, StoredBatch, StoredRow
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution, ExecutionResume
from kasal_jupyter.store.store import Store

LEAD = 16
"""Rows of a batch that wait for a place: so that none stays free, and its owner's other runs wait for few."""

LOOK_SECONDS = 1.0
"""How often it is seen what others have made of a batch, and what became of runs of other servers."""

AGAIN_SECONDS = 1.0
"""When rows are started again, where the server takes no more runs at the moment."""

log = logging.getLogger(__name__)


class BatchRun:
    """Starts the rows of one batch.

    Of the rows, those that are being started are in memory, and nothing else: how they stand is in the store.

    Parameters
    ----------
    runs
        Where they are run.
    crews
        The crews.
    batch_id
        The batch.
    open_
        Says whether runs may be started at the moment.
    """

    def __init__(self, runs: Runs, crews: Crews, batch_id: str, open_: Callable[[], bool]) -> None:
        self._runs = runs
        self._crews = crews
        self._id = batch_id
        self._open = open_
        self._news = asyncio.Event()
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._jobs: set[str] = set()
        self._whole: WholeCrew | None = None
        self._resting = False
        self._closed = False

    @property
    def _store(self) -> Store:
        return self._runs.store

    def tell(self, job_id: str | None = None) -> None:
        """Have it look again; where an execution is named, if that is one of its rows'."""
        if job_id is None or job_id in self._jobs:
            self._news.set()

    def end(self) -> None:
        """Start nothing more."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Start rows until there are none, or the batch is not to go on here any more."""
        try:
            while not self._closed and (batch := self._current()) is not None:
                if self._open() and await self._step(batch):
                    return
                await self._wait()
        finally:
            while self._starting:
                await asyncio.wait(self._starting.values())

    def _current(self) -> StoredBatch | None:
        """Give the batch, as long as this server is to run it."""
        batch = self._store.batches.readable(self._id)
        mine = batch is not None and batch.server == self._runs.presence.server_id
        return batch if mine and batch is not None and batch.status in {"running", "paused"} else None

    async def _step(self, batch: StoredBatch) -> bool:
        """Start what there is room for; say whether nothing is left to do here."""
        if (reason := self._reason_against(batch)) is not None:
            await self._pause(reason)
            return True
        paused = batch.status == "paused"
        running = rows.running_in(self._store, batch.id)
        room = 0 if paused or self._resting else self._room(batch, running)
        # Those that are being started may not be claimed yet.
        found = rows.next_rows(self._store, batch, max(1, room) + len(self._starting))
        fresh = [row for row in found if row.index not in self._starting]
        for row in fresh[:room]:
            self._begin(batch, row)
        if running or self._starting or (found and not paused):
            return False
        return bool(found) or await self._store.change(partial(_complete, self._store, batch))

    def _room(self, batch: StoredBatch, running: int) -> int:
        starting = len(self._starting)
        if len(self._jobs) > 2 * (running + starting + LEAD):
            self._jobs = {job_id for job_id in tuple(self._jobs) if self._runs.knows(job_id)}
        lead = LEAD - self._runs.queued_among(tuple(self._jobs)) - starting
        return max(0, min(lead, (batch.concurrency or MOST_AT_ONCE) - running - starting))

    def _reason_against(self, batch: StoredBatch) -> BatchReason | None:
        user = self._store.users.readable(batch.owner)
        if user is not None and user.disabled:
            return BatchReason(code="USER_DISABLED", message="The user whose batch it is was disabled.")
        return None

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._news.wait()
        self._news.clear()

    # -- one row -------------------------------------------------------------------------------------------

    def _begin(self, batch: StoredBatch, row: StoredRow) -> None:
        task = asyncio.get_running_loop().create_task(self._start(batch, row))
        self._starting[row.index] = task
        task.add_done_callback(lambda _: self._started(row.index))

    def _started(self, index: int) -> None:
        del self._starting[index]
        self._news.set()

    async def _start(self, batch: StoredBatch, row: StoredRow) -> None:
        """Have a row be done; one that cannot be started costs itself alone."""
        try:
            await self._begun(batch, row)
        except (TooManyRequests, Unavailable, StoreError) as error:
            log.debug("row %d of %s waits: %s", row.index, batch.id, error)
            self._rest()
        except BudgetUsedUp as error:
            # For all of them: none could be done.
            with suppress(StoreError):
                await self._pause(BatchReason(code=error.code, message=error.message))
        except Conflict as error:
            # It is another's by now, or the batch was stopped meanwhile.
            log.debug("row %d of %s is not started: %s", row.index, batch.id, error)
        except KasalError as error:
            await self._refused(batch, row, error)
        except Exception as error:
            # A fault of ours: the others go on.
            log.exception("row %d of %s could not be started", row.index, batch.id)
            await self._refused(batch, row, KasalError(f"The row could not be started: {error!r}"))

    async def _pause(self, reason: BatchReason) -> None:
        await self._store.change(lambda: rows.pause(self._store, self._id, reason))

    def _rest(self) -> None:
        self._resting = True
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._news.set()

    async def _begun(self, batch: StoredBatch, row: StoredRow) -> None:
        def claim(job_id: str) -> None:
            # By now, whoever follows the run may be told of it.
            rows.claim(self._store, batch, row.index, job_id)
            self._jobs.add(job_id)

        if (earlier := self._to_go_on_with(row)) is not None:
            with suppress(Conflict, NotFound):
                await verbs.resume(self._runs, earlier.id, batch.owner, ExecutionResume(), within=claim)
                return
        whole = await self._crew(batch)
        given: Any = {
            "tools": batch.tools,
            "budget": batch.run_budget,
            "model": batch.model,
            "batch": batch.id,
            "allowances": [batch.id] if batch.budget is not None else [],
            "within": claim,
        }
        if not batch.once:
            await verbs.start(self._runs, whole, row.inputs, batch.owner, **given)
            return
        nth = int(row.key.rpartition(":")[2])
        found, earlier_one = await verbs.once(self._runs, whole, row.inputs, batch.owner, **given, nth=nth)
        if earlier_one:
            await self._store.change(partial(_answer, self._store, batch, row, found))

    def _to_go_on_with(self, row: StoredRow) -> Execution | None:
        """Give the run that has begun a row, and that can be gone on with: cut off, or failed in a call.

        One that has failed at what was answered would fail so again.
        """
        if row.job_id is None or row.recorded:
            return None
        earlier = self._store.executions.readable(row.job_id)
        if earlier is None or earlier.status not in ENDED or earlier.status == "completed":
            return None
        error = earlier.error.code if earlier.error is not None else None
        goes_on = earlier.status in {"interrupted", "stopped"} or error == "BUDGET_EXCEEDED"
        return earlier if goes_on or earlier.failed_at is not None else None

    async def _crew(self, batch: StoredBatch) -> WholeCrew:
        """Give the crew as it was when the batch was begun."""
        if self._whole is None:
            if not self._store.crews.has(batch.crew_id):
                raise NotFound(f"There is no crew {batch.crew_id} any more")
            self._whole = await self._crews.read(batch.crew_id, batch.owner, batch.crew_version)
        return self._whole

    async def _refused(self, batch: StoredBatch, row: StoredRow, error: KasalError) -> None:
        """Note why a row was not started; what is wrong with the crew is so for all of them."""
        reasons = "; ".join(f"{fault.field}: {fault.reason}" for fault in error.faults)
        words = f"{error.message} {reasons}".strip()
        for_all = isinstance(error, NotFound) or (
            isinstance(error, NotRunnable)
            and any(not fault.field.startswith(("inputs.", "tasks[")) for fault in error.faults)
        )
        told = RowError(code=error.code, message=words)

        def refuse() -> None:
            if for_all:
                _fail(self._store, batch, BatchReason(code=error.code, message=words))
            else:
                rows.refuse(self._store, batch, row.index, told)

        with suppress(StoreError):
            await self._store.change(refuse)


# -- within a change of the store ----------------------------------------------------------------------------


def _complete(store: Store, batch: StoredBatch) -> bool:
    """End a batch of which nothing is left to do; say whether that is so."""
    now = store.batches.readable(batch.id)
    if now is None or now.status not in {"running", "paused"}:
        return True
    if rows.next_rows(store, now, 1) or rows.running_in(store, now.id):
        return False
    store.batches.update(now.id, {"status": "completed", "ended_at": utc_now(), "reason": None})
    return True


def _fail(store: Store, batch: StoredBatch, reason: BatchReason) -> None:
    """End a batch that cannot go on."""
    now = store.batches.readable(batch.id)
    if now is not None and now.status == "running":
        store.batches.update(
            now.id, {"status": "failed", "ended_at": utc_now(), "reason": reason.model_dump()}
        )


def _answer(store: Store, batch: StoredBatch, row: StoredRow, found: Execution) -> None:
    """Have an earlier run answer for a row, or one that goes on."""
    with suppress(Conflict):
        rows.claim(store, batch, row.index, found.id, recorded=True)
        now = store.executions.readable(found.id)
        if now is not None:
            # What has ended already tells nobody any more.
            rows.note_end(store, now, now.dump())
