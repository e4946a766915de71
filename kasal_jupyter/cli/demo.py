"""``jupyter kasal demo``: a real server, a real crew on the sandbox model, and its trace in the terminal."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kasal_jupyter.cli.connect import STOP_SECONDS, ended_by_signals
from kasal_jupyter.cli.run_view import view_on
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.errors import Unavailable
from kasal_jupyter.kernel.crews.demo import INPUTS, demo_crew
from kasal_jupyter.kernel.views.clean import clean

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers


def add_demo(subparsers: Subparsers) -> None:
    """Add ``demo`` to the parser of `jupyter kasal`."""
    demo = subparsers.add_parser(
        "demo",
        help="run a crew on a server of its own, and watch it; needs no key and no network",
        description="Start a Jupyter server with Kasal in a temporary folder, create a crew of three agents "
        "and four tasks over REST, run it on CrewAI with the sandbox model, follow it over the WebSocket, "
        "and leave nothing behind.",
    )
    demo.add_argument("--json", action="store_true", help="print the run's events, one JSON object a line")
    demo.add_argument("--keep", action="store_true", help="leave the server up afterwards, until Ctrl-C")
    demo.set_defaults(handler=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Carry out ``demo``; give the exit status: 0 where the run completed."""
    # A process that is killed may leave a file open a moment longer; the folder is gone at the end anyway.
    with (
        ended_by_signals(),
        TemporaryDirectory(prefix="kasal-demo-", ignore_cleanup_errors=True) as folder,
        ServerProcess(Path(folder)) as server,
    ):
        _say("starting a Jupyter server …")
        connection = server.connect()
        completed = _run_crew(Client(connection), as_json=args.json)
        if args.keep:
            _keep(server, connection)
    return 0 if completed else 1


def _run_crew(client: Client, *, as_json: bool) -> bool:
    """Create the crew, run it and print what happens; say whether it completed."""
    try:
        crew = client.create_crew(demo_crew())
        job_id = client.start(crew.id, INPUTS).job_id
        _say("starting the engine (CrewAI; some seconds, longest the first time) …")
        with view_on(sys.stdout, as_json=as_json) as view:
            for event in client.follow(job_id):
                view.feed(event)
        summary = view.trace.summary
        if summary.result is not None and not as_json:
            print(f"\n{clean(summary.result)}", flush=True)
        return summary.status == "completed"
    finally:
        client.close()


def _keep(server: ServerProcess, connection: Connection) -> None:
    """Leave the server up until Ctrl-C, which is the regular end here."""
    _say(
        f"\nThe server stays up: {connection.url}/v1/docs\n"
        f"Token: {connection.token}\n"
        f"Sandbox token: {server.sandbox_token}\n"
        f"In a notebook: %kasal connect {connection.url} --token {connection.token}\n"
        "Ctrl-C stops it and deletes its folder."
    )
    try:
        server.wait()
    except KeyboardInterrupt:
        _say("")


def _say(text: str) -> None:
    """Tell what goes on, beside the output proper."""
    print(text, file=sys.stderr, flush=True)


# -- the server of the demo -----------------------------------------------------------------------------

# A Jupyter server with Kasal, in a process and a folder of its own.

START_SECONDS = 60.0
"""How long the server may take to answer."""


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

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

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
