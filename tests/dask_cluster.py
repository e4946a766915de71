"""A real Dask cluster on loopback: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.server import KEYS
from tests.shared_servers import begin
from tests.shared_zygote import Borrowed

PLAIN = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "false",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
}
"""What keeps a cluster from doing what costs time and is nobody's."""


class DaskCluster:
    """A scheduler, and workers that come and go.

    Parameters
    ----------
    room
        Where its files go.
    slots
        Runs at the same time of each worker.
    """

    def __init__(self, room: Path, *, slots: int = 2) -> None:
        self.room = room
        self.slots = slots
        self.workers: list[subprocess.Popen[bytes] | Borrowed] = []
        self.port = 0
        self.begin()

    def begin(self) -> None:
        """Start a scheduler, where the last one was."""
        self.scheduler = self._start("scheduler", "--port", str(self.port), "--no-dashboard", "--no-show")
        log = self.room / "scheduler.log"
        while "Scheduler at:" not in (told := log.read_text()):
            assert self.scheduler.poll() is None, told
        if not self.port:
            self.port = int(told.split("tcp://127.0.0.1:")[1].split()[0])

    @property
    def address(self) -> str:
        """The scheduler's address."""
        return f"tcp://127.0.0.1:{self.port}"

    def add(self, count: int = 1) -> None:
        """Start workers."""
        for _ in range(count):
            name = f"worker{len(self.workers)}"
            folder = ("--local-directory", str(self.room / name))
            options = (
                "--no-nanny",
                "--no-dashboard",
                "--nthreads",
                "1",
                "--resources",
                f"kasal={self.slots}",
            )
            self.workers.append(self._start("worker", self.address, *options, *folder, name=name))

    def logs(self) -> str:
        """Give all that it has printed."""
        return "".join(path.read_text(errors="replace") for path in self.room.glob("*.log"))

    def kill(self, process: subprocess.Popen[bytes] | Borrowed) -> None:
        """End one of its processes without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def of(self, address: str) -> subprocess.Popen[bytes] | Borrowed:
        """Give the worker that listens at an address."""
        port = int(address.rpartition(":")[2])
        for worker in self.workers:
            if worker.poll() is None:
                listening = psutil.Process(worker.pid).net_connections()
                if any(each.laddr.port == port and each.status == "LISTEN" for each in listening):
                    return worker
        raise AssertionError(f"there is no worker at {address}")

    def close(self) -> None:
        """End all of it."""
        for each in (*self.workers, self.scheduler):
            self.kill(each)

    def _start(self, what: str, *arguments: str, name: str = "") -> subprocess.Popen[bytes] | Borrowed:
        kept = {name: value for name, value in os.environ.items() if name not in KEYS}
        with (self.room / f"{name or what}.log").open("wb") as out:
            command = [f"distributed.cli.dask_{what}", "--host", "127.0.0.1", *arguments]
            return begin(command, kept | PLAIN, out.fileno(), folder=self.room)


def holds(pid: int, words: bytes) -> bool:
    """Say whether a process has words anywhere in its memory."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, modes, *_ = line.split()
            if not modes.startswith("rw"):
                continue
            first, last = (int(part, 16) for part in span.split("-"))
            with contextlib.suppress(OSError, ValueError, OverflowError):
                memory.seek(first)
                if words in memory.read(last - first):
                    return True
    return False


class Proxy:
    """A way to the scheduler that can be stopped, as a network is that has no route any more."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._pairs: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Pass nothing on any more, and say nothing of it."""
        self._open.clear()

    def go_on(self) -> None:
        """Pass on what has come, and what comes."""
        self._open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Proxy]:
        """Serve, while something is done."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._pairs:
                task.cancel()
            await asyncio.gather(*self._pairs, return_exceptions=True)
            await asyncio.sleep(0)

    def _serve(self, reader: Any, writer: Any) -> None:
        self._begin(self._connect(reader, writer))

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._pairs.add(task)
        task.add_done_callback(self._pairs.discard)

    async def _connect(self, reader: Any, writer: Any) -> None:
        try:
            await self._open.wait()
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._to)
        except BaseException:
            writer.close()
            raise
        self._begin(self._pass_on(reader, ours))
        self._begin(self._pass_on(theirs, writer))

    async def _pass_on(self, source: Any, goal: Any) -> None:
        try:
            while data := await source.read(65_536):
                await self._open.wait()
                goal.write(data)
                await goal.drain()
        except OSError:
            pass
        finally:
            goal.close()
