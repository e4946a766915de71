"""Runs on the workers of a Dask cluster, which outlive this server.

::

    launch   submit a task that takes a slot      → the worker says that it has one (hello)
             send what the run needs, then the run itself, once (begin)
             its events: pushed by the scheduler as they come, or fetched from the worker's spool where they
             are many, where some were lost, and where nobody listened

The task knows an id and a public key. What a run is told and what it says is sealed (:mod:`~.sealed`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.errors import KasalError, Unavailable, WorkerLost
from kasal_jupyter.executions.backends.backend import Exit, OnExit, OnLines, RunHandle
from kasal_jupyter.executions.backends.baggage import Piece, packed, unpack
from kasal_jupyter.executions.backends.dask_cluster import RESOURCE, Cluster, Refused, Where
from kasal_jupyter.executions.backends.dask_host import HostSettings, digest, packages, parted
from kasal_jupyter.executions.backends.sealed import Channel, folders_pair, public_half
from kasal_jupyter.places import Chores
from kasal_jupyter.schemas.cluster import ClusterReport, ClusterWorker
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.spec import NOTE, RunMessage, RunSpec

READY_SECONDS = 10.0
"""How long a launch waits for a cluster that is not there, and a run of another server's to be found."""

STOP_SECONDS = 0.9
"""How long the end of a run is waited for; a worker that does not answer ends it when it can again."""

STOP_TRIES = 600
"""How often, a second apart, a run is tried to be stopped that is lost."""

AHEAD = 4
"""Runs that wait for the first worker of a cluster which has none yet: one that adapts sees that they do."""

MOST_FILES_BYTES = 1 << 30
"""Most bytes of files that are fetched of a run."""

GONE = "The cluster's worker that ran it is gone, or cannot be reached; `%kasal resume` goes on with it"

log = logging.getLogger(__name__)


class DaskBackend:
    """Launches runs on a Dask cluster.

    Parameters
    ----------
    data_folder
        The server's: its key is kept there, and the files of runs come back there.
    where
        Which cluster.
    slots
        Runs at the same time of each worker; 0: what the worker says.
    max_memory, passed
        See :class:`~.local.LocalBackend`; both are of the workers' machines.
    """

    def __init__(
        self,
        data_folder: Path,
        where: Where,
        *,
        slots: int = 0,
        max_memory: int = 0,
        passed: Collection[str] = (),
    ) -> None:
        self._folder = data_folder
        self._where = where
        self._settings = HostSettings(slots, max_memory, tuple(passed))
        self._made: Cluster | None = None
        self._runs: dict[str, DaskRun] = {}
        self._waiting: deque[DaskRun] = deque()
        self._coming: Counter[str] = Counter()
        self._found: dict[str, tuple[str, dict[str, Any]]] = {}
        self._attaching = 0
        self._chores = Chores()
        self._closed = False

    @property
    def warm(self) -> bool:
        """Whether a run launched now starts at once."""
        return any(host.warm and host.free > 0 for host in self.cluster.hosts.values())

    @property
    def places(self) -> int | None:
        """How many runs of this server fit at the same time; None where nobody is connected to tell."""
        if not self.cluster.connected:
            return None
        free = sum(host.free for host in self.cluster.hosts.values())
        return free + sum(run.begun for run in self._runs.values())

    @property
    def cluster(self) -> Cluster:
        """The cluster, which is made when it is first asked for."""
        if self._made is None:
            self._pair = folders_pair(self._folder)
            self._made = Cluster(self._where, public_half(self._pair), lambda: self._settings, self)
        return self._made

    async def start(self) -> None:
        """Connect to the cluster, and have its workers warm up.

        Raises
        ------
        Unavailable
            It cannot be reached; it is tried again all the same.
        """
        await self.cluster.ready(READY_SECONDS)

    async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> DaskRun:
        """Start a run; see :meth:`kasal_jupyter.executions.backends.backend.Backend.launch`.

        Raises
        ------
        Unavailable
            The cluster cannot be reached.
        WorkerLost
            The worker that had a slot for it was lost before it began.
        """
        await self.cluster.ready(READY_SECONDS)
        if self._closed:
            raise WorkerLost("The server is shutting down.")
        place, folder = secrets.token_hex(8), Path(spec.folder)
        run = DaskRun(self, place, spec.job_id, folder, on_lines=on_lines, on_exit=on_exit)
        self._runs[run.place] = run
        self._waiting.append(run)
        try:
            self.changed()
            await run.slot
            await run.begin(spec)
        except BaseException:
            self._take_back(run)
            raise
        return run

    def let_go(self, handle: RunHandle) -> None:
        """Have a run go on without this server."""
        assert isinstance(handle, DaskRun)
        handle.let_go()
        self._runs.pop(handle.place, None)

    async def close(self) -> None:
        """Let go of the cluster. Runs that have not begun will not; those that have, go on."""
        self._closed = True
        for run in list(self._runs.values()):
            if not run.begun:
                self._take_back(run)
        await self._chores.finish(1.0)
        if self._made is not None:
            await self._made.close()

    # -- slots ---------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Take the slots that there are for the runs that wait, the first first."""
        while self._waiting and self.cluster.connected:
            address = self._next_host()
            if address is None:
                return
            self._submit(self._waiting.popleft(), address)

    def _next_host(self) -> str | None:
        """Find a worker with a free slot, else one where nobody of ours waits for the next.

        That one run waits on each worker has its slot be taken at once when it comes free, and Dask give it
        to the server that has the fewest.
        """
        hosts = [host for host in self.cluster.hosts.values() if not host.fault]
        if not hosts:
            return "" if self._coming[""] < AHEAD else None
        free = {host.address: host.free - self._coming[host.address] for host in hosts}
        best = max(free, key=free.__getitem__)
        if free[best] > 0:
            return best
        return next((address for address in free if not self._coming[address]), None)

    def _submit(self, run: DaskRun, address: str) -> None:
        run.address = address
        self._coming[address] += 1
        run.came = lambda: self._has_come(address)
        key = f"kasal-{run.place}-{secrets.token_hex(2)}"
        ticket = {
            "key": key,
            "place": run.place,
            "job_id": run.job_id,
            "home": self.cluster.home,
            "topic": self.cluster.topic,
        }
        # Who has the most there waits the longest.
        mine = sum(other.begun for other in self._runs.values())
        run.future = self.cluster.client.submit(
            task(),
            ticket,
            key=key,
            pure=False,
            resources={RESOURCE: 1},
            workers=[address] if address else None,
            allow_other_workers=False,
            priority=-mine,
        )
        self._chores.begin(self._watch(run, run.future))

    def _has_come(self, address: str) -> None:
        self._coming[address] -= 1
        self.changed()

    async def _watch(self, run: DaskRun, future: Any) -> None:
        """Hear of a task that could not even say that it has a slot."""
        try:
            await future
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - a border: whatever a worker's environment raises
            if run.future is future and not run.slot.done():
                run.slot.set_exception(Unavailable(f"The cluster cannot run it: {error}"))

    def _take_back(self, run: DaskRun) -> None:
        """Have a run not begin."""
        if run in self._waiting:
            self._waiting.remove(run)
        self._runs.pop(run.place, None)
        run.disown()

    # -- what the cluster says -----------------------------------------------------------------------

    def frame(self, message: dict[str, Any]) -> None:
        """Hear what a run has said."""
        run = self._runs.get(message["place"])
        if run is not None and "hello" in message:
            run.has_slot(Channel(self._pair, message["hello"], run.place), message["host"])
        elif run is not None:
            run.hear(message["sealed"])

    def runs_of(self, address: str, runs: dict[str, dict[str, Any]]) -> None:
        """Compare what a worker has of this folder's runs with what is known."""
        for place, about in runs.items():
            if place in self._runs:
                self._runs[place].stands(about["lines"])
            else:
                self._found[place] = (address, about)
        for place, (host, _) in list(self._found.items()):
            if host == address and place not in runs:
                del self._found[place]
        for run in list(self._runs.values()):
            if run.address == address and run.begun and run.place not in runs:
                run.miss()

    def host_lost(self, address: str) -> None:
        """End the runs of a worker that is lost; those that have not begun there find another."""
        self._found = {place: found for place, found in self._found.items() if found[0] != address}
        for run in list(self._runs.values()):
            if run.address != address:
                continue
            if run.begun:
                run.lose()
            elif not run.slot.done():
                run.forgo_slot()
                self._waiting.appendleft(run)

    def unwanted(self, run: DaskRun) -> None:
        """Forget a run that is over."""
        self._runs.pop(run.place, None)

    # -- runs of servers that are gone ---------------------------------------------------------------

    async def attach(
        self,
        job_id: str,
        folder: Path,
        recorded: Callable[[], Iterable[bytes]],
        on_lines: OnLines,
        on_exit: OnExit,
    ) -> DaskRun | None:
        """Find a run again; see :class:`~.backend.FarBackend`."""
        try:
            await self.cluster.ready(READY_SECONDS)
        except Unavailable:
            return None
        found = [(place, *there) for place, there in self._found.items() if there[1]["job_id"] == job_id]
        if not found:
            return None
        place, address, about = found[-1]
        run = DaskRun(self, place, job_id, folder, on_lines=on_lines, on_exit=on_exit)
        run.pause_reading()
        self._runs[place] = run
        self._found.pop(place, None)
        run.has_slot(Channel(self._pair, about["public"], place), address)
        try:
            known = await asyncio.to_thread(lambda: [digest(line) for line in recorded()])
            await run.go_on(known, about)
        except KasalError as error:
            log.warning("%s was found on the cluster, and then lost: %s", job_id, error)
            run.disown()
            self._runs.pop(place, None)
            return None
        run.resume_reading()
        return run

    async def examined(self) -> ClusterReport:
        """Look at the cluster, and at what differs there from this server's environment."""
        try:
            await self.cluster.ready(READY_SECONDS)
        except Unavailable as error:
            return ClusterReport(
                backend="dask", address=str(self._where), connected=False, fault=error.message
            )
        own = packages()
        info = await self.cluster.workers()
        workers = [await self._examined(address, own) for address in info]
        return ClusterReport(backend="dask", address=str(self._where), workers=workers, packages=own)

    async def _examined(self, address: str, own: dict[str, str]) -> ClusterWorker:
        try:
            told = await self.cluster.ask(address, "report")
        except KasalError as error:
            lacks = self.cluster.lacking.get(address)
            fault = f"kasal-jupyter is not installed there: {lacks}" if lacks else error.message
            return ClusterWorker(address=address, ready=False, fault=fault)
        theirs: dict[str, str] = told["packages"]
        differs = [
            f"{name} {theirs.get(name, 'is missing')} (the server has {own.get(name, 'none')})"
            for name in sorted(own.keys() | theirs.keys())
            if own.get(name) != theirs.get(name)
        ]
        return ClusterWorker(
            address=address,
            slots=told["slots"],
            free=told["free"],
            ready=told["warm"],
            fault=told["fault"] or None,
            packages=theirs,
            differs=differs,
        )


class DaskRun:
    """A run on a worker of the cluster, as its server holds it.

    Parameters
    ----------
    backend
        Whose it is.
    place
        What it is called on the cluster.
    job_id
        The execution.
    folder
        Where its files come back to.
    on_lines, on_exit
        See :mod:`~.backend`.
    """

    def __init__(
        self,
        backend: DaskBackend,
        place: str,
        job_id: str,
        folder: Path,
        *,
        on_lines: OnLines,
        on_exit: OnExit,
    ) -> None:
        self.place = place
        self.job_id = job_id
        self.address = ""
        self.pid = 0
        self.future: Any = None
        self.begun = False
        """Whether it was told what it is, or might have been: it is begun nowhere else from then on."""
        self.slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.came: Callable[[], None] | None = None
        """Told that it waits for no slot any more."""
        self._backend = backend
        self._cluster = backend.cluster
        self._folder = folder
        self._on_lines = on_lines
        self._on_exit: OnExit | None = on_exit
        self._channel: Channel | None = None
        self._taken = 0
        self._there = 0
        self._exit: Exit | None = None
        self._brought: dict[str, int] = {}
        self._paused = False
        self._misses = 0
        self._fetching: asyncio.Task[None] | None = None
        self._number = 0
        self._unsent: list[tuple[int, dict[str, Any]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._chores = Chores()

    # -- its beginning -------------------------------------------------------------------------------

    def has_slot(self, channel: Channel, address: str) -> None:
        """Hear that a worker has a slot for it: the first that says so."""
        if self._channel is None and not self.slot.done():
            self._channel, self.address = channel, address
            self.slot.set_result(None)
            self._no_longer_comes()

    def forgo_slot(self) -> None:
        """Wait for no slot of that worker any more."""
        self.address = ""
        future, self.future = self.future, None
        if future is not None:
            self._chores.begin(_cancelled(future))
        self._no_longer_comes()

    def _no_longer_comes(self) -> None:
        came, self.came = self.came, None
        if came is not None:
            came()

    async def begin(self, spec: RunSpec) -> None:
        """Send what it needs, and then what it is.

        Raises
        ------
        WorkerLost
            Its worker did not take it.
        """
        if spec.own is not None or spec.source is not None or spec.memory is not None:
            pieces = packed(spec)
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                header = orjson.dumps({"name": piece.name}) + b"\n"
                await self._ask("pack", header + piece.data)
        header = orjson.dumps({"now": time.time()}) + b"\n"
        sealed = self._sealed("begin", header + spec.model_dump_json().encode())
        self.begun = True
        # The task stays when this server goes.
        from distributed import fire_and_forget

        fire_and_forget(self.future)  # type: ignore[no-untyped-call]
        while self._on_exit is not None:
            # It begins once, however often it is said; who does not answer may have begun it.
            try:
                await self._asked("begin", sealed=sealed)
            except Refused:
                raise
            except WorkerLost:
                await asyncio.sleep(0.2)
                continue
            return

    async def go_on(self, recorded: list[bytes], about: dict[str, Any]) -> None:
        """Take up a run that another server has begun.

        Parameters
        ----------
        recorded
            The digests of the lines that were taken of it, and of others.
        about
            What its worker has said of it.

        Raises
        ------
        WorkerLost
            It is gone.
        """
        self.begun = True
        self._number = about["heard"]
        await self._ask("topic", self._cluster.topic.encode())
        marks: dict[bytes, int] = {}
        there = 1
        while len(marks) < there:
            told = await self._cluster.ask(self.address, "marks", place=self.place, after=len(marks))
            some, there = told["marks"], told["lines"]
            before = len(marks)
            marks |= {some[at : at + 8]: before + at // 8 + 1 for at in range(0, len(some), 8)}
            if len(marks) == before:
                break
        self._taken = next((marks[mark] for mark in reversed(recorded) if mark in marks), 0)
        for at, note in told["notes"]:
            if at <= self._taken:
                self.send(RunMessage(type="noted", note=note))

    # -- what others ask of it -----------------------------------------------------------------------

    def send(self, message: RunMessage) -> None:
        """Send the run a message; nothing happens when it is over."""
        self._number += 1
        self._unsent.append((self._number, message.model_dump(exclude_none=True)))
        if self._sending is None:
            self._sending = self._chores.begin(self._send())

    async def stop(self) -> None:
        """End the run: ask it, and 300 ms later kill it and all it has started. Returns when it is gone."""
        if self._on_exit is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._ask("stop", b"")
                await self._gone.wait()
        except (WorkerLost, TimeoutError):
            self._end(Exit(None, "could not be reached to be stopped; it is ended when it can be"))
            self._chores.begin(self._stop_later())

    def pause_reading(self) -> None:
        """Take no more lines for now."""
        self._paused = True

    def resume_reading(self) -> None:
        """Take lines again."""
        self._paused = False
        self._fetch()

    def disown(self) -> None:
        """Have nothing of it be told to anybody, and have it end."""
        self._on_exit, self._on_lines = None, lambda _: None
        began, self.begun = self.begun, True
        if not self.slot.done():
            self.slot.cancel()
        if not began:
            self.forgo_slot()
        if self._channel is not None:
            self._chores.begin(self._stop_later())

    def let_go(self) -> None:
        """Leave it to the next server."""
        self._on_exit, self._on_lines = None, lambda _: None

    # -- what is heard of it -------------------------------------------------------------------------

    def hear(self, sealed: bytes) -> None:
        """Take what was pushed: at once where it is what comes next, else what is missing is fetched."""
        if self._channel is None or self._on_exit is None:
            return
        try:
            header, data = parted(self._channel.open(sealed, "lines"))
        except WorkerLost as error:
            log.warning("%s: %s", self.job_id, error)
            return
        self._note(header)
        lines = data.split(b"\n")[:-1]
        next_ones = header["after"] == self._taken and lines and not _tells_end(lines)
        if next_ones and self._fetching is None and not self._paused:
            self._hand_on(lines)
        self._fetch()

    def stands(self, lines: int) -> None:
        """Hear how many lines its worker has of it."""
        self._misses = 0
        self._there = max(self._there, lines)
        self._fetch()

    def miss(self) -> None:
        """Hear that its worker does not know it; twice, since it may have ended in between."""
        self._misses += 1
        if self._misses > 1 and self._fetching is None:
            self.lose()

    def lose(self) -> None:
        """Take it for lost."""
        self._end(Exit(None, GONE, interrupted=True))
        # Where it goes on all the same, nobody listens any more.
        self._chores.begin(self._stop_later())

    def _note(self, header: dict[str, Any]) -> None:
        self.pid = header["pid"] or self.pid
        self._there = max(self._there, header["lines"])
        if "exit" in header:
            self._exit = Exit(**header["exit"])

    def _hand_on(self, lines: list[bytes]) -> None:
        self._taken += len(lines)
        self._on_lines(lines)

    def _fetch(self) -> None:
        """Fetch what is there and was not taken; the end, where all is."""
        behind = self._taken < self._there or self._exit is not None
        if behind and self._fetching is None and not self._paused and self._on_exit is not None:
            self._fetching = self._chores.begin(self._fetch_all())

    async def _fetch_all(self) -> None:
        try:
            while self._on_exit is not None and not self._paused:
                if self._taken < self._there:
                    sealed = (await self._asked("read", after=self._taken))["sealed"]
                    assert self._channel is not None
                    header, data = parted(self._channel.open(sealed, "lines"))
                    self._note(header)
                    lines = data.split(b"\n")[:-1]
                    if _tells_end(lines):
                        # Whoever hears of the end finds the files.
                        await self._bring_files()
                    self._hand_on(lines)
                elif self._exit is not None:
                    await self._bring_files()
                    ended = self._exit
                    await self._asked("done")
                    self._end(ended)
                else:
                    break
        except WorkerLost as error:
            # Its worker is looked after: it is asked again how it stands, or given up.
            log.debug("%s: %s", self.job_id, error)
        finally:
            self._fetching = None

    async def _bring_files(self) -> None:
        """Fetch the files that the run has written, and what it has printed."""
        assert self._channel is not None
        try:
            told = self._channel.open((await self._asked("files"))["sealed"], "files")
            left = MOST_FILES_BYTES
            for name, size in orjson.loads(told):
                left -= size
                if self._brought.get(name) == size:
                    # It was there at the run's last word; behind that, nothing but the log grows.
                    continue
                if left < 0:
                    log.warning("%s has written more than %d bytes of files", self.job_id, MOST_FILES_BYTES)
                    break
                await self._bring(name, size)
                self._brought[name] = size
        except (OSError, ValueError):
            log.exception("the files of %s could not be fetched", self.job_id)

    async def _bring(self, name: str, size: int) -> None:
        assert self._channel is not None
        after = 0
        while True:
            data = b""
            if after < size:
                sealed = self._channel.seal(name.encode(), "name")
                told = await self._asked("file", sealed=sealed, after=after)
                data = self._channel.open(told["sealed"], "file")
            await asyncio.to_thread(unpack, Piece(name, data), self._folder, first=after == 0)
            after += len(data)
            if not data or after >= size:
                return

    def _end(self, ended: Exit) -> None:
        on_exit, self._on_exit = self._on_exit, None
        if on_exit is not None:
            self._backend.unwanted(self)
            self._gone.set()
            on_exit(ended)

    # -- what it is told -----------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send what is to be told, in order, until it was taken: what comes twice is known by its number."""
        try:
            while self._unsent and self._on_exit is not None:
                some = list(self._unsent)
                try:
                    await self._ask("tell", orjson.dumps(some))
                except Refused:
                    return
                except WorkerLost:
                    await asyncio.sleep(0.2)
                    continue
                del self._unsent[: len(some)]
        finally:
            self._sending = None

    async def _stop_later(self) -> None:
        """Stop it as soon as it can be reached; a worker that stays away has ended with all it had."""
        for _ in range(STOP_TRIES):
            try:
                await self._ask("stop", b"")
                await self._asked("done")
            except Refused:
                return
            except WorkerLost:
                if not self._cluster.alive:
                    return
                await asyncio.sleep(1.0)
            else:
                return

    def _sealed(self, ask: str, message: bytes) -> bytes:
        assert self._channel is not None
        return self._channel.seal(message, ask)

    async def _ask(self, ask: str, message: bytes) -> Any:
        return await self._asked(ask, sealed=self._sealed(ask, message))

    async def _asked(self, ask: str, **asked: Any) -> Any:
        return await self._cluster.ask(self.address, ask, place=self.place, **asked)


def task() -> Callable[[dict[str, Any]], Any]:
    """Give the task of a run. It is sent as it is: the scheduler need not have Kasal."""

    async def hold(ticket: dict[str, Any]) -> str:
        from kasal_jupyter.executions.backends.dask_host import hold as held

        return await held(ticket)

    return hold


async def _cancelled(future: Any) -> None:
    try:
        await asyncio.wait_for(future.cancel(force=True), STOP_SECONDS)
    except Exception as error:  # noqa: BLE001 - a border: a task of a cluster that is gone is gone as well
        log.debug("a task was not cancelled: %s", error)


def _tells_end(lines: list[bytes]) -> bool:
    """Say whether one of the lines is the end of a run."""
    return any(
        b'"execution_status"' in line
        and not line.startswith(NOTE)
        and orjson.loads(line).get("status") in ENDED
        for line in lines
    )
