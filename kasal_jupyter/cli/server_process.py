"""A Jupyter server with Kasal, as a process of its own, for as long as it is needed."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kasal_jupyter.errors import KasalError, Unavailable
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.connection import Connection

START_SECONDS = 60.0
STOP_SECONDS = 15.0


@contextmanager
def temporary_server() -> Iterator[Connection]:
    """Run a standalone server on a free loopback port, with a data folder that is thrown away at the end.

    The token goes by the environment: a command line can be read by every user of the machine.

    Raises
    ------
    Unavailable
        It did not start; the message has what it said last.
    """
    with tempfile.TemporaryDirectory(prefix="kasal-demo-") as name:
        folder = Path(name)
        token = secrets.token_urlsafe(24)
        port = _free_port()
        log = folder / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, and words of our own
                [
                    sys.executable,
                    "-m",
                    "kasal_jupyter.cli",
                    f"--port={port}",
                    "--ServerApp.port_retries=0",
                    "--ServerApp.ip=127.0.0.1",
                    "--allow-root",
                    f"--ServerApp.root_dir={folder}",
                ],
                env=_environment(folder, token),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the command, which ends the server in order.
                start_new_session=True,
            )
        connection = Connection(f"http://127.0.0.1:{port}", token)
        try:
            _wait_until_up(process, connection, log)
            yield connection
        finally:
            _end(process)


def _environment(folder: Path, token: str) -> dict[str, str]:
    places = {
        "KASAL_DATA_DIR": folder / "kasal",
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
    }
    return {**os.environ, **{key: str(path) for key, path in places.items()}, "JUPYTER_TOKEN": token}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], connection: Connection, log: Path) -> None:
    client = Client(connection)
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                words = log.read_text(errors="replace").strip().splitlines()[-5:]
                raise Unavailable("The server did not start. It said: " + " / ".join(words))
            try:
                client.crews()
            except KasalError:
                time.sleep(0.1)
            else:
                return
    finally:
        client.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
