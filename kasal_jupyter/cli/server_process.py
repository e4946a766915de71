"""A Jupyter server with Kasal, in a process and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.errors import Unavailable

START_SECONDS = 60.0
"""How long the server may take to answer."""

STOP_SECONDS = 15.0
"""How long the server may take to end; longer than the extension itself does."""

POLL_SECONDS = 0.05

LOG_LINES = 12
"""Lines of the server's log that are shown where it did not start."""


class ServerProcess:
    """A standalone server on a free loopback port; as a context manager it is up inside, and gone after.

    Parameters
    ----------
    folder
        An empty folder. All the server reads and writes is in it: its data, its configuration, its log.
    *options
        More of its command line.

    Attributes
    ----------
    log_path
        Where its log is.
    sandbox_token
        What lets into its sandbox.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.log_path = folder / "server.log"
        self.sandbox_token = f"sandbox_{secrets.token_urlsafe(24)}"
        self._folder = folder
        self._options = options
        self._token = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for name in ("config", "data", "runtime", "notebooks", "tmp"):
            (self._folder / name).mkdir(mode=0o700)
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-m",
                    "kasal_jupyter.cli",
                    "--ServerApp.ip=127.0.0.1",
                    f"--ServerApp.port={_free_port()}",
                    f"--ServerApp.root_dir={self._folder / 'notebooks'}",
                    "--no-browser",
                    "--allow-root",
                    *self._options,
                ],
                env=self._environment(),
                # In a session of its own, Ctrl-C reaches us alone; a server without a terminal asks nothing.
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connect(self) -> Connection:
        """Wait until the server answers, and give the way to it.

        Raises
        ------
        Unavailable
            It ended, or did not answer in time; the message has the end of its log.
        """
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self._process is None or self._process.poll() is not None:
                raise Unavailable(f"The server did not start:\n{self._last_words()}")
            if (connection := self._announced()) is not None and _answers(connection):
                return connection
            time.sleep(POLL_SECONDS)
        raise Unavailable(f"The server does not answer after {START_SECONDS:.0f} s:\n{self._last_words()}")

    def wait(self) -> None:
        """Wait for the server's own end."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End the server with all it has started: ask it, and kill it if it takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            process.wait(STOP_SECONDS)
        except BaseException as error:
            # Too slow, or a second Ctrl-C. Its runs end by themselves: their sockets close with it.
            process.kill()
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            # The command line is readable to everybody on the machine; the environment is not.
            "JUPYTER_TOKEN": self._token,
            "KASAL_SANDBOX_TOKEN": self.sandbox_token,
            "KASAL_DATA_DIR": str(self._folder / "kasal"),
            "JUPYTER_CONFIG_DIR": str(self._folder / "config"),
            "JUPYTER_DATA_DIR": str(self._folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self._folder / "runtime"),
            # Jupyter makes a folder there for JUPYTER_NO_CONFIG, which keeps the machine's own settings
            # out, and leaves it behind.
            "JUPYTER_NO_CONFIG": "1",
            "TMPDIR": str(self._folder / "tmp"),
        }

    def _announced(self) -> Connection | None:
        """Read the file in which a running server says where it is."""
        for path in (self._folder / "runtime").glob("jpserver-*.json"):
            # It may be half written.
            with contextlib.suppress(OSError, ValueError, KeyError):
                return Connection(str(json.loads(path.read_bytes())["url"]).rstrip("/"), self._token)
        return None

    def _last_words(self) -> str:
        lines = self.log_path.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:]) or "its log is empty"


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the process the way Ctrl-C does, so that it tidies up behind itself."""

    def end(number: int, frame: object) -> None:  # noqa: ARG001 - what a handler is given
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    """Give a free port. Should another process take it meanwhile, Jupyter takes the next and says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(connection: Connection) -> bool:
    client = Client(connection)
    try:
        client.crews()
    except Unavailable:
        return False
    finally:
        client.close()
    return True
