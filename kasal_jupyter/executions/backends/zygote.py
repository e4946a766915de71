"""The server's side of the zygote: starts it, asks it for children, notices its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.executions.backends.child import (
    START_TIMEOUT,
    Child,
    kill_group,
    kill_marked,
    last_words,
    open_engine_log,
    over,
    started,
    worker_environment,
)
from kasal_jupyter.warden import MARK, kill

FORK_SECONDS = 30.0
"""How long the zygote may take to fork: it may be loading what some runs need. Past it, it is replaced."""

LOOK_SECONDS = 1.0
"""How long nothing may come of a fork before it is looked whether the zygote was stopped."""

CLOSE_SECONDS = 4.0
"""How long the zygote's warden may take to end everything."""

Forked = tuple[int, asyncio.Future[int | None]]
"""A child's pid, and its exit status once it has one."""


class ZygoteNursery:
    """Children forked from one warm process.

    Parameters
    ----------
    data_folder
        Where the zygote's log and CrewAI's files go.
    memory
        Bytes that a child may have; 0: any number.
    passed
        The names of more variables of this process's environment that runs get.
    """

    def __init__(self, data_folder: Path, *, memory: int = 0, passed: Collection[str] = ()) -> None:
        self._folder = data_folder
        self._memory = memory
        self._passed = passed
        self._zygote: Zygote | None = None
        self._all: set[Zygote] = set()
        """The zygote, and former ones that still have runs."""
        self._starting: asyncio.Task[Zygote] | None = None
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether the zygote is there and ready."""
        return self._zygote is not None and self._zygote.alive

    async def start(self) -> None:
        """Start the zygote, unless there is one."""
        await self._ready_zygote()

    async def child(self, providers: Collection[str]) -> Child:
        """Fork a child; from a new zygote, if the old one turns out to be dead, or not to answer."""
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
        await asyncio.gather(*(zygote.close() for zygote in list(self._all)))
        if self._starting is not None:
            await asyncio.wait([self._starting])

    async def _ready_zygote(self) -> Zygote:
        if self._closed:
            raise Unavailable("The server is shutting down.")
        if self._zygote is not None and self._zygote.alive:
            return self._zygote
        if self._starting is None:
            # A task of its own: whoever is the first to want it may be cancelled, and others wait for it.
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(self._has_started)
        return await asyncio.shield(self._starting)

    async def _start(self) -> Zygote:
        zygote = Zygote(self._folder, self._memory, self._passed, self._all.discard)
        self._all.add(zygote)
        await zygote.start()
        self._zygote = zygote
        return zygote

    def _has_started(self, starting: asyncio.Task[Zygote]) -> None:
        self._starting = None
        if not starting.cancelled():
            starting.exception()  # Nobody may be waiting any more.


class Zygote:
    """One zygote process and its warden. See :mod:`kasal_jupyter.worker.process.zygote` for what they say.

    Parameters
    ----------
    folder
        The data folder.
    memory
        Bytes that a child may have; 0: any number.
    is_gone
        Told when nothing is left of it.
    """

    program = "kasal_jupyter.worker.process.zygote"

    def __init__(
        self, folder: Path, memory: int, passed: Collection[str], is_gone: Callable[[Zygote], None]
    ) -> None:
        self.alive = False
        self.pid: int | None = None
        """The zygote's own, once it is warm."""
        self._folder = folder
        self._memory = memory
        self._passed = passed
        self._is_gone = is_gone
        self._mark = secrets.token_hex(8)
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._forking = asyncio.Lock()
        self._forked: asyncio.Future[Forked] | None = None
        self._children: dict[int, asyncio.Future[int | None]] = {}
        self._buffer = b""
        self._closed = False
        self._control: socket.socket | None = None
        self._warden: subprocess.Popen[bytes] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process and wait until it is warm.

        Raises
        ------
        Unavailable
            It cannot be started, has died, or took too long.
        """
        try:
            await self._start()
        except OSError as error:
            await self.close()
            reason = error.strerror or str(error)
            raise Unavailable(f"No process can be started for runs: {reason}") from error
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        with open_engine_log(self._folder) as log:
            self._control, theirs = socket.socketpair()
            self._control.setblocking(False)
            with theirs:
                self._warden = await started(partial(self._popen, theirs, log))
            path = Path(log.name)
        if self._closed:
            raise Unavailable("The server is shutting down.")
        self._loop.add_reader(self._control, self._readable)
        try:
            await asyncio.wait_for(self._ready, START_TIMEOUT)
        except (ConnectionError, TimeoutError) as error:
            raise Unavailable(f"CrewAI could not be started. {last_words(path)}") from error
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
            The zygote is dead, or does not answer, and was given up.
        Unavailable
            The system has no room for another process.
        """
        # A task of its own: a child that was asked for is waited for, even when nobody wants it any more.
        forking = self._loop.create_task(self._fork(providers))
        try:
            return await asyncio.shield(forking)
        except asyncio.CancelledError:
            forking.add_done_callback(_unwanted)
            raise

    async def _fork(self, providers: Collection[str]) -> Child:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _refused(error) from error
        ours.setblocking(False)
        try:
            async with self._forking:
                with theirs:
                    forked = self._ask(theirs, providers)
                pid, exited = await self._answer(forked)
            return Child(pid=pid, sock=ours, exited=exited, mark=f"{self._mark}-{pid}")
        except BaseException:
            ours.close()
            theirs.close()
            raise

    def _ask(self, theirs: socket.socket, providers: Collection[str]) -> asyncio.Future[Forked]:
        """Hand over a child's socket."""
        if not self.alive or self._control is None:
            raise ConnectionError("The zygote is gone.")
        line = " ".join(["fork", *sorted(providers)])
        try:
            socket.send_fds(self._control, [f"{line}\n".encode()], [theirs.fileno()])
        except ConnectionError:
            raise
        except OSError as error:
            raise _refused(error) from error
        self._forked = self._loop.create_future()
        return self._forked

    async def _answer(self, forked: asyncio.Future[Forked]) -> Forked:
        end = self._loop.time() + FORK_SECONDS
        while not (await asyncio.wait([forked], timeout=LOOK_SECONDS))[0]:
            if self._loop.time() > end or self._stopped():
                # Its runs live on, below its warden.
                self._give_up()
                if self.pid is not None:
                    kill(self.pid)
        return forked.result()

    def _stopped(self) -> bool:
        import psutil  # type: ignore[import-untyped]

        try:
            return psutil.Process(self.pid).status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
        except psutil.NoSuchProcess:
            return True

    async def close(self) -> None:
        """End the process and all below it, and wait until it is gone."""
        self._closed = True
        self._lose()
        if self._warden is not None:
            await self._end(self._warden)
        self._is_gone(self)

    async def _end(self, warden: subprocess.Popen[bytes]) -> None:
        # It ends everything since its socket has closed, unless it was stopped.
        with contextlib.suppress(OSError):
            os.kill(warden.pid, signal.SIGCONT)
        if not await over(warden, CLOSE_SECONDS):
            kill_group(warden.pid)
            if self.pid is not None:
                kill_group(self.pid)
            await over(warden, CLOSE_SECONDS)
        if warden.returncode is None or warden.returncode < 0:
            # It could not do its work: what has left its group is found by its mark alone.
            await asyncio.to_thread(kill_marked, self._mark)

    def _readable(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # The warden has ended, or was killed.
            self._lose()
            self._closing = self._loop.create_task(self.close())
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take(orjson.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "ready":
                self.pid = message["pid"]
                if not self._ready.done():
                    self._ready.set_result(None)
            case "forked":
                pid, exited = message["pid"], self._loop.create_future()
                if self._forked is None or self._forked.done():
                    kill(pid)  # It comes too late.
                else:
                    self._children[pid] = exited
                    self._forked.set_result((pid, exited))
            case "refused":
                if self._forked is not None and not self._forked.done():
                    self._forked.set_exception(_refused(message["reason"]))
            case "exited":
                ended = self._children.pop(message["pid"], None)
                if ended is not None and not ended.done():
                    ended.set_result(message["status"])
            case "lost":
                self._give_up()

    def _give_up(self) -> None:
        """Ask it for nothing more: it is dead, or as good as that. Its children live."""
        self.alive = False
        for waiting in (self._ready, self._forked):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError("The zygote is gone."))
                waiting.exception()  # Nobody may be waiting any more.

    def _lose(self) -> None:
        """Take it and its warden for dead: nobody can report the children's ends, so they end now."""
        self._give_up()
        if self._control is not None and self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()
        for pid, exited in self._children.items():
            kill_group(pid)
            if not exited.done():
                exited.set_result(None)
        self._children.clear()

    def _popen(self, theirs: socket.socket, log: Any) -> subprocess.Popen[bytes]:
        storage = self._folder / "crewai"
        storage.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-m",
                self.program,
                str(theirs.fileno()),
                str(storage.absolute()),
                str(self._memory),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**worker_environment(os.environ, self._folder, self._passed), MARK: self._mark},
            start_new_session=True,  # The terminal's Ctrl-C is for the server, which asks before it goes.
        )


def _refused(reason: OSError | str) -> Unavailable:
    words = reason if isinstance(reason, str) else reason.strerror or str(reason)
    return Unavailable(f"No process can be started for the run: {words}")


def _unwanted(forking: asyncio.Task[Child]) -> None:
    if not forking.cancelled() and forking.exception() is None:
        forking.result().dispose()
