"""A Dask worker's part: it hosts runs, each in a child of a warm zygote of its own.

A server submits a task for each run, which takes a slot (the resource ``kasal``) and says so. Only then the
server says what is to be run, once, so that a task which Dask starts a second time starts nothing: whoever
asks again is given nothing. What a run says is written to a spool here before it is told, numbered, and stays
until the server has it; whatever becomes of the server, the run goes on.

Everything here is called on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
import shutil
import time
from array import array
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from kasal_jupyter.errors import KasalError
from kasal_jupyter.executions.artifacts import list_artifacts, open_artifact
from kasal_jupyter.executions.backends.backend import Exit
from kasal_jupyter.executions.backends.baggage import FOLDER, Piece, settled, unpack
from kasal_jupyter.executions.backends.dask_cluster import HOSTS, RESOURCE
from kasal_jupyter.executions.backends.local import LocalBackend, LocalRun
from kasal_jupyter.executions.backends.sealed import Channel, new_pair, public_half
from kasal_jupyter.places import Chores
from kasal_jupyter.schemas.spec import NOTE, RunMessage, RunSpec
from kasal_jupyter.tools.workspace import LOG_NAME
from kasal_jupyter.version import __version__

SLOTS_PER_THREAD = 4
"""Runs that a worker takes at the same time for each of its threads, where nobody says how many."""

INLINE = 16_384
"""Bytes of events that are pushed; more are fetched, since the scheduler keeps 1,000 of what is pushed."""

PAGE = 1 << 20
"""About how many bytes of events, or of a file, one answer has."""

PUSH_SECONDS = 0.004
"""How long events are gathered where others were told just before."""

BEGIN_SECONDS = 20.0
"""How long a run with a slot waits to be told what it is; its server is gone then, or has stopped it."""

HELLO_SECONDS = 1.0
"""After which a run with a slot says so again."""

KEEP_SECONDS = 86_400.0
"""How long what an ended run has said is kept for a server that has not taken it."""

REPORTED = ("crewai", "openai", "anthropic", "litellm", "numpy", "pandas", "pydantic", "distributed", "mcp")
"""Packages whose versions are told: what a run's tools and models hang on most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a worker hosts runs; the first server that comes decides.

    Attributes
    ----------
    slots
        Runs at the same time; 0: as many as the worker was started with, or some a thread.
    max_memory
        Bytes of memory that a run may have; 0: any number.
    passed
        Names of variables of the worker's environment that runs get.
    """

    slots: int = 0
    max_memory: int = 0
    passed: tuple[str, ...] = ()


async def settle(worker: Any, settings: HostSettings) -> None:
    """Have a worker host runs, unless it does."""
    if RESOURCE not in worker.extensions:
        host = worker.extensions[RESOURCE] = Host(worker, settings)
        worker.handlers[RESOURCE] = host.serve
        await host.begin()


async def unsettle(worker: Any) -> None:
    """End all runs of a worker that is going."""
    host = worker.extensions.pop(RESOURCE, None)
    if host is not None:
        await host.close()


async def hold(ticket: dict[str, Any]) -> str:
    """Hold a slot for a run until it has ended: the task that a server submits.

    Parameters
    ----------
    ticket
        Which run it is, and where it is to be told of; nothing of what it does.
    """
    from distributed import get_worker

    host: Host = get_worker().extensions[RESOURCE]
    return await host.hold(ticket)


def packages() -> dict[str, str]:
    """Give the versions of what runs hang on, here."""
    found = {"python": platform.python_version(), "kasal_jupyter": __version__}
    for name in REPORTED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Host:
    """One worker's runs.

    Parameters
    ----------
    worker
        Dask's.
    settings
        How it hosts them.
    """

    def __init__(self, worker: Any, settings: HostSettings) -> None:
        self.worker = worker
        self.folder = Path(worker.local_directory) / "kasal"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        given = worker.state.total_resources.get(RESOURCE)
        self.slots = int(given or settings.slots or SLOTS_PER_THREAD * worker.state.nthreads)
        self.backend = LocalBackend(self.folder, max_memory=settings.max_memory, passed=settings.passed)
        self.runs: dict[str, HostedRun] = {}
        self.chores = Chores()
        self._fault = ""

    async def begin(self) -> None:
        """Offer the slots, and warm up in the background."""
        await self.worker.set_resources(**{RESOURCE: self.slots})
        self.chores.begin(self._warm())

    async def close(self) -> None:
        """End all runs."""
        await self.backend.close()
        for run in list(self.runs.values()):
            run.forget()

    async def _warm(self) -> None:
        try:
            await self.backend.start()
        except KasalError as error:
            log.exception("the engine cannot be started on this worker")
            self._fault = error.message
        self.tell()

    @property
    def free(self) -> int:
        """How many runs more it would take now."""
        return self.slots - sum(not run.over for run in self.runs.values())

    def state(self) -> dict[str, Any]:
        """Say what it offers."""
        host = self.worker.address
        warm = self.backend.warm
        return {"host": host, "slots": self.slots, "free": self.free, "warm": warm, "fault": self._fault}

    def tell(self) -> None:
        """Tell all servers what it offers."""
        self.worker.log_event(HOSTS, self.state())

    async def hold(self, ticket: Mapping[str, Any]) -> str:
        """See to a run that has got a slot, until it has ended."""
        from distributed.worker_state_machine import SecedeEvent

        # It waits, and takes none of the threads that others' tasks compute in.
        away = SecedeEvent(key=ticket["key"], compute_duration=0.01, stimulus_id=f"kasal-{time.time()}")
        self.worker.handle_stimulus(away)
        run = HostedRun(self, ticket)
        self.runs[run.place] = run
        self.tell()
        try:
            return await run.live()
        finally:
            run.over = True
            self.tell()
            if run.begun:
                asyncio.get_running_loop().call_later(KEEP_SECONDS, run.forget)
            else:
                run.forget()

    async def serve(self, ask: str, place: str = "", **asked: Any) -> dict[str, Any]:
        """Answer a server."""
        if ask == "state":
            home = asked["home"]
            mine = [run for run in self.runs.values() if run.home == home and run.begun]
            return {**self.state(), "runs": {run.place: run.about() for run in mine}}
        if ask == "report":
            return {**self.state(), "packages": packages()}
        run = self.runs.get(place)
        if run is None:
            return {"error": "unknown"}
        try:
            return await run.serve(ask, **asked)
        except KasalError as error:
            return {"error": error.code, "message": error.message}
        except (OSError, ValueError) as error:
            log.exception("%s of a run could not be answered", ask)
            return {"error": "WORKER_LOST", "message": str(error)}


class HostedRun:
    """A run that has a slot of this worker.

    Parameters
    ----------
    host
        The worker's.
    ticket
        What the server's task has brought.
    """

    def __init__(self, host: Host, ticket: Mapping[str, Any]) -> None:
        self.place: str = ticket["place"]
        self.job_id: str = ticket["job_id"]
        self.home: bytes = ticket["home"]
        self.begun = False
        """Whether it was told what it is."""
        self.over = False
        """Whether its slot is free again."""
        self._host = host
        self._topic: str = ticket["topic"]
        pair = new_pair()
        self.public = public_half(pair)
        self._channel = Channel(pair, self.home, self.place)
        self._room = host.folder / self.place
        self._room.mkdir(mode=0o700)
        self._folder = self._room / FOLDER
        self._folder.mkdir(mode=0o700)
        self._spool = os.open(self._room / "spool", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._ends = array("Q")  # Where each line ends in the spool.
        self._digests: list[bytes] = []
        self._notes: list[tuple[int, int]] = []  # Where the run has asked to hear what is recorded.
        self._told = 0
        self._told_at = 0.0
        self._push: asyncio.TimerHandle | None = None
        self._heard = 0
        self._unheard: list[RunMessage] = []
        self._run: LocalRun | None = None
        self._launching: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended: Exit | None = None
        loop = asyncio.get_running_loop()
        self._patience = loop.time() + BEGIN_SECONDS
        self._gone: asyncio.Future[None] = loop.create_future()

    async def live(self) -> str:
        """Say that there is a slot, wait to be told what to run, and for its end."""
        loop = asyncio.get_running_loop()
        while not self.begun and not self._gone.done() and loop.time() < self._patience:
            self._say({"hello": self.public, "host": self._host.worker.address})
            await asyncio.wait([self._gone], timeout=HELLO_SECONDS)
        if self.begun:
            await asyncio.shield(self._gone)
            return "over"
        return "not begun"

    def about(self) -> dict[str, Any]:
        """Say which run it is, and how far it has come."""
        return {
            "job_id": self.job_id,
            "public": self.public,
            "lines": len(self._ends),
            "heard": self._heard,
            "over": self._ended is not None,
        }

    def forget(self) -> None:
        """Throw away all there is of it."""
        if self._host.runs.pop(self.place, None) is not None:
            self._topic = ""
            os.close(self._spool)
            shutil.rmtree(self._room, ignore_errors=True)

    async def serve(self, ask: str, sealed: bytes = b"", **asked: Any) -> dict[str, Any]:
        """Answer the run's server."""
        match ask:
            case "pack":
                self._patience = asyncio.get_running_loop().time() + BEGIN_SECONDS
                header, data = parted(self._channel.open(sealed, "pack"))
                await asyncio.to_thread(unpack, Piece(header["name"], data), self._room)
            case "begin":
                self._begin(self._channel.open(sealed, "begin"))
            case "tell":
                self._hear(orjson.loads(self._channel.open(sealed, "tell")))
            case "stop":
                self._channel.open(sealed, "stop")
                await self._stop()
            case "topic":
                self._topic = self._channel.open(sealed, "topic").decode()
            case "read":
                return {"sealed": self._read(asked["after"])}
            case "marks":
                marks = b"".join(self._digests[asked["after"] : asked["after"] + PAGE // 8])
                return {"marks": marks, "lines": len(self._digests), "notes": self._notes}
            case "files":
                files = await asyncio.to_thread(self._files)
                return {"sealed": self._channel.seal(orjson.dumps(files), "files")}
            case "file":
                data = await asyncio.to_thread(self._file, self._channel.open(sealed, "name"), asked["after"])
                return {"sealed": self._channel.seal(data, "file")}
            case "done":
                self.forget()
            case _:
                return {"error": "unknown"}
        return {}

    def _begin(self, message: bytes) -> None:
        """Begin it, once, however often that is said; the engine may have to be loaded first."""
        if not self.begun:
            header, data = parted(message)
            spec = settled(RunSpec.model_validate_json(data), self._room, skew=header["now"] - time.time())
            self.begun = True
            self._launching = self._host.chores.begin(self._launch(spec))

    async def _launch(self, spec: RunSpec) -> None:
        try:
            self._run = await self._host.backend.launch(spec, self._take, self._end)
        except KasalError as error:
            self._end(Exit(None, error.message, code=error.code))
            return
        unheard, self._unheard = self._unheard, []
        for message in unheard:
            self._run.send(message)
        if self._stopping:
            await self._run.stop()

    def _hear(self, told: list[Any]) -> None:
        """Pass on what the server has to say; what was sent again is known by its number."""
        for number, message in told:
            if number > self._heard:
                self._heard = number
                said = RunMessage.model_validate(message)
                if self._run is not None:
                    self._run.send(said)
                else:
                    self._unheard.append(said)

    async def _stop(self) -> None:
        self._stopping = True
        if self._run is not None:
            await self._run.stop()
        elif not self._gone.done():
            # It is ended as it comes.
            self._end(Exit(None))

    # -- what it says --------------------------------------------------------------------------------

    def _take(self, lines: list[bytes]) -> None:
        written = os.fstat(self._spool).st_size if not self._ends else self._ends[-1]
        data = memoryview(b"".join(line + b"\n" for line in lines))
        while data:
            data = data[os.write(self._spool, data) :]
        for line in lines:
            written += len(line) + 1
            self._ends.append(written)
            self._digests.append(digest(line))
            if line.startswith(NOTE):
                self._notes.append((len(self._ends), orjson.loads(line)["note"]))
        self._push_soon()

    def _end(self, ended: Exit) -> None:
        if self._ended is None:
            self._ended = ended
            self._push_soon()
        if not self._gone.done():
            self._gone.set_result(None)

    def _push_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._push is None:
            wait = max(0.0, self._told_at + PUSH_SECONDS - loop.time())
            self._push = loop.call_later(wait, self._push_now)

    def _push_now(self) -> None:
        self._push = None
        self._told_at = asyncio.get_running_loop().time()
        if self._topic:
            page = self._page(self._told, INLINE, whole=False)
            self._told = len(self._ends)
            self._say({"sealed": page})

    def _say(self, message: dict[str, Any]) -> None:
        self._host.worker.log_event(self._topic, {"place": self.place, **message})

    def _read(self, after: int) -> bytes:
        return self._page(after, PAGE, whole=True)

    def _page(self, after: int, most: int, *, whole: bool) -> bytes:
        """Give the lines behind one, as many as fit; where not all do, and it is to be whole, none."""
        last = len(self._ends)
        first = self._ends[after - 1] if after else 0
        if last > after and self._ends[-1] - first > most:
            last = after
            if whole:
                while last < len(self._ends) and (last == after or self._ends[last] - first <= most):
                    last += 1
        data = os.pread(self._spool, (self._ends[last - 1] if last else 0) - first, first)
        pid = self._run.pid if self._run is not None else 0
        header: dict[str, Any] = {"after": after, "lines": len(self._ends), "pid": pid}
        if self._ended is not None:
            ended = self._ended
            header["exit"] = {"status": ended.status, "reason": ended.reason, "code": ended.code}
        return self._channel.seal(orjson.dumps(header) + b"\n" + data, "lines")

    # -- what it writes ------------------------------------------------------------------------------

    def _files(self) -> list[tuple[str, int]]:
        found = [(info.name, info.size) for info in list_artifacts(self._folder)]
        with suppress(OSError):
            found.append((LOG_NAME, (self._folder / LOG_NAME).stat().st_size))
        return found

    def _file(self, name: bytes, after: int) -> bytes:
        with self._open(name.decode()) as file:
            file.seek(after)
            return file.read(PAGE)

    def _open(self, name: str) -> BinaryIO:
        if name == LOG_NAME:
            # It is no artifact: the run's own process writes it, and not through a link.
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
            return os.fdopen(os.open(self._folder / LOG_NAME, flags), "rb")
        return open_artifact(self._folder, name).file


def digest(line: bytes) -> bytes:
    """Give what a line is known by."""
    return hashlib.blake2b(line, digest_size=8).digest()


def parted(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a message apart: a line of JSON, and what is behind it."""
    header, _, data = message.partition(b"\n")
    return orjson.loads(header), data
