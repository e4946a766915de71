"""Finding the Jupyter server that serves Kasal to this kernel."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from kasal_jupyter.errors import InvalidRequest, Unavailable

_PAGES = re.compile(r"/(?:lab|tree|notebooks|(?:api/)?v1)(?:/.*)?$")
"""What stands behind a server's base URL in the address of one of its pages, or of the API."""


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
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        from urllib.parse import urlsplit

        return urlsplit(self.url).hostname in {"localhost", "127.0.0.1", "::1"}

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
    if given := url or os.environ.get("KASAL_URL"):
        base, its_token = _read_address(given)
        return Connection(base, token or its_token or os.environ.get("KASAL_TOKEN", ""))
    found = _hub_server() or _parent_server()
    if found is None:
        raise Unavailable(
            "No Jupyter server with Kasal was found for this kernel; say where it is with "
            "`%kasal connect URL --token TOKEN`, or set KASAL_URL and KASAL_TOKEN"
        )
    return found


def _read_address(address: str) -> tuple[str, str]:
    """Give the base URL and the token of an address, as it may be copied from a browser or from the log.

    Raises
    ------
    InvalidRequest
        It is no address of a web server.
    """
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidRequest(f"{address!r} is no server's address; it begins with http:// or https://")
    path = _PAGES.sub("", parts.path).rstrip("/")
    token = parse_qs(parts.query).get("token", [""])[0]
    return f"{parts.scheme}://{parts.netloc}{path}", token


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
    from jupyter_core.paths import jupyter_runtime_dir

    for parent in _parents():
        path = Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json"
        try:
            info = json.loads(path.read_bytes())
            return Connection(str(info["url"]).rstrip("/"), str(info.get("token", "")))
        except (OSError, ValueError, KeyError):
            continue
    return None


def _parents() -> list[str]:
    """Give the ids of the processes that may be the server which started this kernel, the nearest first."""
    parent = os.environ.get("JPY_PARENT_PID")
    if not parent:
        return []
    if os.name != "nt":
        return [parent]
    # On Windows the variable holds a handle; a virtual environment's launcher may stand in between.
    import psutil  # type: ignore[import-untyped]

    return [str(each.pid) for each in psutil.Process().parents()]
