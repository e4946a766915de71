"""The server extension: its settings, its parts, and how they are wired."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

from jupyter_server.base.handlers import AuthenticatedFileHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.log import log_request
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler
from traitlets import Bool, Enum, Float, Int, List, TraitError, Unicode, default

from kasal_jupyter.api.base import Doors, Parts
from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.api.logged import CredentialFilter, count_run, show_runs
from kasal_jupyter.api.routes import serve
from kasal_jupyter.api.starting import UnusableStore, warm_up
from kasal_jupyter.api.websocket import EventSocket
from kasal_jupyter.auth.gate import Accounts, MaintenanceMode
from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import ASK_SECONDS, LOOK_SECONDS, Watch
from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.errors import StoreError
from kasal_jupyter.executions.backends.child import worker_environment
from kasal_jupyter.executions.backends.local import LocalBackend, StartMethod
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.cut_off import CutOffRuns
from kasal_jupyter.executions.disabled_users import DisabledOwners
from kasal_jupyter.executions.queue import RunLimits
from kasal_jupyter.executions.schedules import Schedules
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.webhooks import SigningSecrets, Webhooks
from kasal_jupyter.hiding import MIN_WORD, unhidden_among
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.models.catalog import ModelCatalog, SandboxCatalog
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.store.folder import default_data_folder
from kasal_jupyter.store.quota import Quota
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.mcp_servers import McpServers
from kasal_jupyter.toolbox.provider_settings import Providers
from kasal_jupyter.toolbox.secrets import SecretBox
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.version import __version__

# Signals that end a server: it ends its runs, tells who follows them, and goes.


class StopSignals:
    """Ends a Jupyter server by SIGTERM, by SIGHUP, and without a terminal by SIGINT as well.

    Jupyter leaves SIGHUP, and SIGINT where there is no terminal to ask at, to the system and to Python: the
    process would be gone at once, and what its extensions do at the end would not be done. What somebody
    else has decided stays: a signal that is ignored (`nohup`), and a handler that is not Jupyter's own.

    A second signal ends the process at once. Its runs' processes end with it, and are recorded as interrupted
    by the next server.

    Parameters
    ----------
    server
        The server, which runs in the main thread.
    """

    def __init__(self, server: ServerApp) -> None:
        self._server = server
        self._told = False
        if threading.current_thread() is not threading.main_thread():
            return
        known: list[Any] = [signal.SIG_DFL, signal.default_int_handler, server._signal_stop]  # noqa: SLF001
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in known:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler is given
        if not self._told:
            self._told = True
            self._server.log.critical("received signal %s, stopping", number)
            self._server.stop(from_signal=True)
            return
        self._server.log.critical("received signal %s again, ending at once", number)
        self._server.remove_server_info_file()
        self._server.remove_browser_open_files()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(128 + number)


WARM_SECONDS = 0.2
"""How long after its start a server fetches what first requests need."""

ACTIVITY_MS = 30_000
"""How often runs are reported as activity, so that a culler does not end a server that works."""

LOGGERS_OF_OTHERS = ("tornado.application", "tornado.general", "tornado.access")
"""Where Tornado writes of requests that are none, and of cookies."""

SANDBOX_FOLDER = "sandbox"
"""Where, in the data folder, each server has its sandbox."""

RUNS_SECONDS = 2.0
"""How long runs may take to end by themselves when the server does."""

AGAIN_SECONDS = 60.0
"""After how long is tried again what could not be done at the start."""

CLOSE_SECONDS = 10.0
"""How long the end of the extension may hold up the server's."""

Works = dict[str, Callable[[], Awaitable[None]]]
"""What is to be done, by its name."""


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
        hidden = CredentialFilter([self.identity_provider.token])
        self.web_app.settings["log_function"] = partial(_log_without_credentials, hidden)
        if self._whole:
            return
        router = self.web_app.wildcard_router
        router.rules = [
            rule
            for rule in router.rules
            if not (isinstance(rule.target, type) and issubclass(rule.target, AuthenticatedFileHandler))
        ]

    def init_httpserver(self) -> None:
        """Set the HTTP server up, with a limit on how long a client may take to say what it wants."""
        super().init_httpserver()
        if isinstance(self.starter_app, KasalApp):
            self.http_server.conn_params.header_timeout = self.starter_app.head_seconds


def _log_without_credentials(hidden: CredentialFilter, handler: RequestHandler) -> None:
    """Have Jupyter write a line about a request, without what lets somebody in.

    Our own handlers write their own.
    """
    handler.request.uri = hidden.hide_address(handler.request.uri or "")
    if "Referer" in handler.request.headers:
        handler.request.headers["Referer"] = hidden.hide_address(handler.request.headers["Referer"])
    log_request(handler)  # type: ignore[no-untyped-call]


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
    max_running = Int(
        10,
        min=1,
        help="Executions that run at the same time; more wait in a queue, where owners come in turn. One "
        "that waits for a person's answer does not count.",
    ).tag(config=True)
    max_running_per_user = Int(
        8, min=1, help="Executions of one user that run at the same time, so that others find a place."
    ).tag(config=True)
    max_asking_per_user = Int(
        16,
        min=0,
        help="Executions of one user that wait for a person's answer without counting as running; each has a "
        "process. One more keeps its place.",
    ).tag(config=True)
    put_away_seconds = Float(
        300.0,
        min=0,
        help="Seconds that an execution waits for a person with a process of its own; then it is put away, "
        "and brought back with the answer.",
    ).tag(config=True)
    max_queued = Int(1_000, min=0, help="Executions that may wait; one more is refused with 503.").tag(
        config=True
    )
    max_queued_per_user = Int(
        500, min=0, help="Executions of one user that may wait; one more is refused with 429."
    ).tag(config=True)
    max_launch_seconds = Float(
        60.0,
        min=1.0,
        help="How long an execution whose turn it is may take to get a process and begin, once the engine is "
        "loaded; then it fails.",
    ).tag(config=True)
    max_stored_bytes = Int(
        200_000_000,
        min=0,
        help="Bytes of crews, agents, tasks, tools, knowledge and memories that a user may have stored; 0: "
        "any number. Admins may have any number.",
    ).tag(config=True)
    max_crews = Int(
        2_000, min=0, help="Crews that a user may have; 0: any number. Admins may have any number."
    ).tag(config=True)
    max_reading = Int(
        0,
        min=0,
        help="Files and crews of users that are read at the same time, each in a limited process, one at a "
        "time a user; more wait. 0: as many as there are processors, and two at least.",
    ).tag(config=True)
    max_journal_bytes = Int(
        200_000_000,
        min=1_000_000,
        help="Bytes of events that one execution may record; one that has recorded more fails.",
    ).tag(config=True)
    max_body_bytes = Int(
        2 * 1024 * 1024, min=1024, help="Largest body of a request, in bytes; a larger one is refused."
    ).tag(config=True)
    max_bodies_bytes = Int(
        64 * 1024 * 1024,
        min=1024,
        help="Bytes of requests' bodies that one caller may have under way at the same time; one more is "
        "refused with 429.",
    ).tag(config=True)
    body_seconds = Int(60, min=1, help="Seconds that a request's body may take to come.").tag(config=True)
    head_seconds = Int(
        75,
        min=1,
        help="Seconds that a request's head may take to come, and that a connection may stay without one. It "
        "is a standalone server's; inside Jupyter, Jupyter's own hold.",
    ).tag(config=True)
    max_strangers = Int(
        50,
        min=1,
        help="Connections of one address that may be under way before it is known who asks: bodies on their "
        "way, and WebSockets. One more is refused with 429. Behind a proxy, set ServerApp.trust_xheaders, or "
        "everybody has the proxy's address.",
    ).tag(config=True)
    stranger_seconds = Int(
        10,
        min=1,
        help="Seconds that somebody who is not known may take: for a body, or to say on a WebSocket who "
        "they are.",
    ).tag(config=True)
    warm = Enum(
        ("start", "use"),
        default_value="use",
        help="When the engine (CrewAI, about 200 MB) is loaded: with the server ('start'), or by the first "
        "request under /v1 ('use'). A standalone server always does it at its start.",
    ).tag(config=True)
    max_run_memory = Int(
        0,
        min=0,
        help="Bytes of memory that a run's process, and each that it starts, may have beside what all runs "
        "share; 0: any number. A run that needs more fails with OUT_OF_MEMORY. On Linux.",
    ).tag(config=True)
    start_method = Enum(
        ("auto", "fork", "spawn"),
        default_value="auto",
        help="How a run gets its process: forked from a warm one, or a spare one that was warmed before. "
        "'auto' forks wherever the system can.",
    ).tag(config=True)

    resume_on_start = Bool(
        False,
        help="Whether runs that a crash of their server has cut off are resumed when this one finds them: at "
        "its start, or while another server on the folder is gone. They keep within what is left of their "
        "budget, and are not resumed where their crew is gone, where their user was disabled, or where three "
        "attempts have ended at the same call.",
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
    passed_environment = List(
        Unicode(),
        help="Variables of the server's environment that runs get besides what every program needs, proxies "
        "and certificates, e.g. ['HF_HOME', 'TIKTOKEN_CACHE_DIR']. Keys of models need not be named: a run "
        "has those of its own models.",
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
        help="A token for a workspace of its own, where every model is the sandbox model, and from which "
        "nothing of the machine's files and network is reached; it is thrown away when the server ends. "
        "Default: KASAL_SANDBOX_TOKEN, else there is none.",
    ).tag(config=True)

    @default("sandbox_token")
    def _sandbox_token_from_environment(self) -> str:
        return os.environ.get("KASAL_SANDBOX_TOKEN", "")

    @default("open_browser")
    def _no_browser(self) -> bool:
        return False

    parts: Parts | None = None
    _sandbox_parts: Parts | None = None
    _sandbox_lock: asyncio.Lock
    _accounts: Accounts | None = None
    _backend: LocalBackend | None = None
    _confined: ConfinedPool
    _activity: PeriodicCallback | None = None
    _looking: PeriodicCallback | None = None
    _disabled: DisabledOwners | None = None
    _cut_off: CutOffRuns | None = None
    _looks = 0
    _waking: asyncio.Future[None] | None = None
    _again: asyncio.Future[None] | None = None
    _unusable: UnusableStore | None = None
    _signals: StopSignals | None = None
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
        """Open the data folder and build the parts.

        Where it can't be used, a standalone server exits; another one serves its message, until it can.
        """
        # Jupyter hands every trait on to all handlers and templates.
        self.settings[f"{self.name}_config"].pop("sandbox_token", None)
        self._require_valid_settings()
        assert self.serverapp is not None
        for name in LOGGERS_OF_OTHERS:
            logging.getLogger(name).addFilter(CredentialFilter([self.serverapp.identity_provider.token]))
        try:
            self._build(self._opened())
        except StoreError as error:
            self.log.critical("Kasal is not served: %s", error.message)
            if self.standalone:
                sys.exit(1)
            self._unusable = UnusableStore(error.message, self._try_again)
        passed = worker_environment(os.environ, self.folder, self.passed_environment)
        for name in unhidden_among(passed.items()):
            self.log.warning(
                "The secret in %s has fewer than %d characters: it cannot be hidden in what runs say",
                name,
                MIN_WORD,
            )

    def _opened(self) -> Store:
        """Open the store; it may take a while, where another program holds it."""
        return Store.open(self.folder, SCHEMAS)

    def _build(self, store: Store) -> None:
        """Build the parts over an opened store.

        Raises
        ------
        StoreError
            The data folder can't be used; the store was closed again.
        """
        folder = self.folder
        method = None if self.start_method == "auto" else cast("StartMethod", self.start_method)
        try:
            self._backend = LocalBackend(
                folder, start_method=method, max_memory=self.max_run_memory, passed=self.passed_environment
            )
            self._accounts = Accounts.open(
                store, folder, sandbox_token=self.sandbox_token, enterprise_burst=self.enterprise_burst
            )
            catalog = ModelCatalog(self.default_model, os.environ, default_embedder=self.embedder)
            self._confined = ConfinedPool(self.max_reading)
            self._doors = Doors(
                strangers=Senders(self.max_strangers, "connections"),
                bodies=Senders(self.max_bodies_bytes, "bytes"),
                stranger_seconds=self.stranger_seconds,
                body_seconds=self.body_seconds,
                watch=Watch(store.one_look),
            )
            self.parts = self._workspace(store, folder, catalog, MaintenanceMode(store))
            self._disabled = DisabledOwners(self.parts.runs)
            maintenance = self.parts.maintenance
            self._cut_off = CutOffRuns(self.parts.runs, lambda: not maintenance.state.enabled)
            self._sandbox_lock = asyncio.Lock()
        except (StoreError, OSError) as error:
            store.close()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"The data folder {folder} can't be used: {error}.") from error
        self.parts.runs.on_end = count_run
        show_runs(self.parts.runs)

    async def _try_again(self) -> str | None:
        """Open the data folder that could not be used before, and serve; or say why it still can't be."""
        assert self.serverapp is not None
        try:
            self._build(await asyncio.to_thread(self._opened))
        except StoreError as error:
            return error.message
        self.log.info("The data folder %s can be used now", self.folder)
        web_app, unusable = self.serverapp.web_app, self._unusable
        assert self.parts is not None
        assert unusable is not None
        self._unusable = None
        unusable.leave(web_app)
        serve(web_app, self.parts, self._prefixes)
        await self._begin(self.parts)
        return None

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
            running=self.max_running,
            queued=self.max_queued,
            running_per_user=self.max_running_per_user,
            queued_per_user=self.max_queued_per_user,
            asking_per_user=self.max_asking_per_user,
            launch_seconds=self.max_launch_seconds,
            journal_bytes=self.max_journal_bytes,
            put_away_seconds=self.put_away_seconds,
        )
        store.quota = Quota(
            self.max_stored_bytes, self.max_crews, everybody=isinstance(catalog, SandboxCatalog)
        )
        crews = Crews(store)
        secrets, guard, settings = SecretBox(folder), HostGuard(self.allowed_hosts), self._tool_settings()
        if isinstance(catalog, SandboxCatalog):
            # It is for strangers: they run no code, read no folders of the server's, and call no address.
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
            resumes=self.resume_on_start and not isinstance(catalog, SandboxCatalog),
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
            schedules=Schedules(runs, crews, lambda: not maintenance.state.enabled),
            webhooks=webhooks,
            fanouts=Fanouts(self._doors.watch.one_look),
            accounts=self._accounts,
            maintenance=maintenance,
            doors=self._doors,
            confined=self._confined,
            body_limit=self.max_body_bytes,
            wake=self._wake,
            sandbox=self._sandbox,
        )

    def _tool_settings(self) -> RunToolSettings:
        folders = [str(Path(folder).expanduser()) for folder in self.tool_folders]
        return RunToolSettings(folders=folders, python=self.python_tool)

    async def _sandbox(self) -> Parts:
        """Give the sandbox's parts, made when the first asks for them."""
        async with self._sandbox_lock:
            if self._sandbox_parts is None:
                assert self.parts is not None
                runs = self.parts.runs
                folder = runs.folder.parent / SANDBOX_FOLDER / runs.presence.server_id
                # To make a store takes a new file's syncs.
                store = await asyncio.to_thread(Store.open, folder, SCHEMAS)
                self._sandbox_parts = self._workspace(
                    store, folder, SandboxCatalog(environ={}), self.parts.maintenance
                )
        return self._sandbox_parts

    @property
    def _opened_parts(self) -> list[Parts]:
        return [parts for parts in (self.parts, self._sandbox_parts) if parts is not None]

    @property
    def _prefixes(self) -> list[str]:
        return ["/v1", "/api/v1"] if self.standalone else ["/v1"]

    def initialize_handlers(self) -> None:
        """Serve the API, or say why it is not served."""
        assert self.serverapp is not None
        if self._unusable is not None:
            self._unusable.serve(self.serverapp.web_app, self._prefixes)
            return
        assert self.parts is not None
        serve(self.serverapp.web_app, self.parts, self._prefixes)

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Begin work once the server's loop runs."""
        self._signals = StopSignals(serverapp)
        if self.parts is not None:
            await self._begin(self.parts)

    async def _begin(self, parts: Parts) -> None:
        """Do what a server does first. Whatever of it fails, the server serves."""
        left = await self._done_of(
            {
                "take over what servers that are gone have left": parts.runs.settle,
                "bring in order what crews remember": parts.recall.begin,
                "delete the sandboxes of servers that are gone": partial(
                    asyncio.to_thread, self._drop_old_sandboxes
                ),
            }
        )
        if left:
            self._again = asyncio.ensure_future(self._do_later(left))
        if self.warm == "start" or self.standalone:
            self._wake()
        # The loop asks for the interpreter several times a request, and waits this long each time for each
        # thread that computes: 5 ms, where nothing else is said.
        sys.setswitchinterval(0.001)
        self._activity = PeriodicCallback(self._report_activity, ACTIVITY_MS)
        self._activity.start()
        self._looking = PeriodicCallback(self._look_again, LOOK_SECONDS * 1_000)
        self._looking.start()
        # When the loop has nothing else to start.
        asyncio.get_running_loop().call_later(WARM_SECONDS, warm_up)

    async def _look_again(self) -> None:
        """End what those have who have lost the right to it, and delete what could not be deleted."""
        assert self._disabled is not None
        assert self.parts is not None
        self._doors.watch.look()
        assert self._cut_off is not None
        await self._disabled.stop_runs()
        await self._cut_off.go_on()
        for parts in self._opened_parts:
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
                self.log.exception("Kasal could not %s; it is tried again", what)
                left[what] = work
        return left

    async def _do_later(self, works: Works) -> None:
        while works:
            await asyncio.sleep(AGAIN_SECONDS)
            works = await self._done_of(works)

    async def stop_extension(self) -> None:
        """End what runs, and let go of everything. Whatever happens here, the server goes on to exit."""
        self._stopping = True
        if self._again is not None:
            self._again.cancel()
        for callback in (self._activity, self._looking):
            if callback is not None:
                callback.stop()
        if self.parts is None:
            return
        try:
            await asyncio.wait_for(self._close(self.parts), CLOSE_SECONDS)
        except Exception:
            # The border of the process: Jupyter Server would never exit if this raised.
            self.log.exception("Kasal did not close cleanly")

    async def _close(self, parts: Parts) -> None:
        opened = [parts] if self._sandbox_parts is None else [self._sandbox_parts, parts]
        for each in opened:
            await each.schedules.close()
        closing = asyncio.gather(*(each.runs.close() for each in opened))
        await asyncio.wait([closing], timeout=RUNS_SECONDS)
        if self._backend is not None:
            # A run that waits for the engine goes on waiting until there is none to come.
            await self._backend.close()
        await closing
        if self._accounts is not None:
            self._accounts.close()
        for each in opened:
            each.recall.close()
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
        opened = self._opened_parts
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
