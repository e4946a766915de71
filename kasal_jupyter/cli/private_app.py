"""The private server: what is settled about it, whatever its user has configured for others."""

from __future__ import annotations

import os
import secrets
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from traitlets import Int, default
from traitlets.config import Config

from kasal_jupyter.app import KasalApp, StandaloneServer
from kasal_jupyter.client.private_server import key_names, read_announcement
from kasal_jupyter.version import __version__

IDLE_SECONDS = 30 * 60
"""How long a private server stays without use."""


def _settled(token: str) -> Config:
    """Give what configuration files cannot change: this machine alone reaches it, and with its token."""
    identity = {"token": token, "hashed_password": "", "password_required": False}
    return Config(
        {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "base_url": "/",
                "certfile": "",
                "keyfile": "",
                "client_ca": "",
                "sock": "",
                "custom_display_url": "",
                "root_dir": str(Path.home()),
                "allow_root": True,
                "open_browser": False,
                "allow_remote_access": False,
                "allow_unauthenticated_access": False,
                "allow_origin": "",
                "allow_origin_pat": "",
                "disable_check_xsrf": False,
                "identity_provider_class": "jupyter_server.auth.PasswordIdentityProvider",
                "authorizer_class": "jupyter_server.auth.AllowAllAuthorizer",
            },
            "IdentityProvider": {"token": token},
            "PasswordIdentityProvider": identity,
            "KasalApp": {"with_jupyter": False},
        }
    )


class PrivateServer(StandaloneServer):
    """The Jupyter server of one user, who need not know of it."""

    settled: ClassVar[Config] = Config()
    """What no configuration changes."""

    announcement: ClassVar[Path | None] = None
    """The file that says where it is."""

    ready: ClassVar[int | None] = None
    """The file number that is closed when the server answers."""

    shutdown_no_activity_timeout = Int(
        IDLE_SECONDS,
        min=0,
        help="Seconds without a request, an open WebSocket, an execution that runs or waits, or a schedule "
        "that is not paused, after which the server ends; 0: never. Set as "
        "c.PrivateServer.shutdown_no_activity_timeout.",
    ).tag(config=True)

    @default("info_file")
    def _announcement_as_info_file(self) -> str:
        return str(PrivateServer.announcement)

    def write_browser_open_files(self) -> None:
        """Write no page that leads a browser here: it would lie about with the token."""

    def update_config(self, config: Config) -> None:
        """Take in configuration, from whichever file, but for what is settled."""
        kept = deepcopy(config)
        kept.merge(self.settled)
        super().update_config(kept)

    def server_info(self) -> dict[str, Any]:
        """Give what the announcement says."""
        app = self.starter_app
        assert isinstance(app, KasalApp)
        return super().server_info() | {
            "kasal_version": __version__,
            "data_folder": str(app.folder),
            "idle_seconds": self.shutdown_no_activity_timeout,
            "keys": key_names(os.environ),
        }

    def remove_server_info_file(self) -> None:
        """Take the announcement back, unless it is another server's by now."""
        said = read_announcement(Path(self.info_file))
        if said is not None and said.pid == os.getpid():
            super().remove_server_info_file()

    def start_ioloop(self) -> None:
        """Serve, and say so: the loop binds the port first, then comes to this."""
        self.io_loop.add_callback(self._say_ready)
        super().start_ioloop()

    def _say_ready(self) -> None:
        if PrivateServer.ready is not None:
            os.close(PrivateServer.ready)
            PrivateServer.ready = None


class PrivateApp(KasalApp):
    """Kasal as a private server."""

    serverapp_class = PrivateServer

    def current_activity(self) -> dict[str, int] | None:
        """Tell what goes on; a schedule is something to stay for: nobody else would start its runs."""
        schedules = self.kasal.parts.schedules.active if self.kasal is not None else 0
        return (super().current_activity() or {}) | ({"schedules": schedules} if schedules else {}) or None


def serve(path: Path, ready: int) -> None:
    """Serve a user, and say in a file where.

    Parameters
    ----------
    path
        The file; it has the token, and is readable to its user alone.
    ready
        A file number to close when the server answers.
    """
    PrivateServer.settled = _settled(secrets.token_urlsafe(32))
    PrivateServer.announcement = path
    PrivateServer.ready = ready
    PrivateApp.launch_instance([])  # type: ignore[no-untyped-call]
