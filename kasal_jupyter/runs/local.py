"""Runs on this machine, each in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, cast

import orjson

from kasal_jupyter.errors import WorkerLost
from kasal_jupyter.runs.backend import Exit, OnExit, OnLines
from kasal_jupyter.runs.child import Child, Nursery
from kasal_jupyter.runs.spare import SpareNursery
from kasal_jupyter.runs.zygote import ZygoteNursery
from kasal_jupyter.schemas.spec import RunMessage, RunSpec

READ_SIZE = 65_536
"""Most bytes taken from one run in a turn of the loop: a burst of one must not hold up the others."""

MAX_LINE = 64_000_000
"""Bytes of one event beyond which a run is taken for mad, and killed."""

STOP_GRACE = 0.3
"""Seconds a run that was asked to stop has before it is killed."""

DRAIN_TIMEOUT = 5.0
"""Seconds after a process's end in which its last lines must have come."""

StartMethod = Literal["fork", "spawn"]

log = logging.getLogger(__name__)


class LocalBackend:
    """Launches runs on this machine.

    Parameters
    ----------
    data_folder
        Where the worker processes keep their logs and CrewAI its files.
    start_method
        ``fork`` from a warm zygote (the default, where there is a fork), or ``spawn``: a warm process in
        reserve.
    passed
        The names of variables of this process's environment that runs get besides the usual ones.
    """

    def __init__(
        self, data_folder: Path, *, start_method: StartMethod | None = None, passed: Collection[str] = ()
    ) -> None:
        method = start_method or ("spawn" if sys.platform == "win32" else "fork")
        nursery = ZygoteNursery if method == "fork" else SpareNursery
        self._nursery: Nursery = nursery(data_folder, passed)
        self._runs: set[LocalRun] = set()
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether a run launched now starts at once."""
        return self._nursery.warm

    async def start(self) -> None:
        """Warm a worker process up, which takes some seconds.

        Raises
        ------
        Unavailable
            CrewAI cannot be started here.
        """
        await self._nursery.start()

    async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> LocalRun:
        """Start a run; see :meth:`kasal_jupyter.runs.backend.Backend.launch`.

        Raises
        ------
        Unavailable
            CrewAI cannot be started here.
        WorkerLost
            The backend was closed.
        """
        if self._closed:
            raise WorkerLost("The server is shutting down.")
        # The sandbox's models are always there.
        providers = {model.provider for model in spec.models.values()} - {"sandbox"}
        child = await self._nursery.child(providers)
        run = LocalRun(child, on_lines, on_exit, ended=self._runs.discard)
        self._runs.add(run)
        try:
            await asyncio.get_running_loop().create_connection(lambda: run, sock=child.sock)
        except BaseException:
            run.kill()  # Nobody will have a handle to do it with.
            raise
        run.send(RunMessage(type="run", spec=spec))
        return run

    async def close(self) -> None:
        """Kill every run and end the worker processes."""
        self._closed = True
        runs = list(self._runs)
        for run in runs:
            run.kill()
        await asyncio.gather(*(run.gone() for run in runs))
        await self._nursery.close()


class LocalRun(asyncio.BufferedProtocol):
    """A run's process, and what it says.

    Parameters
    ----------
    child
        The process.
    on_lines, on_exit
        See :mod:`kasal_jupyter.runs.backend`.
    ended
        Told when the run is over.
    """

    def __init__(
        self, child: Child, on_lines: OnLines, on_exit: OnExit, *, ended: Callable[[LocalRun], None]
    ) -> None:
        self._child = child
        self._on_lines = on_lines
        self._on_exit = on_exit
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self._incoming = memoryview(bytearray(READ_SIZE))
        self._partial = bytearray()
        loop = asyncio.get_running_loop()
        self._silent: asyncio.Future[None] = loop.create_future()
        self._over = loop.create_task(self._see_off())

    @property
    def pid(self) -> int:
        """The process that executes the run; the leader of its group."""
        return self._child.pid

    def send(self, message: RunMessage) -> None:
        """Send the run a message; nothing happens when it is over."""
        if self._transport is not None and not self._transport.is_closing():
            line = orjson.dumps(message.model_dump(mode="json"), default=str)
            self._transport.write(line + b"\n")

    async def stop(self) -> None:
        """End the run: ask it, and 300 ms later kill it and all it has started. Returns when it is gone."""
        self.send(RunMessage(type="stop"))
        await asyncio.wait([self._child.exited], timeout=STOP_GRACE)
        self.kill()
        await self.gone()

    def kill(self) -> None:
        """Kill the run and all it has started."""
        self.resume_reading()  # Its end is seen at the end of what it has written.
        self._child.kill()

    async def gone(self) -> None:
        """Wait until the process is gone and everything it said has been handed on."""
        await asyncio.shield(self._over)

    def pause_reading(self) -> None:
        """Take no more lines for now; the run waits when its socket is full."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take lines again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give room for the next bytes; called by the loop."""
        del sizehint
        return self._incoming

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on the lines that are complete; called by the loop."""
        data = self._incoming[:nbytes].tobytes()
        end = data.rfind(b"\n")
        if end < 0:
            self._partial += data
            if len(self._partial) > MAX_LINE:
                log.error("Run process %d wrote a line of more than %d bytes; killed.", self.pid, MAX_LINE)
                self.kill()
            return
        lines = (bytes(self._partial) + data[:end]).split(b"\n")
        self._partial = bytearray(data[end + 1 :])
        self._on_lines(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come; called by the loop. A last line that is not whole is dropped."""
        del exc
        if not self._silent.done():
            self._silent.set_result(None)

    async def _see_off(self) -> None:
        """Wait for the end of the process and of its words, and tell."""
        status = await self._child.exited
        # A process it left behind could hold the socket open; the kill of its group should have seen to that.
        await asyncio.wait([self._silent], timeout=DRAIN_TIMEOUT)
        if self._transport is not None:
            self._transport.abort()
        self._ended(self)
        self._on_exit(Exit(status))
