"""A run's process as the server holds it, and where such processes come from."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from io import FileIO
from pathlib import Path
from typing import Protocol

from kasal_jupyter.hiding import CERTIFICATES, PROXIES, plain_environment
from kasal_jupyter.warden import MARK

START_TIMEOUT = 180.0
"""Seconds a worker process may take to be warm; the first start after an install compiles CrewAI."""

REAP_TIMEOUT = 5.0
"""Seconds after a kill in which the process's end must have been reported."""

REPORT_SECONDS = 2.5
"""Seconds after a process's end in which whoever is above it must have told its status."""

_LOOK = 0.02


@dataclass(slots=True, eq=False)
class Child:
    """A process that waits for a run's spec on its socket. Made on the event loop.

    Attributes
    ----------
    sock
        The server's end.
    exited
        Its exit status once it is gone; None where nobody knows.
    mark
        What stands in the environment of all that it starts.
    warden
        The process above it, where that is there for this child alone.
    killed
        Whether this server has killed it.
    """

    pid: int
    sock: socket.socket
    exited: asyncio.Future[int | None]
    mark: str
    warden: int | None = None
    killed: bool = False
    _handle: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Look at the process itself, where that can be done: whoever should tell of its end may be stuck."""
        if not hasattr(os, "pidfd_open"):
            return
        loop = asyncio.get_running_loop()
        try:
            self._handle = os.pidfd_open(self.pid)
            loop.add_reader(self._handle, self._seen_to_end)
        except OSError:
            # It is over already, or there are too many open files: its end is told, all the same.
            self._let_go()
        self.exited.add_done_callback(lambda _: self._let_go())

    def kill(self) -> None:
        """Kill the process and its group. What has left the group is ended by the process above."""
        if not self.exited.done():
            self.killed = True
            kill_group(self.pid)
            # Its end is reported by its parent, which might be stuck; nobody is to wait for that for ever.
            asyncio.get_running_loop().call_later(REAP_TIMEOUT, self._give_up)

    def dispose(self) -> None:
        """Kill it before it has become anybody's."""
        self.kill()
        self.sock.close()

    def _seen_to_end(self) -> None:
        self._let_go()
        if not self.exited.done():
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.exited.done():
            return
        if self.warden is not None:
            kill_group(self.warden)
        self.exited.set_result(None)

    def _let_go(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            loop = self.exited.get_loop()
            if not loop.is_closed():
                loop.remove_reader(handle)
            os.close(handle)


class Nursery(Protocol):
    """Where processes for runs come from."""

    @property
    def warm(self) -> bool:
        """Whether a child is to be had at once."""
        ...

    async def start(self) -> None:
        """Get ready.

        Raises
        ------
        Unavailable
            No worker process can be started.
        """
        ...

    async def child(self, providers: Collection[str]) -> Child:
        """Give a fresh child, when one is to be had.

        Parameters
        ----------
        providers
            Whose models it will ask; later children may have their SDKs from the beginning.

        Raises
        ------
        Unavailable
            No worker process can be started.
        """
        ...

    async def close(self) -> None:
        """End all processes that have become no run."""
        ...


def kill_group(pid: int) -> None:
    """Kill a process and its group, which it leads. On Windows, which has none, its descendants."""
    if sys.platform == "win32":
        import psutil  # type: ignore[import-untyped]

        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    # A child that was forked a moment ago may not have its group yet.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_marked(mark: str) -> None:
    """Kill whatever has a run's mark in its environment. It blocks for some milliseconds.

    Where there is no warden, or no longer one, this finds what has left its group and its parent.
    """
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(MARK, "")
            if value == mark or value.startswith(f"{mark}-"):
                process.kill()


async def started(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process in a thread: from a large process that can take long enough to be felt on the loop.

    The thread is its own, since the loop's pool may be full. When cancelled, the process is there for a
    moment, and killed.

    Raises
    ------
    OSError
        The system has no room for it.
    """
    loop = asyncio.get_running_loop()
    starting: asyncio.Future[subprocess.Popen[bytes]] = loop.create_future()

    def tell(process: subprocess.Popen[bytes] | None, error: BaseException | None) -> None:
        if error is not None:
            starting.set_exception(error)
        elif process is not None:
            starting.set_result(process)

    def begin() -> None:
        try:
            process = start()
        except BaseException as error:  # noqa: BLE001 - it is told where it is waited for
            loop.call_soon_threadsafe(tell, None, error)
        else:
            loop.call_soon_threadsafe(tell, process, None)

    try:
        threading.Thread(target=begin, name="start of a process", daemon=True).start()
    except RuntimeError as error:
        raise OSError(str(error)) from error
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        kill_group(process.pid)
        await over(process, REAP_TIMEOUT)
        raise


async def over(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process's end; say whether it came in time."""
    end = asyncio.get_running_loop().time() + seconds
    while process.poll() is None:
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(_LOOK)
    return True


# The environment that worker processes are started with.


def worker_environment(
    environ: Mapping[str, str], data_folder: Path, passed: Collection[str] = ()
) -> dict[str, str]:
    """Make the environment of a worker process.

    A run gets the keys of its own models with its spec, and no others: an agent with a tool that
    prints the environment must find nothing there.

    Parameters
    ----------
    environ
        The server's environment.
    data_folder
        Where the server keeps its data; CrewAI's files go below it.
    passed
        The names of more variables that runs get: the deployer has named them.
    """
    # PYTHONDONTWRITEBYTECODE is not among them: without bytecode CrewAI starts in eight seconds, not three.
    made = plain_environment(environ, also=[*PROXIES, *CERTIFICATES, *passed])
    crewai = importlib.util.find_spec("crewai")
    if crewai is not None and not _compiled_or_writable(crewai):
        made["PYTHONPYCACHEPREFIX"] = str(data_folder.absolute() / "pycache")
    # macOS kills a forked child that touches what its frameworks set up in the parent, unless told not to.
    made["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    made["PYTHONUNBUFFERED"] = "1"
    return made


def _compiled_or_writable(package: ModuleSpec) -> bool:
    if package.origin is None:
        return True
    compiled = Path(importlib.util.cache_from_source(package.origin))
    return compiled.exists() or os.access(Path(package.origin).parent, os.W_OK)


# Where the processes that runs come from print: a file each, since servers may share a data folder.

if sys.platform != "win32":
    import fcntl

KEPT = 5
"""Files of processes that are gone, which are kept for whoever asks why."""

_LAST = 10_000


def open_engine_log(folder: Path) -> FileIO:
    """Make a file for a process to print to, and throw away old ones of processes that are gone.

    The process that inherits it holds its lock, and so tells that it lives.

    Parameters
    ----------
    folder
        The data folder.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _sweep(logs)
    # Appending, so that it can be made short while it is written.
    path = logs / f"engine-{os.getpid()}-{secrets.token_hex(4)}.log"
    path.touch(mode=0o600)
    file = path.open("ab", buffering=0)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # A file system without locks: it may be thrown away early.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def last_words(log: Path) -> str:
    """Give the last line a process wrote, to be shown with an error."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST))
            lines = file.read(_LAST).decode(errors="replace").strip().splitlines()
    except OSError:
        return "It wrote nothing."
    return lines[-1][:500] if lines else "It wrote nothing."


def _sweep(logs: Path) -> None:
    dead: list[tuple[float, Path]] = []
    for path in logs.glob("engine-*.log"):
        with contextlib.suppress(OSError):  # Another server may sweep as well.
            if _nobodys(path):
                dead.append((path.stat().st_mtime, path))
    for _, path in sorted(dead)[:-KEPT]:
        with contextlib.suppress(OSError):
            path.unlink()


def _nobodys(path: Path) -> bool:
    if sys.platform == "win32":
        return True  # A file that somebody has open cannot be removed there.
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
