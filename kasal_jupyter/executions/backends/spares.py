"""Processes kept in reserve, each for one run: for systems without fork."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.executions.backends.child import (
    REAP_TIMEOUT,
    START_TIMEOUT,
    Child,
    kill_group,
    last_words,
    open_engine_log,
    over,
    started,
    worker_environment,
)
from kasal_jupyter.warden import MARK


class SpareNursery:
    """Keeps one warm process ahead of the runs.

    Parameters
    ----------
    data_folder
        Where the processes' logs and CrewAI's files go.
    memory
        Bytes that a run may have; 0: any number.
    passed
        The names of more variables of this process's environment that runs get.
    """

    program = "kasal_jupyter.worker.process.spare"

    def __init__(self, data_folder: Path, *, memory: int = 0, passed: Collection[str] = ()) -> None:
        self._folder = data_folder
        self._memory = memory
        self._passed = passed
        self._next: asyncio.Task[Child] | None = None
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether a spare is waiting."""
        spare = self._next
        return spare is not None and spare.done() and not spare.cancelled() and not spare.exception()

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
            self._next = asyncio.get_running_loop().create_task(
                _start(self._folder, self._memory, self._passed)
            )
            self._next.add_done_callback(_retrieved)
        return self._next


def _retrieved(starting: asyncio.Task[Child]) -> None:
    if not starting.cancelled():
        starting.exception()  # Nobody may be waiting any more.


async def _start(folder: Path, memory: int, passed: Collection[str]) -> Child:
    """Start a process and wait until it is warm."""
    try:
        return await _started(folder, memory, passed)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"No process can be started for runs: {reason}") from error


async def _started(folder: Path, memory: int, passed: Collection[str]) -> Child:
    loop = asyncio.get_running_loop()
    mark = secrets.token_hex(8)
    environment = {**worker_environment(os.environ, folder, passed), MARK: mark}
    ours, theirs = socket.socketpair()
    process = None
    try:
        ours.setblocking(False)
        with theirs, open_engine_log(folder) as log:
            path = Path(log.name)
            process = await started(partial(_popen, theirs, log, folder, memory, environment))
        pid = await _pid_of(ours, path)
        exited: asyncio.Future[int | None] = loop.create_future()
        _await_exit(process, loop, exited)
        return Child(pid=pid, sock=ours, exited=exited, mark=mark, warden=process.pid)
    except BaseException:
        ours.close()  # By which all of it ends, where it does not by the next line.
        if process is not None and not await over(process, REAP_TIMEOUT):
            kill_group(process.pid)
            await over(process, REAP_TIMEOUT)
        raise


async def _pid_of(sock: socket.socket, log: Path) -> int:
    """Wait until a process is warm."""
    try:
        said = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 64), START_TIMEOUT)
    except (OSError, TimeoutError):
        said = b""
    if not said:
        raise Unavailable(f"CrewAI could not be started. {last_words(log)}")
    return int(said)


def _await_exit(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, exited: asyncio.Future[int | None]
) -> None:
    """Have the future told of the process's end."""

    def tell(status: int) -> None:
        if not exited.done():
            exited.set_result(status)

    def wait() -> None:
        status = process.wait()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, status)

    try:
        # Not on the loop's own pool of threads, which a few long runs would fill.
        threading.Thread(target=wait, name="spare", daemon=True).start()
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _popen(
    theirs: socket.socket, log: Any, folder: Path, memory: int, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    storage = folder / "crewai"
    storage.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", SpareNursery.program]
    arguments = [str(storage.absolute()), str(memory)]
    if sys.platform == "win32":
        process = subprocess.Popen(  # noqa: S603
            [*command, "-", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
        )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(theirs.share(process.pid))
        return process
    return subprocess.Popen(  # noqa: S603
        [*command, str(theirs.fileno()), *arguments],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    )
