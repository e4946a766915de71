"""Runs on this machine, each in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, cast

from kasal_jupyter.errors import KasalError, WorkerLost
from kasal_jupyter.executions.backends.backend import Exit, OnExit, OnLines
from kasal_jupyter.executions.backends.child import Child, Nursery, kill_marked
from kasal_jupyter.executions.backends.spares import SpareNursery
from kasal_jupyter.executions.backends.zygote import ZygoteNursery
from kasal_jupyter.places import SMALL
from kasal_jupyter.schemas.spec import FAILED_TO_START, UNSENT, RunMessage, RunSpec

READ_SIZE = 65_536
"""Most bytes taken from one run in a turn of the loop: a burst of one must not hold up the others."""

MAX_LINE = 64_000_000
"""Bytes of one event beyond which a run is taken for mad, and killed."""

STOP_GRACE = 0.3
"""Seconds a run that was asked to stop has before it is killed."""

DRAIN_TIMEOUT = 5.0
"""Seconds after a process's end in which its last lines must have come."""

OUT_OF_MEMORY = "OUT_OF_MEMORY"
"""The code of a run's failure for want of memory."""

_SIGKILL = 9

_SAID = {
    FAILED_TO_START: "could not begin: the engine's log, in the data folder's logs, tells why",
    UNSENT: "could not send all of its events",
}
"""What a process says of itself by its status."""

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
    max_memory
        Bytes that a run's process, and each that it starts, may have beside what the warm one has; 0: any
        number. Where the system can limit that: on Linux.
    passed
        The names of variables of this process's environment that runs get besides the usual ones.
    """

    def __init__(
        self,
        data_folder: Path,
        *,
        start_method: StartMethod | None = None,
        max_memory: int = 0,
        passed: Collection[str] = (),
    ) -> None:
        method = start_method or ("spawn" if sys.platform == "win32" else "fork")
        kind = ZygoteNursery if method == "fork" else SpareNursery
        self._nursery: Nursery = kind(data_folder, memory=max_memory, passed=passed)
        self._runs: set[LocalRun] = set()
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether a run launched now starts at once."""
        return self._nursery.warm

    @property
    def places(self) -> int | None:
        """As many as this machine holds."""
        return None

    async def start(self) -> None:
        """Warm a worker process up, which takes some seconds.

        Raises
        ------
        Unavailable
            CrewAI cannot be started here.
        """
        await self._nursery.start()

    async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> LocalRun:
        """Start a run; see :meth:`kasal_jupyter.executions.backends.backend.Backend.launch`.

        Raises
        ------
        Unavailable
            CrewAI cannot be started here.
        WorkerLost
            The backend was closed, or something else has failed. Neither callback will be called.
        """
        try:
            return await self._launch(spec, on_lines, on_exit)
        except KasalError:
            raise
        except Exception as error:
            # The border to other processes: whatever it is, it is one run's misfortune.
            log.exception("A run could not be launched")
            raise WorkerLost(f"No process can be started for the run: {error}") from error

    async def _launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> LocalRun:
        self._require_open()
        message = RunMessage(type="run", spec=spec)
        line = _line(message) if spec.size <= SMALL else await asyncio.to_thread(_line, message)
        # The sandbox's models are always there.
        providers = {model.provider for model in spec.models.values()} - {"sandbox"}
        child = await self._nursery.child(providers)
        try:
            self._require_open()
        except WorkerLost:
            child.dispose()
            raise
        run = LocalRun(child, on_lines, on_exit, ended=self._runs.discard)
        self._runs.add(run)
        try:
            await asyncio.get_running_loop().create_connection(lambda: run, sock=child.sock)
            run.write(line)
        except BaseException:
            run.disown()
            raise
        return run

    def _require_open(self) -> None:
        if self._closed:
            raise WorkerLost("The server is shutting down.")

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
        See :mod:`kasal_jupyter.executions.backends.backend`.
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
        self._reason: str | None = None
        self._killed_before = _killed_for_memory()
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
        self.write(_line(message))

    def write(self, line: bytes) -> None:
        """Send the run a message as it is written."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)

    async def stop(self) -> None:
        """End the run: ask it, and 300 ms later kill it and all it has started. Returns when it is gone."""
        self.send(RunMessage(type="stop"))
        await asyncio.wait([self._child.exited], timeout=STOP_GRACE)
        self.kill()
        await self.gone()

    def disown(self) -> None:
        """Kill the run before anybody has a handle of it, or hears of it."""
        self._on_exit = lambda _: None
        self._on_lines = lambda _: None
        self.kill()

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
                self._reason = f"wrote an event of more than {MAX_LINE / 1_000_000:g} MB, and was killed"
                self._partial.clear()
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
        if not sys.platform.startswith("linux"):
            # No process above sees there what has left the run's group.
            await asyncio.to_thread(kill_marked, self._child.mark)
        # A process it left behind could hold the socket open; whoever is above kills it at this moment.
        await asyncio.wait([self._silent], timeout=DRAIN_TIMEOUT)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._child.sock.close()
        self._ended(self)
        self._on_exit(self._exit(status))

    def _exit(self, status: int | None) -> Exit:
        if self._reason is not None or status != -_SIGKILL or self._child.killed:
            return Exit(status, self._reason or _SAID.get(status or 0))
        if _killed_for_memory() > self._killed_before:
            return Exit(status, "was out of memory: the system has killed it", code=OUT_OF_MEMORY)
        return Exit(status, "was killed from outside, most likely for want of memory")


def _line(message: RunMessage) -> bytes:
    return message.model_dump_json().encode() + b"\n"


def _killed_for_memory() -> int:
    """Give how many processes the system has killed because its memory, or a container's, had run out."""
    try:
        with Path("/proc/vmstat").open(encoding="ascii") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
    except OSError:  # Not Linux.
        return 0
