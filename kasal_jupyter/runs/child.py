"""A run's process as the server holds it, and where such processes come from."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil  # type: ignore[import-untyped]

START_TIMEOUT = 180.0
"""Seconds a worker process may take to be warm; the first start after an install compiles CrewAI."""

REAP_TIMEOUT = 5.0
"""Seconds after a kill in which the process's end must have been reported."""


@dataclass(slots=True, eq=False)
class Child:
    """A process that waits for a run's spec on its socket.

    Attributes
    ----------
    sock
        The server's end.
    exited
        Its exit status once it is gone; None where nobody knows.
    """

    pid: int
    sock: socket.socket
    exited: asyncio.Future[int | None]

    def kill(self) -> None:
        """Kill the process and all it has started."""
        if not self.exited.done():
            kill_group(self.pid)
            # Its end is reported by its parent, which might be stuck; nobody is to wait for that for ever.
            asyncio.get_running_loop().call_later(REAP_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


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
    """Kill a process and all it has started.

    On POSIX that is its process group, which it leads. On Windows, which has none, its descendants.
    """
    if sys.platform == "win32":
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    # A child that was forked a moment ago may not have its group yet.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def started(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process in a thread: from a large process that can take long enough to be felt on the loop.

    When cancelled, the process is there for a moment, and killed.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        process = await starting
        kill_group(process.pid)
        await asyncio.to_thread(process.wait)
        raise


def last_words(log: Path) -> str:
    """Give the last line a process wrote, to be shown with an error."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "It wrote nothing."
    return lines[-1][:500] if lines else "It wrote nothing."
