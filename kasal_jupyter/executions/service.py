"""Executions from their acceptance to the end: queued, run, stopped, remembered."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kasal_jupyter.crews.versions import note_run
from kasal_jupyter.errors import Conflict, KasalError, NotFound, StoreError, Unavailable
from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.acceptance import Asked, KeyedRequest, Prepared, queued_event, started_with
from kasal_jupyter.executions.admission import LOOK_SECONDS, REFUSALS, Admission
from kasal_jupyter.executions.allowances import Allowances, forget_holds
from kasal_jupyter.executions.backends.backend import Backend, FarBackend
from kasal_jupyter.executions.cassettes import Played
from kasal_jupyter.executions.check import Checked, Recall, check_run
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.feed import POLL_SECONDS, Feed, Feeds
from kasal_jupyter.executions.files import Presence, RunFiles, take_in_files
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.ledger import book_past_runs, settle
from kasal_jupyter.executions.lineage import (
    asked_of,
    follow_up,
    part_of,
    readers_of,
    require_alone,
    require_sources,
    require_unused,
    source_of,
    whole_of,
)
from kasal_jupyter.executions.once import answering
from kasal_jupyter.executions.queue import RETRY_SECONDS, RunLimits, RunQueue
from kasal_jupyter.executions.recovery import INTERRUPTED, forget_requests, left_over, recover
from kasal_jupyter.executions.run import Phase, Run
from kasal_jupyter.executions.webhooks import Webhooks
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.places import DISK, Chores, beside_loop
from kasal_jupyter.schemas.allowances import Wish
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.cluster import ClusterReport
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution, ExecutionError, StopRequest
from kasal_jupyter.schemas.spec import RunSpec, RunToolAnswer
from kasal_jupyter.schemas.tasks import TaskState
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.toolbox import Toolbox

MOMENT_SECONDS = 0.5
"""How long those who ask wait for what has just ended to be stored, where it takes part in their answer."""

STORED_SECONDS = 5.0
"""How long a run that is to be deleted may take to be stored first."""

LATEST = 20
"""Executions of a crew among which its latest run is looked for."""

SPREAD = 0.25
"""By how much of themselves the waits of a key's runs differ."""

CLOSE_SECONDS = 1.0
"""How long what goes on beside the runs may take to be done at the server's end."""

log = logging.getLogger(__name__)


class Runs:
    """All executions of a data folder: this server's own, and what others on the folder run or ran.

    Parameters
    ----------
    store
        Where the summaries are kept.
    folder
        The data folder; journals are in its ``runs``.
    backend
        What runs a crew.
    catalog
        What models can run here.
    limits
        How much may go on at once.
    toolbox
        Gives the tools that an owner's crews can use; the built-in ones alone, where nothing is given.
    webhooks
        Delivers events to the crews' receivers; nobody does, where nothing is given.
    memories
        What crews recall in their runs; nothing, where nothing is given.
    resumes
        Whether runs that a crash of another server has cut off are to be gone on with.
    passing
        Whether the folder goes with this server: its runs end with it, wherever they are.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        backend: Backend,
        catalog: ModelCatalog,
        *,
        limits: RunLimits | None = None,
        toolbox: Callable[[str], Toolbox] | None = None,
        webhooks: Webhooks | None = None,
        memories: CrewMemories | None = None,
        resumes: bool = False,
        passing: bool = False,
    ) -> None:
        self.store = store
        self.folder = folder / "runs"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.files = RunFiles(self.folder)
        self.backend = backend
        self.catalog = catalog
        self.toolbox = toolbox or (lambda _owner: Toolbox())
        self.limits = limits or RunLimits()
        self.allowances = Allowances(store)
        self.webhooks = webhooks
        self.memories = memories
        self.resumes = resumes
        self.passing = passing
        self.presence = Presence(folder / "servers")
        self._runs: dict[str, Run] = {}
        self._admission = Admission(self.limits.running, backend)
        self._queue: RunQueue[Run] = RunQueue(self.limits, self._admission)
        self._again: asyncio.TimerHandle | None = None
        self._states: dict[str, str] = {}
        self._coming: set[str] = set()
        self._left: set[str] = set()
        self._sought: set[str] = set()
        self._feeds = Feeds(self.folder)
        self._chores = Chores()
        self._minding = False
        self._booking = False
        self._closing = False
        self._adopting = asyncio.Lock()
        self.on_end: Callable[[RunSummary], None] | None = None
        """Told of every run of this server that has ended."""
        self.on_move: Callable[[str], None] | None = None
        """Told the id of every run of this server that has begun, waits for a person, or is stored."""

    # -- the life of a run ---------------------------------------------------------------------------

    async def begin(
        self,
        job_id: str,
        prepare: Callable[[], Prepared],
        owner: str,
        crew_id: str,
        *,
        size: int,
        keyed: KeyedRequest | None = None,
        within: Callable[[str], None] | None = None,
    ) -> tuple[Execution, bool]:
        """Accept a run, and queue it.

        Parameters
        ----------
        job_id
            Its id.
        prepare
            Checks it, and gives what is kept of it; it is called beside the loop.
        owner
            Whose execution it is.
        crew_id
            The crew.
        size
            How much there is to check.
        keyed
            The key that the client sent along.
        within
            Told its id in the change that stores it; what this raises keeps it from being accepted.

        Returns
        -------
        tuple
            The execution, and whether this has begun it: not where a request with the same key has before,
            nor where an equal run answers that was asked for with ``once``.

        Raises
        ------
        KasalError
            It is not accepted; nothing of it was stored.
        """
        if self._closing:
            raise Unavailable("The server is shutting down; try again when it is back", retry_after=10)
        with self._queue.admitted(owner):
            await self.put_away(crew_id)
            made = await beside_loop(prepare, size=size, owner=owner)
            if made.execution.verb != "replay":
                self.allowances.require_left(owner, made.spec.allowances)
            try:
                run, execution = await self._accept(made, keyed, within)
            except OSError as error:
                raise StoreError(f"The execution cannot be stored: {error.strerror or error}") from error
            if run is None:
                return execution, False
            if not run.ended:
                self._queue.add(run)
        if self.webhooks is not None:
            try:
                self.webhooks.begin(run.feed)
            except Exception:
                log.exception("the webhooks of %s could not be begun; the next server does it", job_id)
        self._pump()
        return execution, True

    async def _accept(
        self, made: Prepared, keyed: KeyedRequest | None, within: Callable[[str], None] | None
    ) -> tuple[Run | None, Execution]:
        """Write all that is kept of a run, and wait until it is on disk.

        Of a request that was started already, nothing stays, and that execution is given.
        """
        spec, execution = made.spec, made.execution
        job_id = spec.job_id

        def insert() -> Execution | None:
            # Asked in the transaction: of two such requests at the same time, on whatever servers, one wins.
            first = started_with(self.store, keyed) if keyed is not None else None
            if first is None and made.asked.once:
                first = answering(self.store, made.asked.digest, spec.budget)
            if first is None:
                require_alone(self.store, made.asked)
                require_sources(self.store, spec.source)
                if spec.source is not None and spec.source.verb == "resume":
                    follow_up(self.store, spec.source.job_id, job_id, unasked=made.unasked)
                self.store.executions.insert(execution)
                self.store.run_requests.insert(made.asked)
                if made.noted is not None:
                    note_run(self.store, made.noted)
                if within is not None:
                    within(job_id)
                if self.webhooks is not None and made.told is not None:
                    # Of one change with the run: what is accepted is delivered.
                    self.webhooks.accept(job_id, made.told, self.presence.server_id)
            return first

        with ExitStack() as undo:
            # Until the run is acknowledged, nothing of it may stay where anything fails.
            self._coming.add(job_id)
            undo.callback(self._coming.discard, job_id)
            undo.callback(self.forget_files, job_id)
            self.files.workspace(job_id).mkdir(mode=0o700)
            journal = Journal.create(self.files.journal(job_id))
            undo.callback(journal.close)
            feed = Feed.begin(journal, queued_event(spec, execution))
            run = self._run(spec, execution.owner, feed)
            undo.callback(run.calls.end)
            # From here on it answers for the run's state: whoever lists executions may see it before we do.
            self._runs[job_id], self._states[job_id] = run, "queued"
            undo.callback(self._runs.pop, job_id, None)
            undo.callback(self._states.pop, job_id, None)
            synced, inserted = await asyncio.gather(
                DISK.do(journal.sync), self.store.change(insert), return_exceptions=True
            )
            if isinstance(synced, BaseException) and not isinstance(inserted, Execution | BaseException):
                # What could be stored without its journal is no execution.
                await self.store.change(lambda: self._delete_stored(job_id))
            for failed in (inserted, synced):
                if isinstance(failed, BaseException):
                    raise failed
            if isinstance(inserted, Execution):
                return None, inserted
            undo.pop_all()
            self._coming.discard(job_id)
        return run, execution

    @contextmanager
    def coming(self, job_id: str) -> Iterator[None]:
        """Have files of an execution stay that is not stored yet."""
        self._coming.add(job_id)
        try:
            yield
        finally:
            self._coming.discard(job_id)

    def _run(self, spec: RunSpec, owner: str, feed: Feed, *, away: bool = False) -> Run:
        return Run(
            spec,
            owner,
            feed,
            self.backend,
            self,
            launch_seconds=self.limits.launch_seconds,
            put_away_seconds=self.limits.put_away_seconds,
            away=away,
        )

    async def stop(self, job_id: str, reason: ErrorInfo | None = None) -> Execution:
        """End an execution at once: ask, wait 300 ms, kill its process group.

        Parameters
        ----------
        job_id
            The execution.
        reason
            What is noted as why; nothing where its caller has asked for it.

        Raises
        ------
        Conflict
            It had ended otherwise.
        Unavailable
            Another server runs it, and has not stopped it yet.
        StoreError
            Another server runs it, and cannot be told.
        """
        execution = await self.execution(job_id)
        if execution.status not in ENDED:
            if run := self._runs.get(job_id):
                await run.stop(reason)
            else:
                await self._have_stopped(execution, reason)
            execution = await self.execution(job_id)
        if execution.status == "stopped":
            return execution
        if execution.status in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status} already; there is nothing to stop")
        raise Unavailable(
            f"The server that runs {job_id} has not stopped it yet; it does when it gets to it", retry_after=5
        )

    async def _have_stopped(self, execution: Execution, reason: ErrorInfo | None) -> None:
        """Tell the server that runs an execution to stop it, and why."""
        job_id = execution.id
        request = StopRequest(
            id=job_id,
            server=execution.server,
            reason=ExecutionError(**reason) if reason else None,
            created_at=utc_now(),
        )

        def ask() -> None:
            if not self.store.stop_requests.has(job_id):
                self.store.stop_requests.insert(request)

        await self.store.change(ask)
        for _ in range(int(5 / POLL_SECONDS)):
            if (await self.execution(job_id)).status in ENDED:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def delete(self, job_id: str, *, unasked: bool = False) -> None:
        """Delete an execution that has ended, with its journal and its files; the books keep what it used.

        Parameters
        ----------
        job_id
            The execution.
        unasked
            Whether nobody has asked for it: then it stays as long as somebody may go on with what it is for.

        Raises
        ------
        NotFound
            There is none with this id.
        Conflict
            It has not ended, or another takes its answers from it.
        Unavailable
            It has ended, and could not be stored yet.
        """
        execution = await self.execution(job_id)
        if execution.status not in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status}; stop it first")
        readers = await self.current(readers_of(self.store, job_id))
        # Some may be stored as ended a little later.
        ended = {each.id for each in readers if each.status in ENDED}

        def delete() -> None:
            require_unused(self.store, job_id, unasked=unasked, ended=ended)
            self._delete_stored(job_id)

        require_unused(self.store, job_id, unasked=unasked, ended=ended)
        if run := self._runs.get(job_id):
            # It has just ended, and is still being put away.
            await run.hurry()
            if not await _within(run.stored.wait(), STORED_SECONDS):
                raise Unavailable(f"The end of {job_id} could not be stored yet", retry_after=RETRY_SECONDS)
        await self.store.change(delete)
        self._feeds.forget(job_id)
        if self.webhooks is not None:
            await self.webhooks.forget(job_id)
        # A crash in between leaves files that nothing refers to, never an execution without its journal.
        await asyncio.to_thread(self.forget_files, job_id)

    def _delete_stored(self, job_id: str) -> None:
        """Delete what the store has of an execution, within a change."""
        store = self.store
        for each in (store.executions, store.run_requests, store.stop_requests, store.deliveries):
            each.delete(job_id)

    async def close(self) -> None:
        """Shut down: what runs or is queued is ended as ``interrupted``; the next has what waits for people.

        The backend is left to its owner.
        """
        self._closing = True
        if self._again is not None:
            self._again.cancel()
        ends = await asyncio.gather(
            *(run.leave() if self._stays(run) else run.interrupt() for run in list(self._runs.values())),
            return_exceptions=True,
        )
        for error in ends:
            if isinstance(error, BaseException):
                log.error("an execution could not be ended", exc_info=error)
        await self._feeds.close()
        await self._chores.finish(CLOSE_SECONDS)
        if self.webhooks is not None:
            await self.webhooks.close()
        self.presence.close()

    async def examined(self) -> ClusterReport:
        """Look at what executions are run on; of a cluster, a server that passes tells no more than that."""
        if not isinstance(self.backend, FarBackend):
            return ClusterReport(backend="local")
        return ClusterReport(backend="dask") if self.passing else await self.backend.examined()

    def _stays(self, run: Run) -> bool:
        """Say whether a run is there for the next server: it waits for people, or goes on elsewhere."""
        if run.ended:
            return False
        return run.feed.summary.rests or (not self.passing and run.let_go())

    # -- what is known of a run ----------------------------------------------------------------------

    async def settle(self) -> None:
        """Go on where servers that are gone have left off: their runs end as ``interrupted``.

        What cannot be settled now is left to the next who asks for it, and to the next start.
        """
        for step in (self._take_in_files, self.recover_all, self._book_all, self._take_over, self._sweep):
            try:
                await step()
            except Exception:
                log.exception("what servers that are gone have left could not be settled")

    async def _take_in_files(self) -> None:
        await asyncio.to_thread(take_in_files, self.store, self.folder)

    async def recover_all(self) -> None:
        """End what servers that are gone have left unfinished; this one's runs are counted, and not read."""
        executions, alive = self.store.executions, cache(self.presence.alive)
        for status in ("queued", "running", "waiting_for_input"):
            own = executions.count(status=status, server=self.presence.server_id)
            if executions.count(status=status) == own:
                continue
            for execution in executions.find(status=status):
                if not alive(execution.server):
                    await self._current(execution)

    async def _book_all(self) -> None:
        try:
            await book_past_runs(self.store, self.folder, self.presence.alive)
        finally:
            self._booking = False

    async def _take_over(self) -> None:
        if self.webhooks is not None:
            await self.webhooks.take_over(self.presence, self.feed)

    async def _sweep(self) -> None:
        """Take away what is left of runs that were never acknowledged, or have ended."""
        for forget in (forget_requests, forget_holds):
            await self.store.change(partial(forget, self.store))
        alone = not self.presence.others()
        for job_id in await asyncio.to_thread(left_over, self.store, self.files, alone=alone):
            if job_id not in self._runs and job_id not in self._coming:
                await asyncio.to_thread(self.forget_files, job_id)

    async def execution(self, job_id: str) -> Execution:
        """Give an execution as it stands now.

        Raises
        ------
        NotFound
            There is none with this id.
        """
        return await self._current(self.store.executions.required(job_id, "execution"))

    async def current(self, executions: Iterable[Execution]) -> list[Execution]:
        """Bring stored summaries up to date."""
        return [await self._current(execution) for execution in executions]

    def position(self, job_id: str) -> int | None:
        """Give an execution's place in this server's line, counted from 1; None where it does not wait."""
        run = self._runs.get(job_id)
        return self._queue.position(run) if run is not None else None

    def unstored(self) -> dict[str, Execution]:
        """Give this server's runs whose state the store does not have yet, as they stand."""
        found = {}
        for job_id, run in self._runs.items():
            stored = self._states.get(job_id)
            if run.feed.summary.status != stored and (execution := self.store.executions.readable(job_id)):
                found[job_id] = _overlay(execution, run.feed)
        return found

    def begun(self) -> frozenset[str]:
        """Say which of this server's runs have left the queue, and may not be booked yet."""
        return frozenset(job_id for job_id, run in self._runs.items() if run.feed.summary.status != "queued")

    async def put_away(self, crew_id: str, *, remembered: bool = False) -> None:
        """Give the runs of a crew that have just ended a moment to be stored: it takes some milliseconds.

        Nobody waits for a disk that is slow: what it has not taken by then is told of a little later.

        Parameters
        ----------
        crew_id
            The crew.
        remembered
            Whether what the crew remembers of them counts as well.
        """
        ending = [run for run in self._runs.values() if run.ended and run.spec.crew.id == crew_id]
        done = [(run.stored if remembered else run.saved).wait() for run in ending]
        if done:
            await _within(asyncio.gather(*done), MOMENT_SECONDS)

    async def feed(self, job_id: str) -> Feed:
        """Give an execution's events, past and to come."""
        execution = await self.execution(job_id)
        if run := self._runs.get(job_id):
            return run.feed
        feed = await self._feeds.get(execution.id)
        if execution.status in ENDED and not feed.summary.ended:
            feed.catch_up()
            if not feed.summary.ended:
                feed.conclude(execution)
        # It also ends the run as interrupted where its server is gone.
        self._feeds.watch(feed, lambda: self.execution(job_id))
        return feed

    def followed(self, job_id: str) -> bool:
        """Say whether this server has a use for a run at the moment: it runs it, or somebody follows it."""
        return job_id in self._runs or self._feeds.followed(job_id)

    async def running(self, job_id: str) -> Run:
        """Give an execution that this server runs.

        Raises
        ------
        Conflict
            It has ended, or another server runs it.
        """
        execution = await self.execution(job_id)
        if execution.status in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status} already")
        if run := self._runs.get(job_id):
            return run
        raise Conflict(f"Execution {job_id} runs on another server; ask the one that started it")

    async def answer(self, job_id: str, answer: RunToolAnswer, by: str, *, asked_only: bool = False) -> None:
        """Answer a call of an execution's client, or a question; it is on disk then.

        Parameters
        ----------
        job_id
            The execution.
        answer
            The answer.
        by
            Who gives it.
        asked_only
            Whether it may be to a question alone.

        Raises
        ------
        InvalidRequest
            It is none that the question takes.
        NotFound
            There is no such call.
        Conflict
            Another was quicker, its time is over, or the execution has ended or is another server's.
        """
        run = await self.running(job_id)
        if run.calls.answer(answer, by, asked_only=asked_only):
            await DISK.do(run.feed.journal.sync)

    async def asking(self) -> list[Execution]:
        """Give the executions that ask something."""
        found = {
            execution.id: execution
            for status in ("waiting_for_input", "running")
            for execution in self.store.executions.find(status=status)
            if execution.questions
        }
        for job_id, run in self._runs.items():
            # The store may know of it a little later.
            if run.feed.summary.questions and (execution := self.store.executions.readable(job_id)):
                found[job_id] = execution
        return [each for each in await self.current(found.values()) if each.questions]

    async def task_states(self, crew_ids: Iterable[str]) -> dict[str, TaskState]:
        """Say how each task of some crews fared in its crew's latest execution, by the task's id.

        A replay does nothing that a task could fare by.
        """
        states: dict[str, TaskState] = {}
        for crew_id in crew_ids:
            # Most have none: one is read, and more only where it is a replay.
            for limit in (1, LATEST):
                page = self.store.executions.page(order="newest", limit=limit, crew_id=crew_id).documents
                latest = next((each for each in page if each.verb != "replay"), None)
                if latest is not None:
                    states |= (await self._current(latest)).task_states
                    break
        return states

    def knows(self, job_id: str) -> bool:
        """Say whether a run is this server's, and goes on."""
        return job_id in self._runs

    def queued_among(self, job_ids: Iterable[str]) -> int:
        """Count the runs of this server among some that wait for a place."""
        found = (self._runs.get(job_id) for job_id in job_ids)
        return sum(run is not None and run.phase is Phase.QUEUED for run in found)

    @property
    def waiting(self) -> int:
        """How many executions of this server wait for a place."""
        return self._queue.waiting

    @property
    def active(self) -> int:
        """How many executions of this server run or wait."""
        return len(self._runs)

    # -- as the keeper of its runs -------------------------------------------------------------------

    async def prepare(self, run: Run) -> None:
        """Bring a run's crew's memory up to date."""
        if self.memories is not None and (memory := run.spec.memory) is not None and not run.replays:
            await self.memories.refresh(run.spec.crew.id, memory.embedder)

    def spending(self, run: Run) -> RunSpec:
        """Give what a run is told, with the shared budgets that it spends from today."""
        if run.replays:
            return run.spec
        allowances = self.allowances.spent_from(run.owner, run.spec.allowances)
        return run.spec.model_copy(update={"allowances": allowances})

    async def reserve(self, run: Run, wish: Wish) -> str | None:
        """Reserve what a run wants of shared budgets; say why it cannot have it, else None."""
        return await self.allowances.reserve(run.spec.job_id, run.owner, run.spec.allowances, wish)

    async def renewed(self, run: Run) -> RunSpec:
        """Give what a run is told as it was accepted, with the keys and tools of today."""
        job_id = run.spec.job_id
        execution = self.store.executions.required(job_id, "execution")
        kept = asked_of(self.store, execution)
        whole, before = whole_of(kept, execution)
        asked = Asked(whole, execution.inputs, run.owner, before.client_tools, before.budget)
        checked = await beside_loop(lambda: self.checked(job_id, asked), size=whole.size, owner=run.owner)
        bytes_left = max(1, self.limits.journal_bytes - run.feed.journal.path.stat().st_size)
        # What it took its answers from when it began: an execution, or a cassette.
        source = source_of(self.store, self.files, "resume", job_id).before
        if source is not None and execution.verb == "resume":
            source = source.model_copy(update={"lineage": kept.root})
        own = {"source": source, "edits": before.edits, "cassette": before.cassette, **part_of(before)}
        return checked.required().model_copy(update={**own, "journal_bytes": bytes_left})

    def checked(
        self, job_id: str, asked: Asked, played: Played | None = None, *, keyless: bool = False
    ) -> Checked:
        """Check what is asked for whole; it blocks.

        Parameters
        ----------
        job_id
            The execution.
        asked
            What it is to be.
        played
            The cassette that answers it: what that has answers for need not be there.
        keyless
            Whether keys of models need not be there.
        """
        whole = asked.whole
        catalog, toolbox = self.catalog.of(whole.crew.owner), self.toolbox(whole.crew.owner)
        recall: Recall | None = self.memories.of if self.memories is not None else None
        if keyless:
            catalog = replace(catalog, keyless=True)
        if played is not None:
            catalog, toolbox = played.catalog(catalog), played.toolbox(toolbox)
            recall = played.recall if played.strict else recall
        return check_run(
            job_id,
            _without_webhook(whole),
            asked.inputs,
            catalog=catalog,
            toolbox=toolbox,
            folder=str(self.files.workspace(job_id)),
            client_tools=asked.tools,
            budget=asked.budget,
            recall=recall,
            model=asked.model,
        )

    async def _adopted(self, execution: Execution) -> Run | None:
        """Take over a run that rests and whose server is gone; None where it is to be ended."""
        job_id = execution.id
        async with self._adopting:
            if self._closing or job_id in self._runs:
                return self._runs.get(job_id)
            feed = await self._rested(job_id)
            if feed is None:
                return None
            try:
                asked = asked_of(self.store, execution)
                _whole, spec = whole_of(asked, execution)
            except Conflict:
                feed.journal.close()
                return None

            if not await self._claimed(execution):
                feed.journal.close()
                return None
            folder = str(self.files.workspace(job_id))
            run = self._run(spec.model_copy(update={"folder": folder}), execution.owner, feed, away=True)
            self._runs[job_id], self._states[job_id] = run, execution.status
            after = 0
            while lines := feed.journal.read(after):
                run.calls.take(lines)
                after += len(lines)
            self._feeds.forget(job_id)
        if not run.waits:
            self.changed(run)
        return run

    def _look_for(self, execution: Execution) -> None:
        if execution.id not in self._sought and not self._closing:
            self._sought.add(execution.id)
            self._chores.begin(self._found_again(execution))

    async def _found_again(self, execution: Execution) -> None:
        """Take over a run that goes on elsewhere; end it where it does not."""
        try:
            if not await self._attached(execution):
                await self._recovered(execution)
        finally:
            self._sought.discard(execution.id)

    async def _attached(self, execution: Execution) -> bool:
        job_id = execution.id
        try:
            _whole, spec = whole_of(asked_of(self.store, execution), execution)
            feed = await asyncio.to_thread(Feed.open, self.files.journal(job_id), write=True)
        except (KasalError, OSError):
            return False
        spec = spec.model_copy(update={"folder": str(self.files.workspace(job_id))})
        run = self._run(spec, execution.owner, feed)
        if feed.summary.ended or feed.summary.status == "queued" or self._closing:
            feed.journal.close()
            return self._closing
        if not await self._claimed(execution):
            feed.journal.close()
            return True  # Another server has it.
        self._runs[job_id], self._states[job_id] = run, execution.status
        found = await run.attach()
        if run.ended:
            return True
        if not found:
            del self._runs[job_id], self._states[job_id]
            run.calls.end()
            feed.journal.close()
            return False
        self._feeds.forget(job_id)
        self._queue.take(run)
        return True

    async def _claimed(self, execution: Execution) -> bool:
        """Have a run whose server is gone be this server's; say whether it is."""
        job_id = execution.id

        def claim() -> bool:
            now = self.store.executions.readable(job_id)
            if now is None or now.status in ENDED or now.server != execution.server:
                return False
            self.store.executions.update(job_id, {"server": self.presence.server_id})
            return True

        return await self.store.change(claim)

    async def _rested(self, job_id: str) -> Feed | None:
        """Open the feed of a run that rests; None where it does not."""
        try:
            feed = await asyncio.to_thread(Feed.open, self.files.journal(job_id), write=True)
        except (KasalError, OSError):
            return None
        if feed.summary.rests:
            return feed
        feed.journal.close()
        return None

    async def save(self, run: Run, *, final: bool, memories: bool) -> None:
        """Store how a run stands."""
        summary = run.feed.summary
        # Now: the writer's thread comes to it later, when the run has gone on.
        fields = summary.fields()

        def save() -> None:
            if (execution := self.store.executions.readable(run.spec.job_id)) is not None:
                fitting = _fitting(execution, fields)
                settle(self.store, execution, summary, fitting, final=final, memories=memories)
            if summary.ended:
                self.store.stop_requests.delete(run.spec.job_id)

        await self.store.change(save)
        self._states[run.spec.job_id] = fields["status"]
        if self.on_move is not None and summary.ended:
            self.on_move(run.spec.job_id)

    def changed(self, run: Run) -> None:
        """Share out the places anew."""
        if run.ended or (run.phase is Phase.AWAY and run.waits):
            self._queue.leave(run)
        elif run.phase is Phase.AWAY:
            if self._queue.position(run) is None:
                self._queue.add(run)
        elif run.waits:
            self._queue.ask(run)
        else:
            self._queue.answered(run)
        if not run.ended:
            self._chores.begin(self.save(run, final=False, memories=False))
        self._pump()
        if self.on_move is not None:
            self.on_move(run.spec.job_id)

    def asked(self, run: Run, event: Mapping[str, Any]) -> None:
        """Learn from an answer how much the provider bears; of a refusal, all runs of the same key hear."""
        key = run.keys.get(event.get("model", ""))
        if key is None or event.get("recorded"):
            return
        if event["type"] == "llm_response":
            self._admission.answered(key)
            self._pump()
        elif (code := event["error"]["code"]) in REFUSALS:
            wait = event.get("failure", {}).get("wait") if code == "RATE_LIMIT" else None
            if held := self._admission.refused(key, wait):
                for other in list(self._runs.values()):
                    if other is not run:
                        other.hold(_spread({name: held for name, its in other.keys.items() if its == key}))

    def held(self, run: Run) -> dict[str, float]:
        """Give for how long some of a run's models may not be asked."""
        return _spread({name: left for name, key in run.keys.items() if (left := self._admission.held(key))})

    def stored(self, run: Run) -> None:
        """Let go of a run: the store answers for it from now on."""
        job_id = run.spec.job_id
        self._runs.pop(job_id, None)
        self._states.pop(job_id, None)
        self._feeds.remember(run.feed)
        if run.feed.summary.remembered and not self._closing:
            self._chores.begin(self.prepare(run))
        if self.on_end is not None:
            self.on_end(run.feed.summary)

    # -- inside --------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Launch what the limits admit, the machine and the providers."""
        while not self._closing and (run := self._queue.next()) is not None:
            run.launch()
        if self._again is None and self._queue.held_up and not self._closing:
            self._again = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._pump_again)
        if self._runs and not self._minding:
            self._minding = True
            self._chores.begin(self._mind_stop_requests())

    def _pump_again(self) -> None:
        self._again = None
        self._pump()

    async def _current(self, execution: Execution) -> Execution:
        if run := self._runs.get(execution.id):
            return _overlay(execution, run.feed)
        if execution.status in ENDED:
            if execution.booked is None and not (self._booking or self.presence.alive(execution.server)):
                # Its server was killed as the run had just ended.
                self._booking = True
                self._chores.begin(self._book_all())
            return execution
        # It may have ended since it was read.
        execution = self.store.executions.readable(execution.id) or execution
        if execution.status in ENDED:
            return execution
        try:
            if execution.server == self.presence.server_id or not self.presence.alive(execution.server):
                if run := await self._adopted(execution):
                    return _overlay(execution, run.feed)
                if isinstance(self.backend, FarBackend) and not self.passing:
                    # It may go on elsewhere; nobody who asks waits until that is known.
                    self._look_for(execution)
                    feed = await self._feeds.get(execution.id)
                    feed.catch_up()
                    return _overlay(execution, feed)
                return await self._recovered(execution)
            feed = await self._feeds.get(execution.id)
            feed.catch_up()
            return _overlay(execution, feed)
        except NotFound:
            # It may have been deleted meanwhile; or its journal was, which its own server has to tell.
            return self.store.executions.readable(execution.id) or execution
        except (KasalError, OSError):
            log.exception("how %s stands cannot be told exactly at the moment", execution.id)
            return execution

    async def _recovered(self, execution: Execution) -> Execution:
        """End an execution whose server is gone; where that cannot be written now, tell it at least."""
        try:
            await self.store.change(
                lambda: recover(
                    self.store, self.files.journal(execution.id), execution.id, resumes=self.resumes
                )
            )
        except (KasalError, OSError):
            log.exception("the end of %s cannot be stored at the moment", execution.id)
            return Execution.model_validate(
                {**execution.dump(), "status": "interrupted", "error": {**INTERRUPTED, "task": None}}
            )
        self._feeds.forget(execution.id)
        self._chores.begin(self._take_over())
        return self.store.executions.readable(execution.id) or execution

    async def _mind_stop_requests(self) -> None:
        """Stop runs that another server on the folder was asked to stop."""
        seen: int | None = None
        while self._runs:
            # One that hangs, or cannot be looked for, holds up none of the others.
            with suppress(StoreError):
                version = self.store.stop_requests.version()
                if version != seen and not self._stop_requested():
                    seen = version
            await asyncio.sleep(2 * POLL_SECONDS)
        self._minding = False

    def _stop_requested(self) -> bool:
        """Begin to stop what is requested, and say whether it has to be looked for again."""
        found = self.store.stop_requests.find(server=self.presence.server_id)
        for request in found:
            run = self._runs.get(request.id)
            if run is not None and not run.ended and not run.stopping:
                reason = request.reason
                why = ErrorInfo(code=reason.code, message=reason.message) if reason else None
                self._chores.begin(run.stop(why))
        return any(request.id in self._runs for request in found)

    def forget_files(self, job_id: str) -> None:
        """Delete what lies on disk of a run; what can't be deleted now is :meth:`clear_away`'s. It blocks."""
        try:
            self.files.delete(job_id)
        except OSError as error:
            if job_id not in self._left:
                log.warning("the files of %s could not be deleted, and will be: %s", job_id, error)
            self._left.add(job_id)
        else:
            self._left.discard(job_id)

    async def clear_away(self) -> None:
        """Try once more to delete the files of runs that could not be deleted."""
        for job_id in list(self._left):
            await asyncio.to_thread(self.forget_files, job_id)


async def _within(waiting: Awaitable[object], seconds: float) -> bool:
    """Wait for something, and say whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        return False
    return True


def _spread(waits: dict[str, float]) -> dict[str, float]:
    """Make waits differ, so that runs that were held up together do not come back together."""
    return {name: seconds * random.uniform(1, 1 + SPREAD) for name, seconds in waits.items()}  # noqa: S311


def _fitting(execution: Execution, fields: dict[str, Any]) -> dict[str, Any]:
    """Give the fields that an execution takes from its run's events.

    Where those hold what nobody has foreseen, it is that it has ended, and how, at the least.
    """
    try:
        Execution.model_validate({**execution.dump(), **fields})
    except ValidationError:
        log.exception("the events of %s make no summary", execution.id)
        return {"status": fields["status"], "ended_at": fields["ended_at"]}
    return fields


def _without_webhook(whole: WholeCrew) -> WholeCrew:
    """Keep the receiver's address, which may be a secret, from the run: the server alone calls it."""
    return whole.model_copy(update={"crew": whole.crew.model_copy(update={"webhook": None})})


def _overlay(execution: Execution, feed: Feed) -> Execution:
    """Give a stored summary the state that the run's events tell."""
    stored, fields = execution.dump(), feed.summary.fields()
    try:
        return Execution.model_validate({**stored, **fields})
    except ValidationError:
        return Execution.model_validate({**stored, **_fitting(execution, fields)})
