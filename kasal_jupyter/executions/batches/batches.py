"""Batches: made whole or not at all, told to go on or to stand still, taken over from servers that died."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import Conflict, Fault, Faults, InvalidRequest, KasalError, NotRunnable
from kasal_jupyter.executions.acceptance import Asked
from kasal_jupyter.executions.allowances import bound
from kasal_jupyter.executions.batches import rows
from kasal_jupyter.executions.batches.running import BatchRun
from kasal_jupyter.executions.check import input_faults
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.places import LARGE, LISTS, Chores, beside_loop
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.batches import (
    FINISHED,
    Batch,
    BatchChange,
    BatchOptions,
    StoredBatch,
    StoredRow,
    row_keys,
)
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.placeholders import names
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.store.store import Store

MESSAGE = "Invalid batch"

AT_ONCE = 200
"""Rows that one change of the store adds or deletes."""

MANY = 2_000
"""Rows whose figures are added up in a thread: those of fewer take less than a millisecond."""

LOOKS = 2
"""Every how many looks it is seen whether another server on the folder has died."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GivenRow:
    """A row as it was read.

    Attributes
    ----------
    inputs
        Values for the crew's ``{placeholders}``.
    expected
        What is expected of it, if anything is.
    """

    inputs: dict[str, Any]
    expected: Any = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for with a new batch, besides its rows.

    Attributes
    ----------
    options
        Its crew, and how it is run.
    budget, run_budget
        What all rows, and each, may use up.
    tools
        Those that whoever starts it answers for.
    """

    options: BatchOptions
    budget: Budget | None = None
    run_budget: Budget | None = None
    tools: Sequence[ClientTool] = ()


class Batches:
    """All batches of a data folder: those that this server runs, and what others run or ran.

    Parameters
    ----------
    runs
        The executions.
    crews
        The crews.
    most_bytes
        Bytes of a request that has rows.
    open_
        Says whether runs may be started at the moment.
    """

    def __init__(
        self, runs: Runs, crews: Crews, *, most_bytes: int, open_: Callable[[], bool] = lambda: True
    ) -> None:
        self.most_bytes = most_bytes
        self._runs = runs
        self._crews = crews
        self._open = open_
        self._going: dict[str, BatchRun] = {}
        self._making: set[str] = set()
        self._chores = Chores()
        self._looks = 0
        self._closing = False
        runs.on_move = self._moved

    @property
    def store(self) -> Store:
        """Where they are."""
        return self._runs.store

    @property
    def active(self) -> int:
        """How many batches this server runs."""
        return len(self._going)

    def _moved(self, job_id: str) -> None:
        for run in self._going.values():
            run.tell(job_id)

    # -- made ----------------------------------------------------------------------------------------------

    async def make(
        self, wanted: Wanted, given: Callable[[], Iterable[GivenRow]], owner: str, *, size: int
    ) -> tuple[StoredBatch, bool]:
        """Begin a batch, or go on with the one that was asked for alike.

        Parameters
        ----------
        wanted
            What it is to be.
        given
            Gives its rows; it is called in a thread.
        owner
            Whose it is.
        size
            How many rows there may be.

        Returns
        -------
        tuple
            The batch, and whether it is new.

        Raises
        ------
        InvalidRequest, NotRunnable
            It cannot be run like this; every fault is named, by row and field, and nothing was stored.
        QuotaExceeded
            Its owner would have too much stored.
        """
        options = wanted.options
        whole = await self._crews.read(options.crew_id, owner, options.crew_version)
        _require_countable(wanted.budget)

        def prepare() -> tuple[StoredBatch, list[StoredRow]]:
            return self._prepared(wanted, whole, list(given()), owner)

        batch, made = await beside_loop(prepare, size=size, owner=owner, places=LARGE)
        earlier = self._alike(batch)
        if earlier is None:
            self._making.add(batch.id)
            try:
                earlier = await self._insert(batch, made)
            finally:
                self._making.discard(batch.id)
        if earlier is not None:
            return await self._asked_again(earlier, wanted), False
        self._go_on(batch.id)
        return batch, True

    def _prepared(
        self, wanted: Wanted, whole: WholeCrew, given: list[GivenRow], owner: str
    ) -> tuple[StoredBatch, list[StoredRow]]:
        """Check a batch whole, and make its documents; it blocks."""
        options = wanted.options
        if not given:
            raise InvalidRequest(MESSAGE, faults=[Fault("rows", "At least one row is required")])
        self._check(wanted, whole, given, owner)
        stored = self.store.crews.readable(options.crew_id) is not None
        batch = StoredBatch(
            id=new_id("batch"),
            **options.model_dump(include={"name", "concurrency", "dedupe", "once", "model"}),
            owner=owner,
            crew_id=options.crew_id,
            crew_name=whole.crew.name,
            crew_version=whole.crew.version if stored else None,
            server=self._runs.presence.server_id,
            status="running",
            total=len(given),
            budget=wanted.budget,
            run_budget=wanted.run_budget,
            tools=list(wanted.tools),
            structured=bool(whole.tasks) and whole.tasks[-1].output_schema is not None,
            digest="",
            created_at=utc_now(),
            since=time.time(),
        )
        made = list(_stored_rows(batch, given))
        return batch.model_copy(update={"digest": _digest(batch, made)}), made

    def _check(self, wanted: Wanted, whole: WholeCrew, given: list[GivenRow], owner: str) -> None:
        """Check the crew once, with the first row, and of each row what is its own.

        Raises
        ------
        NotRunnable
            With every fault that was found.
        """
        first = Asked(whole, given[0].inputs, owner, wanted.tools, wanted.run_budget, wanted.options.model)
        checked = self._runs.checked(new_id("job"), first)
        faults = Faults()
        by_path = any(name for task in whole.tasks for name in names(task.output_file or ""))
        found_in_rows = list(_row_faults(whole, given, faults, by_path=by_path))
        of_first = {fault.field.removeprefix("rows[0].") for fault in found_in_rows}
        faults += [fault for fault in checked.faults if fault.field not in of_first]
        faults += found_in_rows
        if faults:
            count = len(faults) + faults.more
            more = f" (and {count - 1} more)" if count > 1 else ""
            raise NotRunnable(
                f"{whole.crew.name!r} cannot run over these rows: {faults[0].reason}{more}",
                faults=faults.told(),
            )

    async def _insert(self, batch: StoredBatch, made: Sequence[StoredRow]) -> StoredBatch | None:
        """Store a batch: its rows first, some at a time, and it itself with the last of them.

        Where one that is alike was quicker, nothing of this one stays, and that is given.
        """
        last = (len(made) - 1) // AT_ONCE * AT_ONCE

        def finish() -> StoredBatch | None:
            if (earlier := self._alike(batch)) is None:
                rows.insert(self.store, made[last:])
                self.store.batches.insert(batch)
                self._bound(batch)
            return earlier

        earlier: StoredBatch | None = None
        stored = False
        try:
            for at in range(0, last, AT_ONCE):
                piece = made[at : at + AT_ONCE]
                await self.store.change(partial(rows.insert, self.store, piece), bounded=True)
            earlier = await self.store.change(finish, bounded=True)
            stored = earlier is None
        finally:
            if not stored:
                self._chores.begin(self._forget_rows(batch.id))
        return earlier

    def _bound(self, batch: StoredBatch) -> None:
        """Bound what all rows of a batch may use up together; what they have used by now counts."""
        budget = batch.budget or Budget()
        known = self.store.allowances.has(batch.id)
        if known or batch.budget is not None:
            bound(self.store, batch.id, budget.max_cost, budget.max_tokens)
        if not known and batch.budget is not None:
            found = rows.figures(self.store, batch)
            spent = {"cost": found.cost or 0.0, "tokens": found.tokens}
            self.store.allowances.update(batch.id, {"spent": spent})

    async def _forget_rows(self, batch_id: str) -> None:
        while await self.store.change(lambda: rows.delete_some(self.store, batch_id, AT_ONCE)):
            pass

    # -- asked for again -----------------------------------------------------------------------------------

    def _alike(self, batch: StoredBatch) -> StoredBatch | None:
        """Find the batch that was asked for alike, and is to go on: it has a name, and was not stopped."""
        if batch.name is None or not batch.once:
            return None
        found = self.store.batches.find(digest=batch.digest, owner=batch.owner)
        alike = [each for each in found if each.name == batch.name and each.status != "stopped"]
        return alike[-1] if alike else None

    async def _asked_again(self, batch: StoredBatch, wanted: Wanted) -> StoredBatch:
        """Go on with a batch, with the bounds that are asked for now."""
        change: dict[str, Any] = {"concurrency": wanted.options.concurrency}
        if wanted.budget != batch.budget:
            change["budget"] = wanted.budget
        batch = await self.change(batch.id, BatchChange.model_validate(change))
        return await self.resume(batch.id) if batch.status in {"paused", "failed"} else batch

    # -- told ----------------------------------------------------------------------------------------------

    def get(self, batch_id: str) -> StoredBatch:
        """Give a batch as it is stored.

        Raises
        ------
        NotFound
            There is none with this id.
        """
        return self.store.batches.required(batch_id, "batch")

    async def told(self, batch: StoredBatch) -> Batch:
        """Give a batch as it stands."""
        return await beside_loop(
            partial(self.told_now, batch),
            size=batch.total * 16 // MANY,
            owner=batch.owner,
            places=LISTS,
        )

    def told_now(self, batch: StoredBatch) -> Batch:
        """Give a batch as it stands; it blocks."""
        # Of one moment, or a row would be in no count, or in two.
        with self.store.snapshot():
            batch = self.store.batches.readable(batch.id) or batch
            found = rows.figures(self.store, batch)
        counts = found.counts
        left = counts.waiting + counts.running
        rate = None
        if batch.status == "running" and found.lately:
            rate = found.lately / max(1.0, min(rows.RATE_SECONDS, time.time() - batch.since))
        forecast = None
        if found.cost is not None and found.done:
            forecast = round(found.cost + found.cost / found.done * left, 6)
        return Batch(
            **batch.model_dump(include=_AS_STORED),
            counts=counts,
            cost=found.cost,
            tokens=found.tokens,
            forecast_cost=forecast,
            rate=rate and round(rate, 3),
            seconds_left=round(left / rate, 1) if rate else None,
        )

    # -- told what to do -----------------------------------------------------------------------------------

    async def change(self, batch_id: str, change: BatchChange) -> StoredBatch:
        """Change how a batch is run, or what it is called.

        Raises
        ------
        NotFound
            There is none with this id.
        InvalidRequest
            It cannot be run like this.
        """
        _require_countable(change.budget)
        given = change.model_dump(exclude_unset=True, mode="json")
        return await self._told(batch_id, lambda _batch: given)

    async def pause(self, batch_id: str) -> StoredBatch:
        """Have a batch start no more rows; those that run go on.

        Raises
        ------
        Conflict
            It does not run.
        """

        def pause(batch: StoredBatch) -> dict[str, Any]:
            if batch.status not in {"running", "paused"}:
                raise Conflict(f"{batch.id} is {batch.status}; there is nothing to pause")
            return {"status": "paused", "reason": None}

        return await self._told(batch_id, pause)

    async def resume(self, batch_id: str) -> StoredBatch:
        """Go on with a batch that was paused or stopped, or that could not go on.

        Raises
        ------
        Conflict
            It has completed.
        """

        def resume(batch: StoredBatch) -> dict[str, Any]:
            if batch.status == "completed":
                raise Conflict(f"{batch.id} has completed; retry does what has failed")
            return self._begun_again(batch)

        return await self._told(batch_id, resume, begins=True)

    async def retry(self, batch_id: str) -> StoredBatch:
        """Do the rows again that have failed, or were stopped.

        Raises
        ------
        Conflict
            There are none.
        """

        def retry(batch: StoredBatch) -> dict[str, Any]:
            counts = rows.figures(self.store, batch).counts
            if not counts.failed + counts.stopped:
                raise Conflict(f"No row of {batch.id} has failed")
            return {**self._begun_again(batch), "round": batch.round + 1}

        return await self._told(batch_id, retry, begins=True)

    async def stop(self, batch_id: str) -> StoredBatch:
        """End a batch: its rows that run are stopped, those that wait are not begun.

        Raises
        ------
        Conflict
            It has ended otherwise.
        """

        def stop(batch: StoredBatch) -> dict[str, Any]:
            if batch.status in FINISHED - {"stopped"}:
                raise Conflict(f"{batch.id} is {batch.status} already; there is nothing to stop")
            return {"status": "stopped", "ended_at": batch.ended_at or utc_now(), "reason": None}

        batch = await self._told(batch_id, stop)
        await self._stop_rows(batch)
        return batch

    async def delete(self, batch_id: str) -> None:
        """Delete a batch that does not run, with its rows; the executions stay.

        Raises
        ------
        Conflict
            It runs, or rows of it do.
        """

        def delete() -> None:
            batch = self.get(batch_id)
            if batch.status == "running" or rows.running_in(self.store, batch_id):
                raise Conflict(f"{batch_id} is {batch.status}, or rows of it run; stop it first")
            self.store.batches.delete(batch_id)
            self.store.allowances.delete(batch_id)

        await self.store.change(delete)
        await self._forget_rows(batch_id)

    async def _told(
        self, batch_id: str, fields: Callable[[StoredBatch], dict[str, Any]], *, begins: bool = False
    ) -> StoredBatch:
        """Change a batch by what it is at that moment, and have whoever runs it look at it."""

        def change() -> StoredBatch:
            before = self.get(batch_id)
            batch = self.store.batches.update(batch_id, fields(before))
            if batch.budget != before.budget:
                self._bound(batch)
            return batch

        batch = await self.store.change(change)
        if begins:
            self._go_on(batch_id)
        if (run := self._going.get(batch_id)) is not None:
            run.tell()
        return batch

    def _begun_again(self, batch: StoredBatch) -> dict[str, Any]:
        """Give what makes a batch go on: here, unless another server does it already."""
        alive = batch.status == "running" and self._runs.presence.alive(batch.server)
        server = batch.server if alive else self._runs.presence.server_id
        since = batch.since if alive else time.time()
        return {"status": "running", "server": server, "since": since, "ended_at": None, "reason": None}

    async def _stop_rows(self, batch: StoredBatch) -> None:
        """Stop the executions of a batch's rows that run."""
        found = rows.page(self.store, batch, status="running", limit=1_000)
        await asyncio.gather(
            *(self._stop_row(row.job_id) for row in found if row.job_id and not row.recorded)
        )

    async def _stop_row(self, job_id: str) -> None:
        try:
            await self._runs.stop(job_id)
        except KasalError as error:
            # It has just ended, or its server stops it when it gets to it.
            log.debug("%s was not stopped: %s", job_id, error)

    # -- run -----------------------------------------------------------------------------------------------

    def _go_on(self, batch_id: str) -> None:
        """Have this server run a batch."""
        if batch_id not in self._going and not self._closing:
            run = self._going[batch_id] = BatchRun(self._runs, self._crews, batch_id, self._open)
            self._chores.begin(self._run(run, batch_id))

    async def _run(self, run: BatchRun, batch_id: str) -> None:
        try:
            await run.run()
        finally:
            del self._going[batch_id]
        # It may have been told to go on as this one left it.
        batch = self.store.batches.readable(batch_id)
        if batch is not None and batch.status == "running" and batch.server == self._runs.presence.server_id:
            self._go_on(batch_id)

    async def look(self) -> None:
        """Take over the batches of servers that are gone. It costs microseconds as long as there are none."""
        self._looks += 1
        if self._looks % LOOKS:
            return
        for batch in self.store.batches.find(status="running"):
            server = self._runs.presence.server_id
            if batch.server == server:
                self._go_on(batch.id)
            elif not self._runs.presence.alive(batch.server):
                # Its rows are to be waiting again before they are looked for.
                await self._runs.recover_all()
                if await self.store.change(partial(self._take, batch)):
                    log.info("%s goes on here: its server is gone", batch.id)
                    self._go_on(batch.id)

    def _take(self, batch: StoredBatch) -> bool:
        now = self.store.batches.readable(batch.id)
        if now is None or now.status != "running" or now.server != batch.server:
            return False
        server = self._runs.presence.server_id
        self.store.batches.update(batch.id, {"server": server, "since": time.time()})
        return True

    async def settle(self) -> None:
        """Take over what servers that are gone have left, and delete what they have left half made."""
        self._looks = LOOKS - 1
        await self.look()
        if not self._runs.presence.others():
            for batch_id in await asyncio.to_thread(rows.orphans, self.store, tuple(self._making)):
                await self._forget_rows(batch_id)

    def end(self) -> None:
        """Start nothing more; what is left, the next server does."""
        self._closing = True
        for run in self._going.values():
            run.end()


_AS_STORED = {
    *("id", "name", "owner", "crew_id", "crew_name", "crew_version", "status", "total", "budget"),
    *("run_budget", "concurrency", "dedupe", "once", "model", "created_at", "ended_at", "reason"),
}


def _require_countable(budget: Budget | None) -> None:
    if budget is not None and budget.max_seconds is not None:
        reason = "A batch is bounded by cost and tokens; give seconds in run_budget, for each row"
        raise InvalidRequest(MESSAGE, faults=[Fault("budget.max_seconds", reason)])


def _stored_rows(batch: StoredBatch, given: Sequence[GivenRow]) -> Iterator[StoredRow]:
    """Give the documents of rows, each known by its inputs, and of equal ones by its number among them."""
    firsts: dict[str, int] = {}
    for index, (row, key) in enumerate(zip(given, row_keys(row.inputs for row in given), strict=True)):
        shared = firsts.setdefault(key.rpartition(":")[0], index) if batch.dedupe else index
        yield StoredRow(
            id=rows.row_id(batch.id, index),
            batch_id=batch.id,
            owner=batch.owner,
            index=index,
            key=key,
            inputs=row.inputs,
            expected=row.expected,
            status="waiting" if shared == index else "shared",
            shared_with=None if shared == index else shared,
        )


def _digest(batch: StoredBatch, made: Iterable[StoredRow]) -> str:
    """Give a digest of what a batch's answers hang on: its rows, in any order, and what all of them share."""
    alike = batch.model_dump(
        mode="json", include={"crew_id", "crew_version", "dedupe", "model", "run_budget", "tools"}
    )
    written = hashlib.sha256(orjson.dumps(alike, option=orjson.OPT_SORT_KEYS))
    for key in sorted(row.key for row in made):
        written.update(key.encode())
    return written.hexdigest()


def _row_faults(
    whole: WholeCrew, given: Sequence[GivenRow], before: Faults, *, by_path: bool
) -> Iterator[Fault]:
    """Find what is wrong with each row. Rows that have the same names lack the same."""
    known: dict[frozenset[str], list[Fault]] = {}
    for index, row in enumerate(given):
        having = frozenset(row.inputs)
        if by_path or having not in known:
            known[having] = list(input_faults(whole, row.inputs, before))
        for fault in known[having]:
            yield Fault(f"rows[{index}].{fault.field}", fault.reason)
