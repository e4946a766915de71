"""The server extension: its settings, its parts, and how they are wired."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jupyter_server.base.handlers import AuthenticatedFileHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import PeriodicCallback
from traitlets import Bool, Enum, Int, List, TraitError, Unicode, default

from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.api.figures import count_run, show_runs
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.api.routes import routes
from kasal_jupyter.api.websocket import EventSocket
from kasal_jupyter.auth.accounts import Accounts
from kasal_jupyter.auth.maintenance import MaintenanceMode
from kasal_jupyter.models.catalog import ModelCatalog, SandboxCatalog
from kasal_jupyter.runs.hook_file import HookFiles
from kasal_jupyter.runs.limits import RunLimits
from kasal_jupyter.runs.local import LocalBackend, StartMethod
from kasal_jupyter.runs.memory import CrewMemories
from kasal_jupyter.runs.service import Runs
from kasal_jupyter.runs.signing import SigningSecrets
from kasal_jupyter.runs.webhooks import Webhooks
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.folder import default_data_folder
from kasal_jupyter.store.knowledge import Knowledge
from kasal_jupyter.store.mcp import McpServers
from kasal_jupyter.store.members import Members
from kasal_jupyter.store.memories import Memories
from kasal_jupyter.store.providers import Providers
from kasal_jupyter.store.secrets import SecretBox
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.tools import CustomTools
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.version import __version__

ACTIVITY_MS = 30_000
"""How often runs are reported as activity, so that a culler does not end a server that works."""

SANDBOX_FOLDER = "sandbox"
"""Where, in the data folder, each server has its sandbox."""

RUNS_SECONDS = 2.0
"""How long runs may take to end by themselves when the server does."""

CLOSE_SECONDS = 10.0
"""How long the end of the extension may hold up the server's."""


class StandaloneServer(ServerApp):
    """The Jupyter server of `jupyter kasal`, with its own defaults; options and configuration still win.

    It serves Jupyter's login and nothing else of Jupyter, unless `KasalApp.with_jupyter` asks for it.
    """

    port_default_value = Int(8000)

    _idle: PeriodicCallback | None = None

    @property
    def _whole(self) -> bool:
        return isinstance(self.starter_app, KasalApp) and self.starter_app.with_jupyter

    @property
    def default_services(self) -> tuple[str, ...]:  # type: ignore[override]
        """The parts of Jupyter that are served."""
        return ServerApp.default_services if self._whole else ("auth",)

    def init_shutdown_no_activity(self) -> None:
        """Have the server end when it is idle, where that is asked for.

        Jupyter looks once a minute, which is late for a short time.
        """
        if self.shutdown_no_activity_timeout > 0:
            every = min(60.0, max(0.5, self.shutdown_no_activity_timeout / 10))
            self._idle = PeriodicCallback(self.shutdown_no_activity, every * 1_000)
            self._idle.start()

    def init_webapp(self) -> None:
        """Set the web application up, without the files that Jupyter's contents serve beside its services."""
        super().init_webapp()
        if self._whole:
            return
        router = self.web_app.wildcard_router
        router.rules = [
            rule
            for rule in router.rules
            if not (isinstance(rule.target, type) and issubclass(rule.target, AuthenticatedFileHandler))
        ]


class KasalApp(ExtensionApp):
    """Kasal inside Jupyter: crews of agents on CrewAI, served under /v1.

    As an extension it is one part of a Jupyter server; started by itself (`jupyter kasal`) it is a server
    of its own on port 8000, with the API under /v1 and /api/v1.
    """

    name = "kasal_jupyter"
    app_name = "kasal_jupyter"
    description = (
        "Kasal inside Jupyter: a server of its own, with the API under /v1 and /api/v1.\n\n"
        "`jupyter kasal --help` tells the sub-commands; each has --help."
    )
    version = __version__
    extension_url = "/v1/docs"
    load_other_extensions = False
    serverapp_class = StandaloneServer
    # Jupyter declares it as a plain attribute.
    aliases: dict[str, Any] = {  # noqa: RUF012
        **ExtensionApp.aliases,
        "data-folder": "KasalApp.data_folder",
        "default-model": "KasalApp.default_model",
    }

    data_folder = Unicode(
        help="Where crews, executions and journals are kept. Default: KASAL_DATA_DIR, else 'kasal' in "
        "Jupyter's own data folder. Several servers of one user may share it.",
    ).tag(config=True)
    default_model = Unicode(
        "",
        help="The model of an agent that names none, e.g. 'gpt-4' or 'sandbox'. Empty: CrewAI's own default "
        "where OPENAI_API_KEY is set, else such an agent is refused.",
    ).tag(config=True)
    embedder = Unicode(
        "offline",
        help="What makes vectors of texts for memory and knowledge: 'offline', 'openai/<model>', "
        "'ollama/<model>', or a model of another OpenAI-compatible provider. Its key is the provider's.",
    ).tag(config=True)
    max_running = Int(8, min=1, help="Executions that run at the same time; more wait in a queue.").tag(
        config=True
    )
    max_queued = Int(1_000, min=0, help="Executions that may wait; one more is refused with 503.").tag(
        config=True
    )
    max_journal_bytes = Int(
        200_000_000,
        min=1_000_000,
        help="Bytes of events that one execution may record; one that has recorded more fails.",
    ).tag(config=True)
    max_body_bytes = Int(
        2 * 1024 * 1024, min=1024, help="Largest body of a request, in bytes; a larger one is refused."
    ).tag(config=True)
    warm = Enum(
        ("start", "use"),
        default_value="use",
        help="When the engine (CrewAI, about 200 MB) is loaded: with the server ('start'), or by the first "
        "request under /v1 ('use'). A standalone server always does it at its start.",
    ).tag(config=True)
    start_method = Enum(
        ("auto", "fork", "spawn"),
        default_value="auto",
        help="How a run gets its process: forked from a warm one, or a spare one that was warmed before. "
        "'auto' forks wherever the system can.",
    ).tag(config=True)

    with_jupyter = Bool(
        False,
        help="Whether a standalone server serves Jupyter's kernels, files and terminals as well as the API.",
    ).tag(config=True)
    enterprise_burst = Int(
        0, min=0, help="Requests a minute of users in the tier 'enterprise'; 0: any number."
    ).tag(config=True)
    allowed_hosts = List(
        Unicode(),
        help="Hosts and networks that may be called although they are not public, e.g. "
        "['127.0.0.1', '10.0.0.0/8', 'intranet.local']: by the tools that use the network, for webhooks, and "
        "where a user gives the address of a provider or of an MCP server.",
    ).tag(config=True)
    python_tool = Bool(
        False,
        help="Whether agents may run Python, by the tool 'python': in a process of its own with limits on "
        "time, memory and output, and without a network where the system allows that. It runs as the "
        "server's user, and is no jail.",
    ).tag(config=True)
    tool_folders = List(
        Unicode(),
        help="Folders that agents may read with the file tools and sql_query, besides their run's own, e.g. "
        "['/data/shared'].",
    ).tag(config=True)
    sandbox_token = Unicode(
        help="A token for a workspace of its own, where every model is the sandbox model; "
        "it is thrown away when the server ends. Default: KASAL_SANDBOX_TOKEN, else there is none.",
    ).tag(config=True)

    @default("sandbox_token")
    def _sandbox_token_from_environment(self) -> str:
        return os.environ.get("KASAL_SANDBOX_TOKEN", "")

    @default("open_browser")
    def _no_browser(self) -> bool:
        return False

    parts: Parts | None = None
    _sandbox_parts: Parts | None = None
    _accounts: Accounts | None = None
    _backend: LocalBackend | None = None
    _activity: PeriodicCallback | None = None
    _waking: asyncio.Future[None] | None = None
    _stopping = False

    @property
    def standalone(self) -> bool:
        """Whether the server was started for this extension alone."""
        return self.serverapp is not None and self.serverapp.starter_app is self

    @property
    def folder(self) -> Path:
        """The data folder."""
        return Path(self.data_folder).expanduser() if self.data_folder else default_data_folder()

    def initialize_settings(self) -> None:
        """Open the data folder and build the parts."""
        # Jupyter hands every trait on to all handlers and templates.
        self.settings[f"{self.name}_config"].pop("sandbox_token", None)
        self._require_valid_settings()
        folder = self.folder
        store = Store.open(folder)
        method = None if self.start_method == "auto" else cast("StartMethod", self.start_method)
        self._backend = LocalBackend(folder, start_method=method)
        self._accounts = Accounts.open(
            store, folder, sandbox_token=self.sandbox_token, enterprise_burst=self.enterprise_burst
        )
        catalog = ModelCatalog(self.default_model, os.environ, default_embedder=self.embedder)
        self.parts = self._workspace(store, folder, catalog, MaintenanceMode(store))
        self.parts.runs.on_end = count_run
        show_runs(self.parts.runs)

    def _require_valid_settings(self) -> None:
        """Refuse to serve with settings that are wrong.

        Where one is, Jupyter logs it and goes on with the defaults of all: another data folder, say.

        Raises
        ------
        TraitError
            One is; a standalone server exits.
        """
        assert self.serverapp is not None
        try:
            # The server's has the command line; a setting that was wrong has kept it out of our own.
            self._load_config(self.serverapp.config)
            HostGuard(self.allowed_hosts)
            for name in self.tool_folders:
                if not Path(name).expanduser().is_absolute():
                    raise TraitError(  # noqa: TRY301 - told like the others
                        f"KasalApp.tool_folders: {name!r} is no absolute path"
                    )
        except (TraitError, ValueError) as error:
            if isinstance(error, ValueError):
                error = TraitError(f"KasalApp.allowed_hosts: {error}")
            self.log.critical("Kasal is not served: %s", error)
            if self.standalone:
                sys.exit(1)
            raise error from None

    def _workspace(
        self, store: Store, folder: Path, catalog: ModelCatalog, maintenance: MaintenanceMode
    ) -> Parts:
        """Build the parts over a store."""
        assert self._backend is not None
        assert self._accounts is not None
        limits = RunLimits(
            running=self.max_running, queued=self.max_queued, journal_bytes=self.max_journal_bytes
        )
        crews = Crews(store)
        secrets, guard = SecretBox(folder), HostGuard(self.allowed_hosts)
        # Whoever holds the sandbox's token runs no code and reads no folders of the server's.
        settings = RunToolSettings() if isinstance(catalog, SandboxCatalog) else self._tool_settings()
        mcp = McpServers(store, secrets, guard)
        tools = CustomTools(store, secrets, guard, settings, served=mcp.served)
        providers = Providers(store, secrets, guard)
        catalog = replace(catalog, stored=providers.credentials, guard=guard)
        recall = CrewMemories(store, folder, catalog, guard)
        webhooks = Webhooks(HookFiles(folder / "runs"), SigningSecrets(store, secrets), guard)
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
            runs=Runs(
                store,
                folder,
                self._backend,
                catalog,
                limits=limits,
                toolbox=tools.toolbox,
                webhooks=webhooks,
                memories=recall,
            ),
            webhooks=webhooks,
            fanouts=Fanouts(),
            accounts=self._accounts,
            maintenance=maintenance,
            body_limit=self.max_body_bytes,
            wake=self._wake,
            sandbox=self._sandbox,
        )

    def _tool_settings(self) -> RunToolSettings:
        folders = [str(Path(folder).expanduser()) for folder in self.tool_folders]
        return RunToolSettings(folders=folders, python=self.python_tool)

    async def _sandbox(self) -> Parts:
        """Give the sandbox's parts, made when the first asks for them."""
        if self._sandbox_parts is None:
            assert self.parts is not None
            runs = self.parts.runs
            folder = runs.folder.parent / SANDBOX_FOLDER / runs.presence.server_id
            self._sandbox_parts = self._workspace(
                Store.open(folder), folder, SandboxCatalog(environ={}), self.parts.maintenance
            )
        return self._sandbox_parts

    def initialize_handlers(self) -> None:
        """Serve the API."""
        assert self.parts is not None
        prefixes = ["/v1", "/api/v1"] if self.standalone else ["/v1"]
        self.handlers.extend(routes(self.parts, "/", prefixes))

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:  # noqa: ARG002
        """Begin work once the server's loop runs."""
        assert self.parts is not None
        await self.parts.runs.settle()
        await asyncio.to_thread(self.parts.recall.drop_orphans)
        await asyncio.to_thread(self._drop_old_sandboxes)
        if self.warm == "start" or self.standalone:
            self._wake()
        # What the start has left, 200,000 objects, stays: a full collection would look through it all again
        # and again, and hold everybody's events up for a tenth of a second each time.
        gc.freeze()
        self._activity = PeriodicCallback(self._report_activity, ACTIVITY_MS)
        self._activity.start()

    async def stop_extension(self) -> None:
        """End what runs, and let go of everything. Whatever happens here, the server goes on to exit."""
        self._stopping = True
        if self._activity is not None:
            self._activity.stop()
        if self.parts is None:
            return
        try:
            await asyncio.wait_for(self._close(self.parts), CLOSE_SECONDS)
        except Exception:
            # The border of the process: Jupyter Server would never exit if this raised.
            self.log.exception("Kasal did not close cleanly")

    async def _close(self, parts: Parts) -> None:
        opened = [parts] if self._sandbox_parts is None else [self._sandbox_parts, parts]
        closing = asyncio.gather(*(each.runs.close() for each in opened))
        await asyncio.wait([closing], timeout=RUNS_SECONDS)
        if self._backend is not None:
            # A run that waits for the engine goes on waiting until there is none to come.
            await self._backend.close()
        await closing
        if self._accounts is not None:
            self._accounts.close()
        for each in opened:
            each.store.close()
        if self._sandbox_parts is not None:
            shutil.rmtree(self._sandbox_parts.runs.folder.parent, ignore_errors=True)

    def _drop_old_sandboxes(self) -> None:
        """Throw away what servers that were killed have left of theirs."""
        assert self.parts is not None
        runs = self.parts.runs
        for folder in (runs.folder.parent / SANDBOX_FOLDER).glob("server_*"):
            if not runs.presence.alive(folder.name):
                shutil.rmtree(folder, ignore_errors=True)

    def current_activity(self) -> dict[str, int] | None:
        """Tell Jupyter Server what goes on, so that it does not shut down an idle-looking server.

        Requests are told of as Jupyter's own are, by the time of the last.
        """
        opened = [parts for parts in (self.parts, self._sandbox_parts) if parts is not None]
        counts = {
            "executions": sum(parts.runs.active for parts in opened),
            "sockets": len(EventSocket.opened),
        }
        return {what: count for what, count in counts.items() if count} or None

    def _wake(self) -> None:
        """Have the engine load in the background."""
        if self._waking is None and self.parts is not None:
            self._waking = asyncio.ensure_future(self._start_backend())

    async def _start_backend(self) -> None:
        assert self._backend is not None
        try:
            await self._backend.start()
        except Exception:
            if self._stopping:
                return
            # The next run tries again, and tells its caller; a server without an engine still serves.
            self.log.exception("Kasal's engine could not be started")

    def _report_activity(self) -> None:
        if self.current_activity() and self.serverapp is not None:
            times = self.serverapp.web_app.settings["last_activity_times"]
            times["kasal_jupyter"] = datetime.now(UTC)
