"""The server's side of the zygote: starts it, asks it for children, notices its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.runs.child import START_TIMEOUT, Child, kill_group, last_words, started
from kasal_jupyter.runs.environment import worker_environment

Forked = tuple[int, asyncio.Future[int | None]]
"""A child's pid, and its exit status once it has one."""


class ZygoteNursery:
    """Children forked from one warm process.

    Parameters
    ----------
    data_folder
        Where the zygote's log and CrewAI's files go.
    passed
        The names of more variables of this process's environment that runs get.
    """

    def __init__(self, data_folder: Path, passed: Collection[str] = ()) -> None:
        self._folder = data_folder
        self._passed = passed
        self._zygote: Zygote | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether the zygote is there and ready."""
        return self._zygote is not None and self._zygote.alive

    async def start(self) -> None:
        """Start the zygote, unless there is one."""
        await self._ready_zygote()

    async def child(self, providers: Collection[str]) -> Child:
        """Fork a child; from a new zygote, if the old one turns out to be dead."""
        for _ in range(2):
            zygote = await self._ready_zygote()
            try:
                return await zygote.fork(providers)
            except ConnectionError:
                continue
        raise Unavailable("The process that starts runs keeps dying.")

    async def close(self) -> None:
        """End the zygote, and with it all its children; also one that is still warming up."""
        self._closed = True
        if self._zygote is not None:
            await self._zygote.close()

    async def _ready_zygote(self) -> Zygote:
        async with self._starting:
            if self._closed:
                raise Unavailable("The server is shutting down.")
            if self._zygote is None or not self._zygote.alive:
                if self._zygote is not None:
                    await self._zygote.close()
                self._zygote = Zygote()
                await self._zygote.start(self._folder, self._passed)
            return self._zygote


class Zygote:
    """One zygote process. See :mod:`kasal_jupyter.worker.zygote` for what is said on its socket."""

    def __init__(self) -> None:
        self.alive = False
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._forking = asyncio.Lock()
        self._forked: asyncio.Future[Forked] | None = None
        self._children: dict[int, asyncio.Future[int | None]] = {}
        self._buffer = b""
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control, self._theirs = socket.socketpair()
        self._control.setblocking(False)

    async def start(self, folder: Path, passed: Collection[str]) -> None:
        """Start the process and wait until it is warm.

        Raises
        ------
        Unavailable
            It died, or took too long.
        """
        log = folder / "zygote.log"
        with self._theirs:
            self._process = await started(partial(_popen, self._theirs, folder, log, passed))
        if self._closed:
            await self.close()
            raise Unavailable("The server is shutting down.")
        self._loop.add_reader(self._control, self._readable)
        try:
            await asyncio.wait_for(self._ready, START_TIMEOUT)
        except (ConnectionError, TimeoutError) as error:
            await self.close()
            raise Unavailable(f"CrewAI could not be started. {last_words(log)}") from error
        self.alive = True

    async def fork(self, providers: Collection[str]) -> Child:
        """Ask for a child.

        Parameters
        ----------
        providers
            Whose models it will ask: their SDKs are loaded for those that come after it.

        Raises
        ------
        ConnectionError
            The zygote is dead.
        Unavailable
            The system has no room for another process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            async with self._forking:
                with theirs:
                    pid, exited = await self._fork_with(theirs, providers)
        except BaseException:
            ours.close()
            raise
        return Child(pid=pid, sock=ours, exited=exited)

    async def _fork_with(self, theirs: socket.socket, providers: Collection[str]) -> Forked:
        """Hand over a child's socket; also when cancelled, not before its child is known."""
        if not self.alive:
            raise ConnectionError("The zygote is gone.")
        self._forked = self._loop.create_future()
        line = " ".join(["fork", *sorted(providers)])
        socket.send_fds(self._control, [f"{line}\n".encode()], [theirs.fileno()])
        try:
            return await asyncio.shield(self._forked)
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionError, Unavailable):
                pid, _ = await self._forked
                kill_group(pid)
            raise

    async def close(self) -> None:
        """End the process, and wait until it is gone; one that is being started ends when it has been."""
        self._closed = True
        self._lose()
        if self._process is not None:
            kill_group(self._process.pid)
            await asyncio.to_thread(self._process.wait)

    def _readable(self) -> None:
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(orjson.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ready":
                if not self._ready.done():
                    self._ready.set_result(None)
            case "forked":
                pid, exited = message["pid"], self._loop.create_future()
                self._children[pid] = exited
                if self._forked is not None and not self._forked.done():
                    self._forked.set_result((pid, exited))
            case "refused":
                if self._forked is not None and not self._forked.done():
                    reason = message["reason"]
                    self._forked.set_exception(
                        Unavailable(f"No process can be started for the run: {reason}")
                    )
            case "exited":
                ended = self._children.pop(message["pid"], None)
                if ended is not None and not ended.done():
                    ended.set_result(message["status"])

    def _lose(self) -> None:
        """Take the zygote for dead: its children have no parent to report their end, so they end now."""
        self.alive = False
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()
        for pid, exited in self._children.items():
            kill_group(pid)
            if not exited.done():
                exited.set_result(None)
        self._children.clear()
        for waiting in (self._ready, self._forked):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError("The zygote is gone."))
                waiting.exception()  # Nobody may be waiting any more.


def _popen(
    theirs: socket.socket, folder: Path, log: Path, passed: Collection[str]
) -> subprocess.Popen[bytes]:
    storage = folder / "crewai"
    storage.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-m",
                "kasal_jupyter.worker.zygote",
                str(theirs.fileno()),
                str(storage.absolute()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=worker_environment(os.environ, folder, passed),
            start_new_session=True,  # The terminal's Ctrl-C is for the server, which asks before it goes.
        )
