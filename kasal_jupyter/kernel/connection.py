"""Finding the Jupyter server that serves Kasal to this kernel."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from kasal_jupyter.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the server is, and what lets us in.

    Attributes
    ----------
    url
        The Jupyter server's base URL, without ``/v1`` and without a slash at the end.
    token
        Jupyter's token or a Kasal one; empty where the server asks for none.
    """

    url: str
    token: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"token {self.token}"} if self.token else {}

    @property
    def socket_url(self) -> str:
        """The address of the WebSocket."""
        return f"ws{self.url.removeprefix('http')}/v1/ws"


def find_server(url: str | None = None, token: str | None = None) -> Connection:
    """Find the server of this kernel.

    In this order: what is given; ``KASAL_URL`` and ``KASAL_TOKEN``; JupyterHub's environment; the running
    server whose process started this kernel. Never the first server of a list: it may be somebody else's.

    Raises
    ------
    Unavailable
        There is none; the message says what to do.
    """
    if url:
        return Connection(url.rstrip("/"), token if token is not None else os.environ.get("KASAL_TOKEN", ""))
    if given := os.environ.get("KASAL_URL"):
        return Connection(given.rstrip("/"), os.environ.get("KASAL_TOKEN", ""))
    found = _hub_server() or _parent_server()
    if found is None:
        raise Unavailable(
            "No Jupyter server with Kasal was found for this kernel; say where it is with "
            "`%kasal connect URL --token TOKEN`, or set KASAL_URL and KASAL_TOKEN"
        )
    return found


def _hub_server() -> Connection | None:
    """Give the single-user server that JupyterHub started, as its environment describes it."""
    service = os.environ.get("JUPYTERHUB_SERVICE_URL")
    token = os.environ.get("JUPYTERHUB_API_TOKEN")
    if not service or not token:
        return None
    from urllib.parse import urlsplit

    parts = urlsplit(service)
    # The hub says where the server listens; a kernel beside it reaches it on loopback.
    host = "127.0.0.1" if parts.hostname in {None, "", "0.0.0.0", "::"} else parts.hostname  # noqa: S104
    port = f":{parts.port}" if parts.port else ""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX", parts.path).rstrip("/")
    return Connection(f"{parts.scheme or 'http'}://{host}{port}{prefix}", token)


def _parent_server() -> Connection | None:
    """Give the server that started this kernel: it left a file with its address and its token."""
    parent = os.environ.get("JPY_PARENT_PID")
    if not parent:
        return None
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json"
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return Connection(str(info["url"]).rstrip("/"), str(info.get("token", "")))
