"""A server for this user alone, where there is no Jupyter server: started when needed, shared, ended idle.

Each says where it is in a file of Jupyter's runtime folder, readable to its user alone. There is one for
each data folder and version of the product: kernels of two versions do not meet on one server.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kasal_jupyter.client.connection import PRIVATE, Connection
from kasal_jupyter.errors import Unavailable
from kasal_jupyter.outward import client_options
from kasal_jupyter.version import __version__

MODULE = "kasal_jupyter.cli.detached"
"""What is started: it stands above this room, which knows its name only."""

START_SECONDS = 60.0
"""How long a server may take to answer."""

ASK_SECONDS = 5.0
"""How long a server that is there may take to say so."""

LOG_LINES = 12
"""Lines of the log that are shown where a server did not start."""

LOG_BYTES = 1 << 20
"""Size from which a log is begun anew."""

_PREFIX = "kasal-"

_APART = int(getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0))
"""On Windows, what keeps a process apart from this one's console."""

_NOT_ITS = (
    # Without bytecode a start takes twice as long.
    "PYTHONDONTWRITEBYTECODE",
    # What says to a kernel where its server is.
    "KASAL_URL",
    "KASAL_TOKEN",
    "JPY_PARENT_PID",
    "JPY_SESSION_NAME",
    # It makes its token itself.
    "JUPYTER_TOKEN",
    "JUPYTER_TOKEN_FILE",
    "KASAL_SANDBOX_TOKEN",
)
"""Variables of the kernel's that mean something else to a server, or slow it down."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a private server says of itself.

    Attributes
    ----------
    path
        The file that says it.
    connection
        The way to it.
    pid
        Its process.
    version
        The product's version that it serves.
    data_folder
        Where it keeps crews, runs and traces.
    idle_seconds
        After how long without use it ends; 0: never.
    keys
        Names of the environment's model keys that it was started with.
    """

    path: Path
    connection: Connection
    pid: int
    version: str
    data_folder: str
    idle_seconds: int
    keys: tuple[str, ...]

    @property
    def log_path(self) -> Path:
        """Its log."""
        return self.path.with_suffix(".log")

    def answers(self) -> bool:
        """Ask the server whether it is the one: a process of that number may be another's by now."""
        import httpx

        if not _exists(self.pid):
            return False
        try:
            # It needs a valid token, and is answered in maintenance mode as well.
            answer = httpx.get(
                f"{self.connection.url}/v1/maintenance",
                headers=self.connection.headers,
                timeout=ASK_SECONDS,
                **client_options(self.connection.url),
            )
        except httpx.TimeoutException:
            # It is busy: what is asked next will wait for it, or say that it does not answer.
            return True
        except httpx.HTTPError:
            return False
        return answer.status_code == 200


def private_server(say: Callable[[str], None], reason: str | None = None) -> Connection:
    """Join this user's private server, or start it.

    Parameters
    ----------
    say
        Tells the user, in one line, what a server that was started is, and where its data is.
    reason
        Why there is need of one, where it is not that nothing else was found.

    Raises
    ------
    Unavailable
        It does not start; the message has the last lines of its log.
    """
    from filelock import FileLock, Timeout

    path = announcement_path()
    if (there := read_announcement(path)) is None or not there.answers():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with FileLock(path.with_suffix(".lock"), timeout=START_SECONDS):
                # Another kernel may have started it in the meantime.
                if (there := read_announcement(path)) is None or not there.answers():
                    there = _start(path)
                    say(_started_text(there, reason))
        except Timeout:
            raise Unavailable(
                f"Another program has been starting the private server for {START_SECONDS:.0f} s; "
                f"its log is {path.with_suffix('.log')}"
            ) from None
    _say_missing_keys(there, say)
    return there.connection


def announcement_path(version: str = __version__) -> Path:
    """Give the file in which the private server of this environment's data folder says where it is."""
    from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

    # The folder that a server chooses which is not told one; its own configuration may name another.
    folder = os.path.abspath(_chosen_folder(os.environ) or jupyter_data_dir())  # noqa: PTH100 - a name only
    which = hashlib.sha256(f"{folder}\0{version}".encode()).hexdigest()[:12]
    return Path(jupyter_runtime_dir(), f"{_PREFIX}{which}.json")


def running_servers() -> Iterator[Announcement]:
    """Give this user's private servers that answer, whatever their version."""
    from jupyter_core.paths import jupyter_runtime_dir

    for path in sorted(Path(jupyter_runtime_dir()).glob(f"{_PREFIX}*.json")):
        announcement = read_announcement(path)
        if announcement is not None and announcement.answers():
            yield announcement


def read_announcement(path: Path) -> Announcement | None:
    """Read what a private server says of itself; None where there is none, or not yet the whole of it."""
    try:
        said = json.loads(path.read_bytes())
        return Announcement(
            path=path,
            connection=Connection(str(said["url"]).rstrip("/"), str(said["token"]), PRIVATE),
            pid=int(said["pid"]),
            version=str(said["kasal_version"]),
            data_folder=str(said["data_folder"]),
            idle_seconds=int(said["idle_seconds"]),
            keys=tuple(said["keys"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def key_names(environ: Mapping[str, str]) -> list[str]:
    """Give the names of the model keys that an environment has; never their values."""
    return sorted(name for name, value in environ.items() if name.endswith("_API_KEY") and value)


def _start(path: Path) -> Announcement:
    """Start a server that says where it is in the file, and wait until it does.

    Raises
    ------
    Unavailable
        It ended instead, or took too long.
    """
    path.unlink(missing_ok=True)
    log_path = path.with_suffix(".log")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if log_path.exists() and log_path.stat().st_size > LOG_BYTES:
        flags |= os.O_TRUNC
    log = os.open(log_path, flags, 0o600)
    try:
        begun_at = os.fstat(log).st_size
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            # Nothing that lies in the working folder is taken for a module of Python's.
            [sys.executable, "-P", "-m", MODULE, str(path)],
            env=_environment(os.environ),
            cwd=path.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            # Apart from this one's terminal, signals and end.
            start_new_session=os.name == "posix",
            creationflags=_APART,
        )
    except OSError as error:
        raise Unavailable(f"The private server cannot be started: {error}") from None
    finally:
        os.close(log)
    try:
        _wait_for_end_of_output(process)
        announcement = read_announcement(path)
        if announcement is not None and announcement.answers():
            return announcement
    except BaseException:
        # Interrupted, or too slow. What is half started is nobody's; the next command starts anew.
        _kill(process)
        raise
    _kill(process)
    raise Unavailable(
        f"The private server did not start; the end of its log, {log_path}:\n"
        f"{_last_lines(log_path, begun_at)}"
    )


def _wait_for_end_of_output(process: subprocess.Popen[bytes]) -> None:
    """Wait until a server closes its standard output: it answers now, or has ended."""
    assert process.stdout is not None
    closed = threading.Event()
    stdout = process.stdout

    def read() -> None:
        with stdout:
            stdout.read()
        closed.set()

    threading.Thread(target=read, name="kasal-private-server", daemon=True).start()
    if not closed.wait(START_SECONDS):
        raise Unavailable(f"The private server does not answer after {START_SECONDS:.0f} s")
    if os.name == "posix":
        # It has left the process that was started, so that it does not end with this one's children.
        process.wait()
    else:
        # It is that process, and stays: nobody waits for it any more.
        process.returncode = 0


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    made = {name: value for name, value in environ.items() if name not in _NOT_ITS}
    if folder := _chosen_folder(environ):
        # It works in another folder than the kernel.
        made["KASAL_DATA_DIR"] = os.path.abspath(folder)  # noqa: PTH100 - it may not exist yet
    return made


def _chosen_folder(environ: Mapping[str, str]) -> str | None:
    chosen = environ.get("KASAL_DATA_DIR")
    return os.path.expanduser(chosen) if chosen else None  # noqa: PTH111 - it is a text in an environment


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            import signal

            # The group outlives the process that was started, which leads it.
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(ASK_SECONDS)


def _exists(pid: int) -> bool:
    import psutil  # type: ignore[import-untyped]

    return bool(psutil.pid_exists(pid))


def _last_lines(log_path: Path, begun_at: int) -> str:
    with log_path.open("rb") as log:
        log.seek(begun_at)
        lines = log.read().decode("utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(lines[-LOG_LINES:]) or "it is empty"


def _started_text(started: Announcement, reason: str | None) -> str:
    why = f"{reason}: started" if reason else "Started"
    ends = (
        f"; it ends after {started.idle_seconds / 60:.0f} minutes without use" if started.idle_seconds else ""
    )
    return f"{why} a private Kasal server for you, data in {started.data_folder}{ends}"


_told: set[tuple[int, str]] = set()
"""The servers and keys that this process's user was told of."""


def _say_missing_keys(there: Announcement, say: Callable[[str], None]) -> None:
    """Tell of keys that were set after the server was started: its runs cannot have them."""
    missing = [name for name in key_names(os.environ) if name not in there.keys]
    new = [name for name in missing if (there.pid, name) not in _told]
    if new:
        _told.update((there.pid, name) for name in new)
        say(
            f"The private server was started without {', '.join(new)}; "
            "`jupyter kasal server stop`, and the next command starts one that has it"
        )
