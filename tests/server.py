"""A real Jupyter server with the extension, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import websocket

from kasal_jupyter.models.providers import PROVIDERS
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.store.collections import CATALOG
from kasal_jupyter.store.store import Store
from tests.processes import PATIENCE, end
from tests.shared_servers import begin
from tests.shared_zygote import Borrowed

TOKEN = "tests-own-token"

NEVER = ("jupyter_lsp",)
"""Extensions that no test needs: this one asks npm for language servers, which takes three seconds."""

LAB = ("jupyter_server_terminals", "jupyterlab", "notebook", "notebook_shim", *NEVER)
"""JupyterLab's and Notebook's extensions: a third of a server's start, and few tests open their pages."""

WARM = "--KasalApp.warm=start"
"""Unless a test's options say otherwise: a server that runs no crew need not load the engine."""

KEYS = frozenset(name for provider in PROVIDERS.values() for name in provider.variables())
"""What must not reach a server whose tests say that no key is set."""


@dataclass(slots=True)
class LiveServer:
    """A running server.

    Attributes
    ----------
    url
        Its base URL, without ``/v1`` and without a slash at its end; it contains an escaped character.
    token
        What a caller sends as ``Authorization: token …``.
    folder
        Its data folder.
    log
        What it printed.
    """

    url: str
    token: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes] | Borrowed = field(repr=False)

    def client(self, **options: Any) -> httpx.Client:
        """Give a client of the API with the token; paths begin below ``/v1``."""
        headers = {"Authorization": f"token {self.token}"}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=PATIENCE, **options)

    def socket(self, timeout: float = PATIENCE) -> websocket.WebSocket:
        """Open a WebSocket with the token."""
        return websocket.create_connection(
            f"{self.url.replace('http', 'ws', 1)}/v1/ws",
            header=[f"Authorization: token {self.token}"],
            timeout=timeout,
        )

    def forget(self) -> None:
        """Take away what tests have left: whatever the store keeps, whoever's it is, and what still runs."""
        with Store.open(self.folder) as store, self.client() as client:
            for execution in store.executions.find():
                if execution.status not in ENDED:
                    # It may end by itself meanwhile.
                    assert client.post(f"/executions/{execution.id}/stop").status_code in {200, 409}
            left = [store.repository(collection) for collection in CATALOG]

            def forget() -> None:
                for repository in left:
                    for each in repository.ids():
                        repository.delete(each)

            if any(repository.count() for repository in left):
                store.change_now(forget)

    def close(self) -> None:
        """End the server as a service does, and see that nothing of it is left."""
        end(self.process, self.log)


def start_server(
    room: Path,
    *options: str,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    ready: str | None = "/crews",
    standalone: bool = False,
    lab: bool = False,
    before: Callable[[], object] | None = None,
) -> LiveServer:
    """Start a server and wait until it answers.

    Parameters
    ----------
    room
        Where its configuration, its runtime files and its log go.
    options
        More of Jupyter's command line, e.g. ``--KasalApp.max_running=1``.
    folder
        The data folder; else one of its own.
    environ
        More of its environment.
    ready
        What it must answer with 200 to be up; None for one that does not serve the API.
    standalone
        Whether it is a server of Kasal's own, `jupyter kasal`, instead of a Jupyter server.
    lab
        Whether JupyterLab and Notebook are served as well.
    before
        Called in its process before it is the server.
    """
    room.mkdir(parents=True, exist_ok=True)
    folder = folder or room / "data"
    log = room / "server.log"
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    extensions = {"kasal_jupyter": True} | dict.fromkeys(NEVER if lab else LAB, False)
    server_of = (
        ["kasal_jupyter.cli"]
        if standalone
        else ["jupyter_server", f"--ServerApp.jpserver_extensions={extensions}"]
    )
    command = [
        *(*server_of, "--allow-root", "--no-browser"),
        "--ServerApp.base_url=/a%40b/",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={room}",
        "--ServerApp.allow_unauthenticated_access=False",
        *(("--LabApp.expose_app_in_browser=True",) if lab else ()),
        *(() if any(option.startswith("--KasalApp.warm=") for option in options) else (WARM,)),
        *options,
    ]
    environment = {
        **kept,
        "JUPYTER_TOKEN": TOKEN,
        "KASAL_DATA_DIR": str(folder),
        "JUPYTER_CONFIG_DIR": str(room / "config"),
        "JUPYTER_DATA_DIR": str(room / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(room / "runtime"),
        **(environ or {}),
    }
    with log.open("wb") as out:
        process = begin(command, environment, out.fileno(), before=before, alone=lab)
    try:
        about = room / "runtime" / f"jpserver-{process.pid}.json"
        port = _port(process, about, log, "/v1/health" if ready else "/login")
    except BaseException:
        process.kill()
        process.wait()
        raise
    server = LiveServer(f"http://127.0.0.1:{port}/a%40b", TOKEN, folder, log, process)
    if ready is None:
        return server
    with server.client() as client:
        assert client.get(ready).status_code == 200, log.read_text()
    return server


def _port(process: subprocess.Popen[bytes] | Borrowed, about: Path, log: Path, page: str) -> int:
    """Wait for the file in which a Jupyter server tells where it listens."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended at once:\n{log.read_text()}"
        if about.exists() and (text := about.read_text()):
            try:
                port = int(json.loads(text)["port"])
            except json.JSONDecodeError:
                port = 0
            if port and _answers(port, page):
                return port
        time.sleep(0.05)
    raise AssertionError(f"the server did not come up:\n{log.read_text()}")


def _answers(port: int, page: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/a%40b{page}").status_code == 200
    except httpx.TransportError:
        return False
