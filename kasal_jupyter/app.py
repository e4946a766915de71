"""The server extension: its settings, its parts, and how they are wired."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import AuthenticatedFileHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.log import log_request
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler
from traitlets import Bool, Enum, Float, Int, List, TraitError, Unicode, default

from kasal_jupyter.api.doorway import Doorway
from kasal_jupyter.api.logged import CredentialFilter
from kasal_jupyter.errors import StoreError
from kasal_jupyter.executions.backends.child import worker_environment
from kasal_jupyter.hiding import MIN_WORD, unhidden_among
from kasal_jupyter.store.folder import default_data_folder
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from kasal_jupyter.api.starting import UnusableStore
    from kasal_jupyter.wiring import Kasal

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


ACTIVITY_MS = 30_000
"""How often runs are reported as activity, so that a culler does not end a server that works."""

LOGGERS_OF_OTHERS = ("tornado.application", "tornado.general", "tornado.access")
"""Where Tornado writes of requests that are none, and of cookies."""

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
        64,
        min=1,
        help="Executions that run at the same time at the most; more wait in a queue, where owners come in "
        "turn. Fewer do while the machine is short of memory or processors, or a provider refuses. One that "
        "waits for a person's answer does not count.",
    ).tag(config=True)
    max_running_per_user = Int(
        48, min=1, help="Executions of one user that run at the same time, so that others find a place."
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
    compress_days = Float(
        7.0,
        min=0,
        help="Days after an execution's end at which its journal and log are compressed; they are read as "
        "before. 0: never.",
    ).tag(config=True)
    keep_logs_days = Float(
        30.0, min=0, help="Days after its end that an execution's output.log is kept; 0: as long as itself."
    ).tag(config=True)
    keep_artifacts_days = Float(
        0.0,
        min=0,
        help="Days after its end that the files an execution has written are kept; 0: as long as itself.",
    ).tag(config=True)
    keep_executions_days = Float(
        0.0,
        min=0,
        help="Days after its end that an execution is kept, with its journal and its files; 0: for ever. The "
        "books, which say what was used, are kept in any case.",
    ).tag(config=True)
    keep_executions = Int(
        50_000, min=0, help="Executions that are kept; of more, the first to have ended go. 0: any number."
    ).tag(config=True)
    keep_bytes = Int(
        20_000_000_000,
        min=0,
        help="Bytes that journals, files and logs of all executions may have; of more, the executions that "
        "have ended first go. 0: any number.",
    ).tag(config=True)
    max_body_bytes = Int(
        2 * 1024 * 1024, min=1024, help="Largest body of a request, in bytes; a larger one is refused."
    ).tag(config=True)
    max_batch_bytes = Int(
        32 * 1024 * 1024,
        min=1024,
        help="Largest body of a request that has a batch's rows, in bytes; a larger one is refused.",
    ).tag(config=True)
    max_archive_bytes = Int(
        256 * 1024 * 1024,
        min=1024,
        help="Largest archive of an execution that is imported, in bytes; a larger one is refused.",
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

    backend = Enum(
        ("local", "dask"),
        default_value="local",
        help="Where executions run: on this machine, or on the workers of a Dask cluster, which takes "
        '`pip install "kasal-jupyter[dask]"`, and dask_scheduler or dask_cluster.',
    ).tag(config=True)
    dask_scheduler = Unicode(
        "",
        help="The address of the Dask cluster's scheduler, e.g. 'tls://scheduler:8786'. Certificates are "
        "Dask's own settings (distributed.comm.tls).",
    ).tag(config=True)
    dask_cluster = Unicode(
        "",
        help="A Dask cluster by name: 'gateway:NAME' (dask-gateway), 'kubernetes:NAME' (dask-kubernetes), or "
        "'jobqueue:KIND', e.g. 'jobqueue:slurm' (dask-jobqueue), which is begun, and ends with the server.",
    ).tag(config=True)
    dask_slots = Int(
        0,
        min=0,
        help="Executions that each Dask worker takes at the same time; 0: its resource 'kasal', else four a "
        "thread.",
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

    kasal: Kasal | None = None
    """What is served; None while it is loaded, and where the data folder can't be used."""

    _doorway: Doorway | None = None
    _unusable: UnusableStore | None = None
    _loading: asyncio.Future[None] | None = None
    _activity: PeriodicCallback | None = None
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
        """Look at the settings; a standalone server also loads what it serves, or exits.

        In another server, what takes long begins when that answers: its user waits for JupyterLab.
        """
        # Jupyter hands every trait on to all handlers and templates.
        self.settings[f"{self.name}_config"].pop("sandbox_token", None)
        self._require_valid_settings()
        assert self.serverapp is not None
        for name in LOGGERS_OF_OTHERS:
            logging.getLogger(name).addFilter(CredentialFilter([self.serverapp.identity_provider.token]))
        passed = worker_environment(os.environ, self.folder, self.passed_environment)
        for name in unhidden_among(passed.items()):
            self.log.warning(
                "The secret in %s has fewer than %d characters: it cannot be hidden in what runs say",
                name,
                MIN_WORD,
            )
        if self.standalone:
            try:
                self.kasal = self._loaded()
            except StoreError as error:
                self.log.critical("Kasal is not served: %s", error.message)
                sys.exit(1)

    def _loaded(self) -> Kasal:
        """Import what is served, and open the data folder; it takes a while.

        Raises
        ------
        StoreError
            The data folder can't be used.
        """
        # What modules make stays: to look over and over for what is not used any more is a tenth of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            from kasal_jupyter.wiring import Kasal
        finally:
            if collects:
                gc.enable()
        return Kasal(self)

    async def _load(self) -> None:
        """Serve, or say why not; who has asked meanwhile is answered."""
        assert self.serverapp is not None
        assert self._doorway is not None
        if (reason := await self._serve()) is not None:
            from kasal_jupyter.api.starting import UnusableStore

            self.log.critical("Kasal is not served: %s", reason)
            self._unusable = UnusableStore(reason, self._serve)
            self._unusable.serve(self.serverapp.web_app, self._prefixes)
            self._doorway.leave()

    async def _serve(self) -> str | None:
        """Load what is served, and serve it; or say why it can't be."""
        assert self.serverapp is not None
        try:
            self.kasal = await asyncio.to_thread(self._loaded)
        except StoreError as error:
            return error.message
        except Exception:
            # A border: who asks is answered, whatever fails.
            self.log.exception("Kasal could not be loaded")
            return "Kasal could not be loaded; the server's log says why"
        if self._unusable is not None:
            self.log.info("The data folder %s can be used now", self.folder)
            self._unusable.leave(self.serverapp.web_app)
            self._unusable = None
        self.kasal.serve(self.serverapp.web_app, self._prefixes)
        if self._doorway is not None:
            self._doorway.leave()
        if not self._stopping:
            await self.kasal.begin()
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
            if self.backend == "dask" and bool(self.dask_scheduler) == bool(self.dask_cluster):
                raise TraitError(  # noqa: TRY301 - told like the others
                    "KasalApp.backend is 'dask': set one of dask_scheduler and dask_cluster"
                )
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

    @property
    def _prefixes(self) -> list[str]:
        return ["/v1", "/api/v1"] if self.standalone else ["/v1"]

    def initialize_handlers(self) -> None:
        """Serve the API, or have who asks wait until it is loaded."""
        assert self.serverapp is not None
        if self.kasal is not None:
            self.kasal.serve(self.serverapp.web_app, self._prefixes)
        else:
            self._doorway = Doorway(self.serverapp.web_app, self._prefixes)

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Begin work once the server's loop runs."""
        self._signals = StopSignals(serverapp)
        # The loop asks for the interpreter several times a request, and waits this long each time for each
        # thread that computes: 5 ms, where nothing else is said.
        sys.setswitchinterval(0.001)
        self._activity = PeriodicCallback(self._report_activity, ACTIVITY_MS)
        self._activity.start()
        if self.kasal is not None:
            await self.kasal.begin()
        else:
            self._loading = asyncio.ensure_future(self._load())

    async def stop_extension(self) -> None:
        """End what runs, and let go of everything. Whatever happens here, the server goes on to exit."""
        self._stopping = True
        if self._activity is not None:
            self._activity.stop()
        try:
            await asyncio.wait_for(self._close(), CLOSE_SECONDS)
        except Exception:
            # The border of the process: Jupyter Server would never exit if this raised.
            self.log.exception("Kasal did not close cleanly")

    async def _close(self) -> None:
        if self._loading is not None:
            # What is half there can't be let go of.
            await self._loading
        if self.kasal is not None:
            await self.kasal.close()

    def current_activity(self) -> dict[str, int] | None:
        """Tell Jupyter Server what goes on, so that it does not shut down an idle-looking server.

        Requests are told of as Jupyter's own are, by the time of the last.
        """
        return (self.kasal.activity or None) if self.kasal is not None else None

    def _report_activity(self) -> None:
        if self.current_activity() and self.serverapp is not None:
            times = self.serverapp.web_app.settings["last_activity_times"]
            times["kasal_jupyter"] = datetime.now(UTC)
