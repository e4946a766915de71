"""The server extension: its settings, its parts, and how they are wired."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import PeriodicCallback
from traitlets import Enum, Int, Unicode, default

from kasal_jupyter import __version__
from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.api.routes import routes
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.runs.local import LocalBackend, StartMethod
from kasal_jupyter.runs.service import RunLimits, Runs
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.folder import default_data_folder
from kasal_jupyter.store.store import Store

ACTIVITY_MS = 30_000
"""How often runs are reported as activity, so that a culler does not end a server that works."""

CLOSE_SECONDS = 10.0
"""How long the end of the extension may hold up the server's."""


class StandaloneServer(ServerApp):
    """The Jupyter server of `jupyter kasal`, with its own defaults; options and configuration still win."""

    port_default_value = Int(8000)


class KasalApp(ExtensionApp):
    """Kasal inside Jupyter: crews of agents on CrewAI, served under /v1.

    As an extension it is one part of a Jupyter server; started by itself (`jupyter kasal`) it is a server
    of its own on port 8000, with the API under /v1 and /api/v1.
    """

    name = "kasal_jupyter"
    app_name = "kasal_jupyter"
    description = (
        "Kasal inside Jupyter: a server of its own, with the API under /v1 and /api/v1.\n\n"
        "Sub-commands: `jupyter kasal demo`, `jupyter kasal db export|import`; each has --help."
    )
    version = __version__
    extension_url = "/v1/crews"
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
    max_running = Int(8, min=1, help="Executions that run at the same time; more wait in a queue.").tag(
        config=True
    )
    max_queued = Int(1_000, min=0, help="Executions that may wait; one more is refused with 503.").tag(
        config=True
    )
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

    @default("open_browser")
    def _no_browser(self) -> bool:
        return False

    parts: Parts | None = None
    _activity: PeriodicCallback | None = None
    _waking: asyncio.Future[None] | None = None
    _stopping = False

    @property
    def standalone(self) -> bool:
        """Whether the server was started for this extension alone."""
        return self.serverapp is not None and self.serverapp.starter_app is self

    def initialize_settings(self) -> None:
        """Open the data folder and build the parts."""
        folder = Path(self.data_folder).expanduser() if self.data_folder else default_data_folder()
        store = Store.open(folder)
        method = None if self.start_method == "auto" else cast("StartMethod", self.start_method)
        backend = LocalBackend(folder, start_method=method)
        runs = Runs(
            store,
            folder,
            backend,
            ModelCatalog(self.default_model, os.environ),
            RunLimits(running=self.max_running, queued=self.max_queued),
        )
        self.parts = Parts(store, Crews(store), runs, Fanouts(), self.max_body_bytes, self._wake)
        self._backend = backend

    def initialize_handlers(self) -> None:
        """Serve the API."""
        assert self.parts is not None
        prefixes = ["/v1", "/api/v1"] if self.standalone else ["/v1"]
        self.handlers.extend(routes(self.parts, "/", prefixes))

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:  # noqa: ARG002
        """Begin work once the server's loop runs."""
        assert self.parts is not None
        await self.parts.runs.settle()
        if self.warm == "start" or self.standalone:
            self._wake()
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
            await asyncio.wait_for(self.parts.runs.close(), CLOSE_SECONDS)
            self.parts.store.close()
        except Exception:
            # The border of the process: Jupyter Server would never exit if this raised.
            self.log.exception("Kasal did not close cleanly")

    def current_activity(self) -> dict[str, int] | None:
        """Tell Jupyter Server what goes on, so that it does not shut down an idle-looking server."""
        active = self.parts.runs.active if self.parts else 0
        return {"executions": active} if active else None

    def _wake(self) -> None:
        """Have the engine load in the background."""
        if self._waking is None and self.parts is not None:
            self._waking = asyncio.ensure_future(self._start_backend())

    async def _start_backend(self) -> None:
        try:
            await self._backend.start()
        except Exception:
            if self._stopping:
                return
            # The next run tries again, and tells its caller; a server without an engine still serves.
            self.log.exception("Kasal's engine could not be started")

    def _report_activity(self) -> None:
        if self.parts and self.parts.runs.active and self.serverapp is not None:
            times = self.serverapp.web_app.settings["last_activity_times"]
            times["kasal_jupyter"] = datetime.now(UTC)
