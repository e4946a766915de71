"""One execution that this server runs, and the one owner of its state.

::

    queued ──────► launching ──────► running ──────► ended ──────► stored
       │               ▲               │               ▲
       │               └──── away ◄────┤               │
       └───────────────┴────────────── ┴ (stopped, failed)

A run that waits for people for long is put *away*: its process is ended, and another is begun when it is
answered, which goes through what the journal has and then on (:class:`RunOwnRecord`). It is the same run all
the while, to whoever follows it; a server that ends leaves such a run to the next one.

Whatever fails on the way, a run ends, and once: :meth:`Run._conclude` writes the ends that the server gives
it, :meth:`Run._take` takes the one that its process gives, and whichever comes first counts. Its place is
free from then on. What the disk does not take is told to whoever follows, and held in memory; it is tried
again until it is stored, and what a server that ends has not stored is made again from the journal by the
next one.

A run whose process has told its end may go on for a while: what the crew will remember is distilled when the
result is there already. Of what comes then, nothing changes how the run ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import orjson

from kasal_jupyter.errors import KasalError, StoreError, WorkerLost
from kasal_jupyter.events.event import AFTER_END, ErrorInfo
from kasal_jupyter.executions.admission import keys_of
from kasal_jupyter.executions.backends.backend import Backend, Exit, FarBackend, OnExit, OnLines, RunHandle
from kasal_jupyter.executions.client_calls import ClientCalls
from kasal_jupyter.executions.feed import Feed, event_of
from kasal_jupyter.executions.journal import unnumbered
from kasal_jupyter.executions.recovery import interrupted_event
from kasal_jupyter.places import DISK, Chores
from kasal_jupyter.schemas.allowances import Reserved, Wish
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.spec import NOTE, RESERVE, RunMessage, RunOwnRecord, RunSpec, RunToolAnswer

LAUNCH_SECONDS = 0.5
"""How long the end of a run waits for its process to come; with a warm engine it is there at once."""

COLD_SECONDS = 180.0
"""How much longer a run may take to begin where the engine is not loaded yet."""

PREPARE_SECONDS = 30.0
"""How long a run waits for its crew's memory to be brought up to date; then it goes on without."""

STOP_SECONDS = 3.0
"""How long the end of a process is waited for; what is not gone by then is left to the backend's end."""

GRACE_SECONDS = 3.0
"""How much longer than its budget says a run may go on: before that, its process ends it in order."""

LATE_SECONDS = 60.0
"""How long a run's process may go on behind the run's end."""

LATE_EVENTS = 1_000
"""Events that are taken of it then."""

EXIT_SECONDS = 0.25
"""How long a run that has ended waits for its process to be gone before it is stored for the first time."""

HELD_BYTES = 16 << 20
"""What is held in memory of a run whose journal cannot be written; with more the run fails."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds before what could not be written is tried again: twice as long each time."""

PATIENCE = 3
"""How often the end is tried with all that goes with it, before it is stored without the memories."""

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Where a run stands in its life."""

    QUEUED = "queued"
    LAUNCHING = "launching"
    RUNNING = "running"
    AWAY = "away"
    ENDED = "ended"
    STORED = "stored"


class Keeper(Protocol):
    """What a run needs of the server around it."""

    async def prepare(self, run: Run) -> None:
        """Get ready what the run's process will read."""
        ...

    def spending(self, run: Run) -> RunSpec:
        """Give what a run is told, with the shared budgets that it spends from today."""
        ...

    async def reserve(self, run: Run, wish: Wish) -> str | None:
        """Reserve what a run wants of shared budgets; say why it cannot have it, else None."""
        ...

    async def renewed(self, run: Run) -> RunSpec:
        """Give a run that was put away what its new process is told, with the keys and tools of today."""
        ...

    async def save(self, run: Run, *, final: bool, memories: bool) -> None:
        """Store how the run stands; with ``final`` it is booked, and with ``memories`` remembered."""
        ...

    def changed(self, run: Run) -> None:
        """Hear that the run has begun, asks a person, was answered, or has ended."""
        ...

    def asked(self, run: Run, event: Mapping[str, Any]) -> None:
        """Hear how a model that the run has asked has answered, or failed."""
        ...

    def held(self, run: Run) -> dict[str, float]:
        """Give the seconds for which some of the run's models may not be asked, by their names."""
        ...

    def stored(self, run: Run) -> None:
        """Hear that the run is over and stored, or that it could not be before the server's end."""
        ...


class Run:
    """An execution from the queue to its end.

    Parameters
    ----------
    spec
        What is run.
    owner
        Whose it is.
    feed
        Where its events go.
    backend
        What runs it.
    keeper
        The server around it.
    launch_seconds
        How long it may take to begin.
    put_away_seconds
        How long it waits for people before it is put away.
    away
        Whether it was put away by a server before this one.
    """

    def __init__(
        self,
        spec: RunSpec,
        owner: str,
        feed: Feed,
        backend: Backend,
        keeper: Keeper,
        *,
        launch_seconds: float,
        put_away_seconds: float = 300.0,
        away: bool = False,
    ) -> None:
        self.spec = spec
        self.owner = owner
        self.keys = keys_of(spec)
        """What its models are asked with: digests of the keys, by the models' names."""
        self.feed = feed
        self.replays = spec.source is not None and spec.source.verb == "replay"
        """Whether nothing is done in it but to give a record again."""
        self.calls = ClientCalls(
            () if self.replays else spec.client_tools, self._send_answer, self._decide, self._fail
        )
        """The calls that the run's client is to answer."""
        self.phase = Phase.AWAY if away else Phase.QUEUED
        self.saved = asyncio.Event()
        """Set once the store knows how the run has ended, or will not before the server's end."""
        self.stored = asyncio.Event()
        """Set once nothing more will be stored of the run."""
        self._backend = backend
        self._far = isinstance(backend, FarBackend)
        self._keeper = keeper
        self._launch_seconds = launch_seconds
        self._put_away_seconds = put_away_seconds
        self._put_away_timer: asyncio.TimerHandle | None = None
        # Which of its processes is listened to; those before have nothing more to say.
        self._process = 0
        self._unsent: list[RunToolAnswer] = []
        self._chores = Chores()
        self._launching: asyncio.Task[None] | None = None
        self._handle: RunHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._reserving = asyncio.Lock()
        self.stopping = False
        """Whether the run was told to end."""
        self._silent = asyncio.Event()
        """Set once nothing more is taken of the run's process."""
        self._gone = False
        self._late = 0
        self._closing = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the run is over, stored or not."""
        return self.phase in {Phase.ENDED, Phase.STORED}

    @property
    def waits(self) -> bool:
        """Whether the run does nothing but wait for a person."""
        return self.feed.summary.waits

    # -- what others ask of it -----------------------------------------------------------------------

    def launch(self) -> None:
        """Start the run's process; from then on its events come by themselves."""
        if self.phase not in {Phase.QUEUED, Phase.AWAY}:
            return
        again = self.phase is Phase.AWAY
        self.phase = Phase.LAUNCHING
        if not self._far:
            # Elsewhere it may have to wait for a place.
            self._mind_launch(self._launch_seconds + (0 if self._backend.warm else COLD_SECONDS))
        self._launching = self._chores.begin(self._launch(again=again))

    async def stop(self, reason: ErrorInfo | None = None) -> None:
        """End the run as ``stopped``, its processes gone.

        Parameters
        ----------
        reason
            Why, where that was not its caller's own wish.
        """
        why = {} if reason is None else {"error": reason}
        await self._end(lambda: self._status("stopped", **why))

    async def interrupt(self) -> None:
        """End the run as ``interrupted``: the server is going down. What can be stored of it is stored."""
        self._closing.set()
        await self._end(lambda: interrupted_event(self.feed.now()))
        await self.hurry()
        await self._chores.finish(STOP_SECONDS)

    async def leave(self) -> None:
        """Leave a run that rests to the next server: its process is ended, and it goes on waiting."""
        self._closing.set()
        self._end_processes()
        self.calls.end()
        self._disarm()
        try:
            self.feed.journal.flush()
            await DISK.do(self.feed.journal.sync)
            self.feed.journal.close()
        except OSError:
            log.exception("the journal of %s could not be closed", self.spec.job_id)
        await self._chores.finish(STOP_SECONDS)

    def hold(self, waits: Mapping[str, float]) -> None:
        """Have the run ask some models only after some seconds."""
        if waits and self._handle is not None and not self._is_over():
            try:
                self._handle.send(RunMessage(type="hold", hold=dict(waits)))
            except Exception:
                log.exception("%s could not be held up", self.spec.job_id)

    async def hurry(self) -> None:
        """Have a run that has ended be done with: nothing more is waited for that its process might say."""
        if self.ended and not self._silent.is_set():
            await self._kill()

    def let_go(self) -> bool:
        """Leave a run that goes on elsewhere to the next server; say whether it is one."""
        handle = self._handle
        if not isinstance(self._backend, FarBackend) or handle is None or self.phase is not Phase.RUNNING:
            return False
        self._process += 1
        self._handle = None
        self._backend.let_go(handle)
        return True

    async def attach(self) -> bool:
        """Find the process of a run that a server has left elsewhere; say whether it is there still."""
        assert isinstance(self._backend, FarBackend)
        on_lines, on_exit = self._listeners()
        self._handle = await self._backend.attach(
            self.spec.job_id, Path(self.spec.folder), self._recorded, on_lines, on_exit
        )
        if self._handle is None:
            return False
        if self._is_over():
            # It was told to while it was looked for, when there was no process to end.
            await self._kill()
            return True
        self.phase = Phase.RUNNING
        self._mind_time()
        for line in self._recorded():
            self.calls.take([line])
            if b'"input_answer"' in line and (event := _look(line)).get("type") == "input_answer":
                # Whether its process has got it, nobody knows.
                self._send_answer(_answer_of(event))
        self._mind_waiting()
        return True

    def _recorded(self) -> Iterator[bytes]:
        """Give the journal's lines as they were taken."""
        after = 0
        while lines := self.feed.journal.read(after):
            after += len(lines)
            yield from map(unnumbered, lines)

    # -- queued → launching → running ----------------------------------------------------------------

    def _mind_launch(self, seconds: float) -> None:
        self._within(
            PREPARE_SECONDS + seconds,
            "SERVICE_UNAVAILABLE",
            f"The run got no process that began within {seconds:g} seconds; the data folder's logs may "
            "tell why",
        )

    def _listeners(self) -> tuple[OnLines, OnExit]:
        """Give what listens to the run's newest process, and to none before it."""
        process = self._process = self._process + 1

        def on_lines(lines: list[bytes]) -> None:
            if process == self._process:
                self._on_lines(lines)

        def on_exit(ended: Exit) -> None:
            if process == self._process:
                self._on_exit(ended)

        return on_lines, on_exit

    async def _launch(self, *, again: bool) -> None:
        # Only now: runs that went before it in the queue may have remembered something.
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await self._keeper.prepare(self)
        except Exception:
            log.exception("the memory of %s could not be brought up to date", self.spec.crew.id)
        if self._is_over():
            return
        on_lines, on_exit = self._listeners()
        process = self._process
        try:
            if again:
                self.spec = await self._keeper.renewed(self)
                self._unsent.clear()
                self.spec = self.spec.model_copy(update={"own": self._own_record()})
            self.spec = self._keeper.spending(self)
            self._handle = await self._backend.launch(self.spec, on_lines, on_exit)
        except KasalError as error:
            self._fail(error.code, error.message)
        except Exception as error:
            log.exception("%s could not be launched", self.spec.job_id)
            reason = (error.strerror if isinstance(error, OSError) else None) or repr(error)
            self._fail("SERVICE_UNAVAILABLE", f"No process can be started for the run: {reason}")
        if self._is_over() or process != self._process:
            # It was told to meanwhile, or took too long.
            await self._kill()
            return
        self.hold(self._keeper.held(self))
        if self._far and self.phase is Phase.LAUNCHING:
            self._mind_launch(self._launch_seconds + COLD_SECONDS)
        unsent, self._unsent = self._unsent, []
        for answer in unsent:
            self._send_answer(answer)

    def _began(self) -> None:
        self.phase = Phase.RUNNING
        self._mind_time()

    def _mind_time(self) -> None:
        """Have the seconds of its budget run, or stand still: while it waits for people they do."""
        self._disarm()
        seconds = self.spec.budget.max_seconds if self.spec.budget is not None else None
        if seconds is None or self.replays or self.waits:
            return
        words = f"The {seconds:g} second{'' if seconds == 1 else 's'} of the budget are over."
        left = max(0.0, seconds - self.feed.summary.worked(self.feed.now()))
        self._within(left + GRACE_SECONDS, "BUDGET_EXCEEDED", words)

    # -- running → away → launching ------------------------------------------------------------------

    def _mind_waiting(self) -> None:
        """Do what a run needs that has begun to wait for people, or waits no more."""
        if self._put_away_timer is not None:
            self._put_away_timer.cancel()
            self._put_away_timer = None
        if self.phase is Phase.RUNNING:
            self._mind_time()
            if self.waits:
                loop = asyncio.get_running_loop()
                self._put_away_timer = loop.call_later(self._put_away_seconds, self._let_go)

    def _let_go(self) -> None:
        """End the process of a run that rests."""
        if self.phase is not Phase.RUNNING or not self.feed.summary.rests or self.stopping:
            return
        self._end_processes()
        self._tell(self._keeper.changed)

    def _end_processes(self) -> None:
        """Listen to no process of the run any more, and end the one that it has."""
        self.phase = Phase.AWAY
        self._process += 1
        handle, self._handle = self._handle, None
        if handle is not None:
            self._chores.begin(self._end_process(handle))

    async def _end_process(self, handle: RunHandle) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await handle.stop()
        except Exception:
            log.exception("the process of %s could not be ended", self.spec.job_id)

    def _own_record(self) -> RunOwnRecord:
        """Give what the run has done and used so far."""
        summary = self.feed.summary
        return RunOwnRecord(
            journal=str(self.feed.journal.path.absolute()),
            until=self.feed.journal.seq,
            tokens=summary.total_tokens,
            cost=summary.usage().cost_at_least or 0.0,
            seconds=summary.worked(self.feed.now()),
        )

    def _within(self, seconds: float, code: str, message: str) -> None:
        """Fail the run where it does not get on within some seconds, whatever its process does."""
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fail, code, message)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what its process says -----------------------------------------------------------------------

    def _on_lines(self, lines: list[bytes]) -> None:
        if self._silent.is_set():
            return
        try:
            self._take(lines)
        except Exception:
            # A fault of ours. A run that goes on without its events is worth nothing to anybody.
            log.exception("the events of %s could not be taken", self.spec.job_id)
            self._fail("INTERNAL_ERROR", "The server could not take the run's events; its log tells why")

    def _take(self, lines: list[bytes]) -> None:
        """Take the events that count at this moment: before the end, the end, or what may follow it."""
        taken: list[bytes] = []
        notes: list[bytes] = []
        answers: list[bytes] = []
        wishes: list[bytes] = []
        over = self.ended
        for line in lines:
            if line.startswith((NOTE, RESERVE)):
                (notes if line.startswith(NOTE) else wishes).append(line)
                continue
            event = _look(line) if over or any(mark in line for mark in _MARKS) else {}
            kind, status = event.get("type"), event.get("status")
            if over:
                self._late += 1
                if kind in AFTER_END and self._late <= LATE_EVENTS:
                    taken.append(line)
                continue
            ends = kind == "execution_status" and status in ENDED
            if kind == "execution_status" and not ends and status != "running":
                # It is not the process's to say.
                continue
            if self.stopping and (ends or kind == "error"):
                # A run that was told to stop does not decide that itself.
                continue
            taken.append(line)
            over = ends
            if self.keys and any(mark in line for mark in _ANSWERS):
                answers.append(line)
        if taken:
            self._write(taken, begins=True)
        for line in answers:
            try:
                self._keeper.asked(self, _look(line))
            except Exception:
                # Nothing of the run hangs on it.
                log.exception("an answer to %s could not be learnt from", self.spec.job_id)
        for line in notes:
            self._chores.begin(self._note(_look(line).get("note")))
        for line in wishes:
            self._chores.begin(self._reserve(Wish.model_validate_json(line)))

    async def _reserve(self, wish: Wish) -> None:
        """Have the run hold what it wants of shared budgets; in order, since each wish tells all of it."""
        async with self._reserving:
            try:
                refusal = await self._keeper.reserve(self, wish)
            except KasalError as error:
                log.exception("what %s wants could not be reserved", self.spec.job_id)
                refusal = f"What the next call may cost could not be reserved: {error.message}"
        if wish.reserve and self._handle is not None:
            answer = Reserved(number=wish.reserve, refusal=refusal)
            self._handle.send(RunMessage(type="reserved", reserved=answer))

    async def _note(self, note: Any) -> None:
        """Tell the run's process when all that it has said is on disk: then it may do what is done once."""
        while not self.ended and self._handle is not None:
            try:
                self.feed.journal.flush()
                await DISK.do(self.feed.journal.sync)
            except OSError:
                await self._rest(FIRST_PAUSE)
                continue
            self._handle.send(RunMessage(type="noted", note=note))
            return

    def _on_exit(self, ended: Exit) -> None:
        if ended.interrupted and not self.stopping:
            error = ErrorInfo(code="INTERRUPTED", message=ended.reason or "Its process is gone")
            self._conclude([self._status("interrupted", error=error)])
        elif not self.ended and not self.stopping:
            status = "ended without a word" if ended.status is None else f"ended with status {ended.status}"
            self._fail(
                ended.code, f"The run's process {ended.reason or status}; its log is {self.spec.folder}"
            )
        self._gone = True
        self._silent.set()

    def _decide(self, answer: dict[str, Any]) -> None:
        """Take the answer to a question into the journal; where that fails, nobody has answered."""
        kind = answer.pop("type")
        try:
            self._write([event_of(self.feed.now(), kind, **answer)])
        except Exception as error:
            log.exception("an answer to %s could not be taken in", self.spec.job_id)
            raise StoreError("The answer cannot be stored at the moment; give it again") from error

    def _send_answer(self, answer: RunToolAnswer) -> None:
        if self._handle is None:
            # It is there when the run has a process: in its journal, or sent as that begins.
            self._unsent.append(answer)
            return
        try:
            self._handle.send(RunMessage(type="tool_answer", answer=answer))
        except Exception as error:
            log.exception("the process of %s could not be answered", self.spec.job_id)
            message = "The run's process can no longer be reached"
            self._fail("WORKER_LOST", message)
            raise WorkerLost(message) from error

    # -- any → ended ---------------------------------------------------------------------------------

    async def _end(self, last: Callable[[], bytes]) -> None:
        if self.ended:
            return
        self.stopping = True
        if self._handle is not None:
            await self._kill()
        elif self._launching is not None:
            # One that waits for the engine, which takes seconds to load, has no process yet: `_launch` ends
            # it as it comes. Elsewhere it may wait for a place, and is not to wait any more.
            if self._far:
                self._launching.cancel()
            await asyncio.wait([self._launching], timeout=LAUNCH_SECONDS)
        self._conclude([last()])

    def _fail(self, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        self._conclude([event_of(self.feed.now(), "error", **error), self._status("failed", error=error)])
        if self._handle is not None and not self._gone:
            self._chores.begin(self._kill())

    def _conclude(self, lines: list[bytes]) -> None:
        """End the run with an end of the server's own, unless it has one."""
        if self.ended:
            return
        # Of a process that did not end by itself, nothing more is taken.
        self._silent.set()
        for attempt in (lines, lines[-1:]):
            try:
                self._write(attempt)
            except Exception:
                log.exception("the end of %s could not be taken in", self.spec.job_id)
            if self.phase is Phase.ENDED:
                return

    def _is_over(self) -> bool:
        # Asked anew: it may have come to that meanwhile.
        return self.stopping or self.ended

    async def _kill(self) -> None:
        """End the run's process, and wait for that as long as it is of any use."""
        try:
            if self._handle is not None:
                await self._end_process(self._handle)
        finally:
            if self.ended:
                self._silent.set()

    def _write(self, lines: list[bytes], *, begins: bool = False) -> None:
        """Take events in, and make the transitions that they tell of; the process's own say it has begun."""
        summary = self.feed.summary
        before = (self.phase, self.waits)
        self.feed.append(lines)
        if summary.ended and not self.ended:
            self._ended()
        elif self.phase is Phase.LAUNCHING and begins:
            self._began()
        try:
            self.calls.take(lines)
            if self.ended:
                self.calls.end()
        except Exception:
            log.exception("the calls of %s could not be taken in", self.spec.job_id)
        if (self.phase, self.waits) != before:
            self._mind_waiting()
            self._tell(self._keeper.changed)
        if self.feed.journal.held and not self.ended:
            self._hold()

    def _ended(self) -> None:
        self.phase = Phase.ENDED
        self._disarm()
        if not self._silent.is_set():
            kill = self._chores.begin
            self._timer = asyncio.get_running_loop().call_later(LATE_SECONDS, lambda: kill(self._kill()))
        self._chores.begin(self._put_away())

    def _tell(self, tell: Callable[[Run], None], tries: int = PATIENCE) -> None:
        """Tell the server around it; where that fails, again a little later: it goes by the run's state."""
        try:
            tell(self)
        except Exception:
            log.exception("the new state of %s could not be told", self.spec.job_id)
            if tries > 1:
                asyncio.get_running_loop().call_later(FIRST_PAUSE, self._tell, tell, tries - 1)

    # -- ended → stored ------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Have what could not be written be tried again, and fail the run where that becomes too much."""
        if self.feed.journal.held > HELD_BYTES:
            self._fail("STORE_ERROR", "The run's events cannot be written: its journal takes no more")
        elif not self._writing:
            self._writing = True
            self._chores.begin(self._write_held())

    async def _write_held(self) -> None:
        pause = FIRST_PAUSE
        while self.feed.journal.held and not self.ended:
            await self._rest(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            with suppress(OSError):
                self.feed.journal.flush()
        self._writing = False

    async def _put_away(self) -> None:
        """Store the end as soon as the disk takes it, and what comes behind it when the process is gone."""
        await self._wait_for_silence(EXIT_SECONDS)
        pause, failed = FIRST_PAUSE, 0
        while True:
            final = self._silent.is_set()
            try:
                self.feed.journal.flush()
                await DISK.do(self.feed.journal.sync)
                await self._keeper.save(self, final=final, memories=failed < PATIENCE)
            except Exception as error:
                failed += 1
                log.log(
                    logging.ERROR if failed == 1 else logging.DEBUG,
                    "the end of %s could not be stored, and will be tried again",
                    self.spec.job_id,
                    exc_info=error,
                )
                if self._closing.is_set() and failed > PATIENCE:
                    break
                await self._rest(FIRST_PAUSE if self._closing.is_set() else pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self.saved.set()
            if final:
                self.phase = Phase.STORED
                break
            pause, failed = FIRST_PAUSE, 0
            await self._silent.wait()
        self._disarm()
        try:
            self.feed.journal.close()
        except OSError:
            log.exception("the journal of %s could not be closed", self.spec.job_id)
        self.saved.set()
        self.stored.set()
        self._tell(self._keeper.stored)

    async def _wait_for_silence(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._silent.wait()

    async def _rest(self, seconds: float) -> None:
        """Wait; not when the server is closing, which makes a last attempt at once."""
        if self._closing.is_set():
            await asyncio.sleep(FIRST_PAUSE)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _status(self, status: str, **fields: Any) -> bytes:
        return event_of(self.feed.now(), "execution_status", status=status, **fields)


_MARKS = (b'"execution_status"', b'"error"')
"""What a line must contain to be worth parsing before the end: it may say how the run ends."""

_ANSWERS = (b'"llm_response"', b'"llm_failed"')
"""What a line contains that tells of a model's answer, or of none."""


def _look(line: bytes) -> dict[str, Any]:
    """Give the event of a line; nothing where it is none."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


def _answer_of(event: dict[str, Any]) -> RunToolAnswer:
    """Give the answer that an event tells of."""
    return RunToolAnswer.model_validate(
        {name: event[name] for name in RunToolAnswer.model_fields if name in event}
    )
