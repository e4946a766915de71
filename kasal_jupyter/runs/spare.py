"""Processes kept in reserve, each for one run: for systems without fork."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from functools import partial
from pathlib import Path

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.runs.child import START_TIMEOUT, Child, last_words, started
from kasal_jupyter.runs.environment import worker_environment


class SpareNursery:
    """Keeps one warm process ahead of the runs.

    Parameters
    ----------
    data_folder
        Where the processes' logs and CrewAI's files go.
    passed
        The names of more variables of this process's environment that runs get.
    """

    def __init__(self, data_folder: Path, passed: Collection[str] = ()) -> None:
        self._folder = data_folder
        self._passed = passed
        self._next: asyncio.Task[Child] | None = None
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether a spare is waiting."""
        return self._next is not None and self._next.done() and not self._next.cancelled()

    async def start(self) -> None:
        """Start a spare, unless there is one, and wait until it is warm."""
        await asyncio.shield(self._spare())

    async def child(self, providers: Collection[str]) -> Child:  # noqa: ARG002 - each loads its own
        """Take the spare, and start the next one."""
        while True:
            spare = self._spare()
            child = await asyncio.shield(spare)
            if self._next is spare:
                self._next = None  # Ours; another caller may have been faster while we waited.
                if not self._closed:
                    self._spare()
                if not child.exited.done():
                    return child
                child.sock.close()

    async def close(self) -> None:
        """End the spare."""
        self._closed = True
        if self._next is None:
            return
        spare, self._next = self._next, None
        spare.cancel()  # Nothing, where it is done.
        try:
            child = await spare
        except (Unavailable, asyncio.CancelledError):
            return
        child.kill()
        await child.exited
        child.sock.close()

    def _spare(self) -> asyncio.Task[Child]:
        failed = self._next is not None and self._next.done() and self._next.exception() is not None
        if self._next is None or failed:
            self._next = asyncio.get_running_loop().create_task(_start(self._folder, self._passed))
        return self._next


async def _start(folder: Path, passed: Collection[str]) -> Child:
    """Start a process and wait until it is warm."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    log = folder / "spare.log"
    try:
        with theirs:
            process = await started(partial(_popen, theirs, folder, log, passed))
    except BaseException:
        ours.close()
        raise
    exited: asyncio.Future[int | None] = loop.create_future()
    # Not on the loop's own pool of threads, which a few long runs would fill.
    threading.Thread(target=_await_exit, args=(process, loop, exited), name="spare", daemon=True).start()
    child = Child(pid=process.pid, sock=ours, exited=exited)
    try:
        said = await asyncio.wait_for(loop.sock_recv(ours, 64), START_TIMEOUT)
    except (OSError, TimeoutError):
        said = b""
    except asyncio.CancelledError:
        child.kill()
        await exited
        ours.close()
        raise
    if not said:
        child.kill()
        await exited
        ours.close()
        raise Unavailable(f"CrewAI could not be started. {last_words(log)}")
    return child


def _await_exit(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, exited: asyncio.Future[int | None]
) -> None:
    status = process.wait()

    def tell() -> None:
        if not exited.done():
            exited.set_result(status)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def _popen(
    theirs: socket.socket, folder: Path, log: Path, passed: Collection[str]
) -> subprocess.Popen[bytes]:
    storage = folder / "crewai"
    storage.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kasal_jupyter.worker.spare"]
    environment = worker_environment(os.environ, folder, passed)
    with log.open("wb") as output:
        if sys.platform == "win32":
            process = subprocess.Popen(  # noqa: S603
                [*command, "-", str(storage.absolute())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
            )
            assert process.stdin is not None
            with process.stdin as pipe:
                pipe.write(theirs.share(process.pid))
            return process
        return subprocess.Popen(  # noqa: S603
            [*command, str(theirs.fileno()), str(storage.absolute())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
