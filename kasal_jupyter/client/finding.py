"""Finding the server that serves Kasal to this kernel, or to this terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from kasal_jupyter.client.connection import Connection, print_line
from kasal_jupyter.errors import InvalidRequest, Unavailable
from kasal_jupyter.outward import NoWayOut, client_options

_PAGES = re.compile(r"/(?:lab|tree|notebooks|(?:api/)?v1)(?:/.*)?\Z", re.DOTALL)
"""What stands behind a server's base URL in the address of one of its pages, or of the API."""

ASK_SECONDS = 5.0
"""How long a Jupyter server may take to say whether it serves Kasal."""


def find_server(
    url: str | None = None,
    token: str | None = None,
    *,
    start: bool = True,
    say: Callable[[str], None] = print_line,
) -> Connection:
    """Find the server of this kernel, or of this terminal.

    In this order: what is given; ``KASAL_URL`` and ``KASAL_TOKEN``; JupyterHub's environment; the running
    server whose process started this kernel, or whose terminal this is; a private server of this user's,
    which is started if it does not run. Never the first server of a list: it may be somebody else's.

    Parameters
    ----------
    url, token
        The server that is meant, where it is known.
    start
        Whether a private server may be started. Completion, say, is no reason to.
    say
        Tells the user that one was started, in one line.

    Raises
    ------
    InvalidRequest
        The address is none.
    Unavailable
        There is none, and none could be started; the message says what to do.
    """
    if given := url or os.environ.get("KASAL_URL"):
        base, its_token = _read_address(given)
        origin = "the given address" if url else "KASAL_URL"
        return Connection(base, token or its_token or os.environ.get("KASAL_TOKEN", ""), origin)
    found = _hub_server() or _parent_server() or _terminals_server()
    why_not = _why_not(found) if found is not None else None
    if found is not None and why_not is None:
        return found
    from kasal_jupyter.client.private_server import announcement_path, private_server, read_announcement

    if start:
        return private_server(say, why_not)
    there = read_announcement(announcement_path())
    if there is not None and there.answers():
        return there.connection
    raise Unavailable(
        f"{why_not or 'No Jupyter server with Kasal was found for this kernel'}; say where one is with "
        "`%kasal connect URL --token TOKEN`, or set KASAL_URL and KASAL_TOKEN"
    )


def _why_not(found: Connection) -> str | None:
    """Ask a Jupyter server whether it serves Kasal; say why it is of no use, where that is so.

    Kasal may be installed for the kernel and not for the server, or since the server was started.
    """
    import httpx

    try:
        answer = httpx.get(
            f"{found.url}/v1/health",
            headers=found.headers,
            timeout=ASK_SECONDS,
            **client_options(found.url),
        )
    except httpx.TimeoutException:
        # It is busy, and no worse for that.
        return None
    except NoWayOut as error:
        return f"{found.origin[0].upper()}{found.origin[1:]} cannot be asked: {error}"
    except httpx.HTTPError:
        return f"{found.origin[0].upper()}{found.origin[1:]} does not answer"
    if answer.status_code == 404 or answer.is_redirect:
        return f"{found.origin[0].upper()}{found.origin[1:]} does not serve Kasal"
    return None


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
    return Connection(f"{parts.scheme or 'http'}://{host}{port}{prefix}", token, "JupyterHub")


def _parent_server() -> Connection | None:
    """Give the server that started this kernel: it left a file with its address and its token."""
    from jupyter_core.paths import jupyter_runtime_dir

    for parent in _parents():
        path = Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json"
        if (found := _read_info(path, "the Jupyter server of this kernel")) is not None:
            return found
    return None


def _terminals_server() -> Connection | None:
    """Give the server in whose terminal this runs: the terminal has its address, and its file the token."""
    url = os.environ.get("JUPYTER_SERVER_URL")
    if not url:
        return None
    from jupyter_core.paths import jupyter_runtime_dir

    for path in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
        found = _read_info(path, "the Jupyter server of this terminal")
        if found is not None and found.url == url.rstrip("/"):
            return found
    return None


def _read_info(path: Path, origin: str) -> Connection | None:
    """Read the file in which a running server says where it is."""
    try:
        info = json.loads(path.read_bytes())
        return Connection(str(info["url"]).rstrip("/"), str(info.get("token", "")), origin)
    except (OSError, ValueError, KeyError):
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
