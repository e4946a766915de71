"""Kasal in one server: its parts over a data folder, wired, and their life.

:mod:`kasal_jupyter.app` has the settings and Jupyter's hooks; this is what it loads when the server answers
already, because to import it all takes longer than the rest of Jupyter's start.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tornado.ioloop import PeriodicCallback
from tornado.routing import AnyMatches, Rule
from tornado.web import Application

from kasal_jupyter.api.base import Doors, Parts
from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.api.logged import count_run, show_runs
from kasal_jupyter.api.routes import ApiRouter
from kasal_jupyter.api.starting import warm_up
from kasal_jupyter.api.websocket import EventSocket
from kasal_jupyter.auth.gate import Accounts, MaintenanceMode
from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import ASK_SECONDS, LOOK_SECONDS, Watch
from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.errors import StoreError
from kasal_jupyter.executions.backends.backend import Backend
from kasal_jupyter.executions.backends.local import LocalBackend, StartMethod
from kasal_jupyter.executions.batches.batches import Batches
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.cut_off import CutOffRuns
from kasal_jupyter.executions.disabled_users import DisabledOwners
from kasal_jupyter.executions.queue import RunLimits
from kasal_jupyter.executions.retention import Retention
from kasal_jupyter.executions.schedules import Schedules
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.webhooks import SigningSecrets, Webhooks
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.models.catalog import ModelCatalog, SandboxCatalog
from kasal_jupyter.schemas.retention import RetentionRules
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.store.quota import Quota
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.mcp_servers import McpServers
from kasal_jupyter.toolbox.provider_settings import Providers
from kasal_jupyter.toolbox.secrets import SecretBox
from kasal_jupyter.tools.guard import HostGuard

if TYPE_CHECKING:
    from kasal_jupyter.app import KasalApp

WARM_SECONDS = 0.2
"""How long after its start a server fetches what first requests need."""

SANDBOX_FOLDER = "sandbox"
"""Where, in the data folder, each server has its sandbox."""

RUNS_SECONDS = 2.0
"""How long runs may take to end by themselves when the server does."""

AGAIN_SECONDS = 60.0
"""After how long is tried again what could not be done at the start."""

Works = dict[str, Callable[[], Awaitable[None]]]
"""What is to be done, by its name."""


class Kasal:
    """The parts, and what goes on among them. It is built in a thread, and lives on the loop.

    Parameters
    ----------
    settings
        The extension, with what is configured.

    Attributes
    ----------
    parts
        What the handlers work with.

    Raises
    ------
    StoreError
        The data folder can't be used; nothing is left open.
    """

    def __init__(self, settings: KasalApp) -> None:
        self._settings = settings
        folder = settings.folder
        # It may take a while, where another program holds it.
        store = Store.open(folder, SCHEMAS)
        try:
            self._backend = _backend(settings)
            self._accounts = Accounts.open(
                store,
                folder,
                sandbox_token=settings.sandbox_token,
                enterprise_burst=settings.enterprise_burst,
            )
            catalog = ModelCatalog(settings.default_model, os.environ, default_embedder=settings.embedder)
            self._confined = ConfinedPool(settings.max_reading)
            self._doors = Doors(
                strangers=Senders(settings.max_strangers, "connections"),
                bodies=Senders(settings.max_bodies_bytes, "bytes"),
                stranger_seconds=settings.stranger_seconds,
                body_seconds=settings.body_seconds,
                watch=Watch(store.one_look),
            )
            self.parts = self._workspace(store, folder, catalog, MaintenanceMode(store))
        except (StoreError, OSError) as error:
            store.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"The data folder {folder} can't be used: {error}.") from error
        self._disabled = DisabledOwners(self.parts.runs)
        maintenance = self.parts.maintenance
        self._cut_off = CutOffRuns(self.parts.runs, lambda: not maintenance.state.enabled)
        self._sandbox_lock = asyncio.Lock()
        self._sandbox_parts: Parts | None = None
        self._looking: PeriodicCallback | None = None
        self._looks = 0
        self._waking: asyncio.Future[None] | None = None
        self._again: asyncio.Future[None] | None = None
        self._stopping = False
        self.parts.runs.on_end = count_run
        show_runs(self.parts.runs)

    def _workspace(
        self, store: Store, folder: Path, catalog: ModelCatalog, maintenance: MaintenanceMode
    ) -> Parts:
        """Build the parts over a store."""
        limits = RunLimits(
            running=self._settings.max_running,
            queued=self._settings.max_queued,
            running_per_user=self._settings.max_running_per_user,
            queued_per_user=self._settings.max_queued_per_user,
            asking_per_user=self._settings.max_asking_per_user,
            launch_seconds=self._settings.max_launch_seconds,
            journal_bytes=self._settings.max_journal_bytes,
            put_away_seconds=self._settings.put_away_seconds,
        )
        for_strangers = isinstance(catalog, SandboxCatalog)
        store.quota = Quota(
            self._settings.max_stored_bytes, self._settings.max_crews, everybody=for_strangers
        )
        crews = Crews(store)
        secrets, guard = SecretBox(folder), HostGuard(self._settings.allowed_hosts)
        settings = self._tool_settings()
        if for_strangers:
            # They run no code, read no folders of the server's, and call no address.
            guard, settings = HostGuard(None), RunToolSettings(network=False)
        mcp = McpServers(store, secrets, guard)
        tools = CustomTools(store, secrets, guard, settings, served=mcp.served)
        providers = Providers(store, secrets, guard)
        catalog = replace(catalog, stored=providers.credentials, guard=guard)
        recall = CrewMemories(store, folder, catalog, guard)
        webhooks = Webhooks(store, SigningSecrets(store, secrets), guard)
        runs = Runs(
            store,
            folder,
            self._backend,
            catalog,
            limits=limits,
            toolbox=tools.toolbox,
            webhooks=webhooks,
            memories=recall,
            resumes=self._settings.resume_on_start and not for_strangers,
            passing=for_strangers,
        )
        return Parts(
            store=store,
            crews=crews,
            members=Members(crews),
            tools=tools,
            mcp=mcp,
            providers=providers,
            memories=Memories(store),
            knowledge=Knowledge(store),
            recall=recall,
            runs=runs,
            batches=Batches(
                runs,
                crews,
                most_bytes=self._settings.max_batch_bytes,
                open_=lambda: not maintenance.state.enabled,
            ),
            schedules=Schedules(runs, crews, lambda: not maintenance.state.enabled),
            retention=Retention(runs, self._retention_rules()),
            webhooks=webhooks,
            fanouts=Fanouts(self._doors.watch.one_look),
            accounts=self._accounts,
            maintenance=maintenance,
            doors=self._doors,
            confined=self._confined,
            body_limit=self._settings.max_body_bytes,
            archive_limit=self._settings.max_archive_bytes,
            wake=self.wake,
            sandbox=self._sandbox,
        )

    def _retention_rules(self) -> RetentionRules:
        settings = self._settings
        return RetentionRules(
            compress_days=settings.compress_days,
            log_days=settings.keep_logs_days,
            artifact_days=settings.keep_artifacts_days,
            execution_days=settings.keep_executions_days,
            executions=settings.keep_executions,
            bytes=settings.keep_bytes,
        )

    def _tool_settings(self) -> RunToolSettings:
        folders = [str(Path(folder).expanduser()) for folder in self._settings.tool_folders]
        return RunToolSettings(folders=folders, python=self._settings.python_tool)

    async def _sandbox(self) -> Parts:
        """Give the sandbox's parts, made when the first asks for them."""
        async with self._sandbox_lock:
            if self._sandbox_parts is None:
                runs = self.parts.runs
                folder = runs.folder.parent / SANDBOX_FOLDER / runs.presence.server_id
                # To make a store takes a new file's syncs.
                store = await asyncio.to_thread(Store.open, folder, SCHEMAS)
                self._sandbox_parts = self._workspace(
                    store, folder, SandboxCatalog(environ={}), self.parts.maintenance
                )
        return self._sandbox_parts

    @property
    def _opened(self) -> list[Parts]:
        return [self.parts] if self._sandbox_parts is None else [self._sandbox_parts, self.parts]

    @property
    def activity(self) -> dict[str, int]:
        """What goes on, counted; what does not is left out."""
        counts = {
            "executions": sum(parts.runs.active for parts in self._opened),
            "batches": sum(parts.batches.active for parts in self._opened),
            "sockets": len(EventSocket.opened),
        }
        return {what: count for what, count in counts.items() if count}

    def serve(self, web_app: Application, prefixes: Sequence[str]) -> None:
        """Serve the API, before all else: nobody else's paths are looked through first."""
        router = ApiRouter(web_app, self.parts, prefixes)
        web_app.default_router.rules.insert(0, Rule(AnyMatches(), router))

    async def begin(self) -> None:
        """Do what a server does first. Whatever of it fails, the server serves."""
        parts = self.parts
        left = await self._done_of(
            {
                "take over what servers that are gone have left": parts.runs.settle,
                "go on with batches": parts.batches.settle,
                "bring in order what crews remember": parts.recall.begin,
                "delete the sandboxes of servers that are gone": partial(
                    asyncio.to_thread, self._drop_old_sandboxes
                ),
            }
        )
        if left:
            self._again = asyncio.ensure_future(self._do_later(left))
        parts.retention.begin()
        if self._settings.warm == "start" or self._settings.standalone:
            self.wake()
        self._looking = PeriodicCallback(self._look_again, LOOK_SECONDS * 1_000)
        self._looking.start()
        # When the loop has nothing else to start.
        asyncio.get_running_loop().call_later(WARM_SECONDS, warm_up)

    async def _look_again(self) -> None:
        """End what those have who have lost the right to it, and delete what could not be deleted."""
        self._doors.watch.look()
        await self._disabled.stop_runs()
        await self._cut_off.go_on()
        await self.parts.batches.look()
        for parts in self._opened:
            parts.schedules.look()
        await self.parts.runs.clear_away()
        self._looks += 1
        if self._looks % int(ASK_SECONDS / LOOK_SECONDS) == 0:
            await self._doors.watch.ask()

    async def _done_of(self, works: Works) -> Works:
        """Do several things, each by itself; give those that failed."""
        left: Works = {}
        for what, work in works.items():
            try:
                await work()
            except Exception:
                # A border: a start must not end with what one of its parts meets on an old disk.
                self._settings.log.exception("Kasal could not %s; it is tried again", what)
                left[what] = work
        return left

    async def _do_later(self, works: Works) -> None:
        while works:
            await asyncio.sleep(AGAIN_SECONDS)
            works = await self._done_of(works)

    async def close(self) -> None:
        """End what runs, and let go of everything."""
        self._stopping = True
        if self._again is not None:
            self._again.cancel()
        if self._looking is not None:
            self._looking.stop()
        opened = self._opened
        await self.parts.retention.close()
        for each in opened:
            await each.schedules.close()
            each.batches.end()
        closing = asyncio.gather(*(each.runs.close() for each in opened))
        await asyncio.wait([closing], timeout=RUNS_SECONDS)
        # A run that waits for the engine goes on waiting until there is none to come.
        await self._backend.close()
        await closing
        self._accounts.close()
        for each in opened:
            each.recall.close()
            each.store.close()
        if self._sandbox_parts is not None:
            shutil.rmtree(self._sandbox_parts.runs.folder.parent, ignore_errors=True)

    def _drop_old_sandboxes(self) -> None:
        """Throw away what servers that were killed have left of theirs."""
        runs = self.parts.runs
        for folder in (runs.folder.parent / SANDBOX_FOLDER).glob("server_*"):
            if not runs.presence.alive(folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def wake(self) -> None:
        """Have the engine load in the background."""
        if self._waking is None:
            self._waking = asyncio.ensure_future(self._start_backend())

    async def _start_backend(self) -> None:
        try:
            await self._backend.start()
        except Exception:
            if self._stopping:
                return
            # The next run tries again, and tells its caller; a server without an engine still serves.
            self._settings.log.exception("Kasal's engine could not be started")


def _backend(settings: KasalApp) -> Backend:
    """Make what executions are run on."""
    if settings.backend == "dask":
        from kasal_jupyter.executions.backends.dask_backend import DaskBackend
        from kasal_jupyter.executions.backends.dask_cluster import Where

        return DaskBackend(
            settings.folder,
            Where(settings.dask_scheduler, settings.dask_cluster),
            slots=settings.dask_slots,
            max_memory=settings.max_run_memory,
            passed=settings.passed_environment,
        )
    return LocalBackend(
        settings.folder,
        start_method=None if settings.start_method == "auto" else cast("StartMethod", settings.start_method),
        max_memory=settings.max_run_memory,
        passed=settings.passed_environment,
    )
