"""Private servers of tests: in folders of their own, and ended by their process ids."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.processes import PATIENCE, borrowed
from tests.server import KEYS

FOREIGN = (
    "KASAL_URL",
    "KASAL_TOKEN",
    "JUPYTERHUB_SERVICE_URL",
    "JUPYTERHUB_SERVICE_PREFIX",
    "JUPYTERHUB_API_TOKEN",
    "JPY_PARENT_PID",
    "JUPYTER_SERVER_URL",
    *KEYS,
)
"""Variables that name another server, and keys: none of them is there where a private server is started."""


def lonely(room: Path, **more: str) -> dict[str, str]:
    """Give an environment in which no Jupyter server is found, and where all files go below a folder."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return kept | {
        "HOME": str(room),
        "IPYTHONDIR": str(room / "ipython"),
        "JUPYTER_CONFIG_DIR": str(room / "config"),
        "JUPYTER_DATA_DIR": str(room / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(room / "runtime"),
        "KASAL_DATA_DIR": str(room / "data"),
        **more,
    }


def configure(room: Path, config: Mapping[str, object]) -> None:
    """Write what the user of such an environment has configured."""
    (room / "config").mkdir(exist_ok=True)
    (room / "config" / "jupyter_server_config.json").write_text(json.dumps(config))


def servers_of(room: Path) -> list[psutil.Process]:
    """Give the private servers of an environment, found by their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "kasal_jupyter.cli.detached" in words and any(str(room) in word for word in words):
            found.append(process)
    return found


def end_servers(room: Path) -> None:
    """End the private servers of an environment, and see that nothing of them is left."""
    for server in servers_of(room):
        below = borrowed(server.pid)
        with contextlib.suppress(psutil.NoSuchProcess):  # It has just ended by itself.
            below += server.children(recursive=True)
            server.terminate()
        _, left = psutil.wait_procs([server, *below], timeout=PATIENCE)
        for each in left:
            each.kill()
        assert not left, f"processes were left behind: {left}"
