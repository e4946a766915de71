"""Executions from the request to the end: accepted, queued, run, stopped, remembered."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kasal_jupyter.errors import Conflict, KasalError, NotFound, Unavailable
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.runs.backend import Backend
from kasal_jupyter.runs.check import check_run
from kasal_jupyter.runs.chores import Chores
from kasal_jupyter.runs.estimate import estimate_duration, models_of
from kasal_jupyter.runs.feed import POLL_SECONDS, Feed
from kasal_jupyter.runs.feeds import Feeds
from kasal_jupyter.runs.files import RunFiles
from kasal_jupyter.runs.journal import Journal
from kasal_jupyter.runs.keyed import KeyedRequest, started_with
from kasal_jupyter.runs.ledger import book_past_runs, settle
from kasal_jupyter.runs.limits import RunLimits
from kasal_jupyter.runs.memory import CrewMemories
from kasal_jupyter.runs.presence import Presence
from kasal_jupyter.runs.recovery import recover
from kasal_jupyter.runs.run import Run, queued_event, queued_execution
from kasal_jupyter.runs.webhooks import Webhooks
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Budget, Execution
from kasal_jupyter.schemas.summary import RunSummary
from kasal_jupyter.schemas.tasks import TaskState
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.toolbox import Toolbox


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
    ) -> None:
        self.store = store
        self.folder = folder / "runs"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.files = RunFiles(self.folder)
        self.backend = backend
        self.catalog = catalog
        self.toolbox = toolbox or (lambda _owner: Toolbox())
        self.limits = limits or RunLimits()
        self.webhooks = webhooks
        self.memories = memories
        self.presence = Presence(folder / "servers")
        self._runs: dict[str, Run] = {}
        self._queue: deque[Run] = deque()
        self._feeds = Feeds(self.folder)
        self._chores = Chores()
        self._minding = False
        self._closing = False
        self.on_end: Callable[[RunSummary], None] | None = None
        """Told of every run of this server that has ended."""

    # -- the life of a run ---------------------------------------------------------------------------

    async def start(
        self,
        whole: WholeCrew,
        inputs: dict[str, Any],
        owner: str,
        *,
        request: KeyedRequest | None = None,
        tools: Sequence[ClientTool] = (),
        budget: Budget | None = None,
    ) -> Execution:
        """Accept an execution: checked whole, on disk, and queued.

        Parameters
        ----------
        whole
            The crew.
        inputs
            Values for its ``{placeholders}``.
        owner
            Whose execution it is.
        request
            The key that the client sent along: a request that comes again with it gives the execution
            that the first has started.
        tools
            Those that the client brings along and answers for.
        budget
            What it may use up.

        Raises
        ------
        NotRunnable
            The crew cannot run like this; every fault is named, and nothing was stored.
        Conflict
            The key was used for something else.
        Unavailable
            The queue is full, or the server is shutting down.
        """
        if request is not None and (first := started_with(self.store, request)):
            return first
        if self._closing:
            raise Unavailable("The server is shutting down; try again when it is back", retry_after=10)
        if len(self._queue) >= self.limits.queued:
            raise Unavailable(
                f"{len(self._queue)} executions are waiting already; try again later", retry_after=30
            )
        await self.put_away()
        job_id = new_id("job")
        run_folder = self.files.workspace(job_id)
        spec = check_run(
            job_id,
            _without_webhook(whole),
            inputs,
            catalog=self.catalog.of(whole.crew.owner),
            toolbox=self.toolbox(whole.crew.owner),
            folder=str(run_folder),
            client_tools=tools,
            budget=budget,
            recall=self.memories.of if self.memories is not None else None,
        ).required()
        spec = spec.model_copy(update={"journal_bytes": self.limits.journal_bytes})
        execution = queued_execution(
            spec,
            owner,
            self.presence.server_id,
            expected=estimate_duration(self.store, whole),
            models=models_of(whole, self.catalog.default_model),
            request=request,
        )

        def insert() -> Execution | None:
            # Asked in the transaction: of two such requests at the same time, on whatever servers, one wins.
            first = started_with(self.store, request) if request is not None else None
            if first is None:
                self.store.executions.insert(execution)
            return first

        run_folder.mkdir(mode=0o700)
        with ExitStack() as undo:
            # Until the run is acknowledged, nothing of it may stay where anything fails.
            undo.callback(run_folder.rmdir)
            journal = Journal.create(self.files.journal(job_id))
            undo.callback(journal.path.unlink)
            undo.callback(journal.close)
            run = Run(spec, Feed(journal), on_change=self._on_change)
            run.feed.append([queued_event(spec)])
            self._runs[job_id] = run
            undo.callback(self._runs.pop, job_id)
            undo.callback(run.calls.end)
            if self.webhooks is not None and self.webhooks.accept(
                job_id, whole.crew, self.presence.server_id
            ):
                undo.callback(self.webhooks.files.delete, job_id)
            _, first = await asyncio.gather(
                asyncio.to_thread(journal.sync),
                self.store.change(insert),
            )
            if first is not None:
                return first
            undo.pop_all()
        if self.webhooks is not None:
            self.webhooks.begin(run.feed)
        self._queue.append(run)
        self._pump()
        return execution

    async def stop(self, job_id: str) -> Execution:
        """End an execution at once: ask, wait 300 ms, kill its process group.

        Raises
        ------
        Conflict
            It had ended otherwise.
        """
        execution = await self.execution(job_id)
        if execution.status == "stopped":
            return execution
        if execution.status in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status} already; there is nothing to stop")
        if run := self._runs.get(job_id):
            await self._stop_own(run)
        else:
            # Another server runs it, and looks for this file.
            self.files.stop_mark(job_id).touch(mode=0o600)
            feed = await self._feeds.get(job_id)
            for _ in range(int(5 / POLL_SECONDS)):
                feed.catch_up()
                if feed.summary.ended:
                    break
                await asyncio.sleep(POLL_SECONDS)
        return await self.execution(job_id)

    async def delete(self, job_id: str) -> None:
        """Delete an execution that has ended, with its journal and its files.

        Raises
        ------
        NotFound
            There is none with this id.
        Conflict
            It has not ended.
        """
        execution = await self.execution(job_id)
        if execution.status not in ENDED:
            raise Conflict(f"Execution {job_id} is {execution.status}; stop it first")
        if run := self._runs.get(job_id):
            # It has just ended, and is still being put away.
            await run.put_away.wait()
        await self.store.change(lambda: self.store.executions.delete(job_id))
        self._feeds.forget(job_id)
        if self.webhooks is not None:
            await self.webhooks.forget(job_id)
        # A crash in between leaves files that nothing refers to, never an execution without its journal.
        await asyncio.to_thread(self.files.delete, job_id)

    async def close(self) -> None:
        """Shut down: what runs or waits is ended as ``interrupted``. The backend is left to its owner."""
        self._closing = True
        self._queue.clear()
        await asyncio.gather(*(run.interrupt() for run in list(self._runs.values())))
        await self._chores.finish()
        if self.webhooks is not None:
            await self.webhooks.close()
        self.presence.close()

    # -- what is known of a run ----------------------------------------------------------------------

    async def settle(self) -> None:
        """Go on where servers that are gone have left off: their runs end as ``interrupted``."""
        for status in ("queued", "running"):
            for execution in self.store.executions.find(status=status):
                await self._current(execution)
        await book_past_runs(self.store, self.folder)
        if self.webhooks is not None:
            await self.webhooks.take_over(self.store, self.presence, self.feed)

    async def execution(self, job_id: str) -> Execution:
        """Give an execution as it stands now.

        Raises
        ------
        NotFound
            There is none with this id.
        """
        execution = self.store.executions.get(job_id)
        if execution is None:
            raise NotFound(f"There is no execution {job_id}")
        return await self._current(execution)

    async def current(self, executions: Iterable[Execution]) -> list[Execution]:
        """Bring stored summaries up to date."""
        return [await self._current(execution) for execution in executions]

    async def put_away(self) -> None:
        """Wait until the store knows of every run that has ended: it lags some milliseconds behind."""
        for run in list(self._runs.values()):
            if run.feed.summary.ended:
                await run.put_away.wait()

    async def feed(self, job_id: str) -> Feed:
        """Give an execution's events, past and to come."""
        execution = await self.execution(job_id)
        if run := self._runs.get(job_id):
            return run.feed
        feed = await self._feeds.get(execution.id)
        if self._feeds.claim(feed):
            # It also ends the run as interrupted where its server is gone.
            self._chores.begin(self._feeds.watch(feed, lambda: self.execution(job_id)))
        return feed

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

    async def task_states(self, crew_ids: Iterable[str]) -> dict[str, TaskState]:
        """Say how each task of some crews fared in its crew's latest execution, by the task's id."""
        states: dict[str, TaskState] = {}
        for crew_id in crew_ids:
            latest = self.store.executions.page(order="newest", limit=1, crew_id=crew_id).documents
            for execution in latest:
                states |= (await self._current(execution)).task_states
        return states

    @property
    def waiting(self) -> int:
        """How many executions of this server wait for a place."""
        return len(self._queue)

    @property
    def active(self) -> int:
        """How many executions of this server run or wait."""
        return len(self._runs)

    # -- inside --------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Launch what the limit admits."""
        running = len(self._runs) - len(self._queue)
        while self._queue and running < self.limits.running and not self._closing:
            self._chores.begin(self._launch(self._queue.popleft()))
            running += 1
        if self._runs and not self._minding:
            self._minding = True
            self._chores.begin(self._mind_stop_files())

    async def _launch(self, run: Run) -> None:
        # Only now: runs that went before it in the queue may have remembered something.
        await self._refresh_memory(run)
        await run.launch(self.backend)

    async def _refresh_memory(self, run: Run) -> None:
        if self.memories is not None and (memory := run.spec.memory) is not None:
            await self.memories.refresh(run.spec.crew.id, memory.embedder)

    async def _stop_own(self, run: Run) -> None:
        if run in self._queue:
            self._queue.remove(run)
        await run.stop()

    def _on_change(self, run: Run) -> None:
        """Take a run's new state into the store, and give its place to the next when it has ended."""
        fields = run.feed.summary.fields()
        if not run.feed.summary.ended:
            self._chores.begin(self._save(run, fields))
            return
        self._chores.begin(self._finish(run, fields))

    async def _finish(self, run: Run, fields: dict[str, Any]) -> None:
        job_id = run.spec.job_id
        await asyncio.to_thread(run.feed.journal.sync)
        await self._save(run, fields)
        run.feed.journal.close()
        # Only now: until the store knows the end, the run itself answers for its state.
        self._runs.pop(job_id, None)
        run.put_away.set()
        if self.on_end is not None:
            self.on_end(run.feed.summary)
        self._feeds.remember(run.feed)
        self.files.stop_mark(job_id).unlink(missing_ok=True)
        self._pump()
        if run.feed.summary.remembered and not self._closing:
            await self._refresh_memory(run)

    async def _save(self, run: Run, fields: dict[str, Any]) -> None:
        job_id = run.spec.job_id

        def save() -> None:
            if (execution := self.store.executions.get(job_id)) is not None:
                settle(self.store, execution, run.feed.summary, fields)

        try:
            await self.store.change(save)
        except KasalError:
            # The journal has it all; the summary is made from it again at the next start.
            logging.getLogger(__name__).exception("could not store the state of %s", job_id)

    async def _current(self, execution: Execution) -> Execution:
        if execution.status in ENDED:
            return execution
        if run := self._runs.get(execution.id):
            return _overlay(execution, run.feed)
        if not self.presence.alive(execution.server):
            await self.store.change(
                lambda: recover(self.store, self.files.journal(execution.id), execution.id)
            )
            self._feeds.forget(execution.id)
            if self.webhooks is not None:
                self._chores.begin(self.webhooks.take_over(self.store, self.presence, self.feed))
            return self.store.executions.get(execution.id) or execution
        feed = await self._feeds.get(execution.id)
        feed.catch_up()
        return _overlay(execution, feed)

    async def _mind_stop_files(self) -> None:
        """Stop runs that another server on the folder was asked to stop."""
        while self._runs:
            for job_id, run in list(self._runs.items()):
                if self.files.stop_mark(job_id).exists():
                    await self._stop_own(run)
            await asyncio.sleep(2 * POLL_SECONDS)
        self._minding = False


def _overlay(execution: Execution, feed: Feed) -> Execution:
    """Give a stored summary the state that the run's events tell."""
    return Execution.model_validate({**execution.dump(), **feed.summary.fields()})


def _without_webhook(whole: WholeCrew) -> WholeCrew:
    """Keep the receiver's address, which may be a secret, from the run: the server alone calls it."""
    return whole.model_copy(update={"crew": whole.crew.model_copy(update={"webhook": None})})
