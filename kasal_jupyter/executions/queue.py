"""Which run comes next: places for runs, shared out among owners, and those who wait for one."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from kasal_jupyter.errors import TooManyRequests, Unavailable
from kasal_jupyter.executions.admission import Admission

LOOKED_AT = 32
"""Of an owner's runs, the first that are looked at for one whose provider bears it now."""

RETRY_SECONDS = 30
"""After which whoever was refused may ask again."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How much may go on at once.

    Attributes
    ----------
    running
        Runs at the same time at the most; more wait in the queue. Fewer may go on, see :class:`Admission`.
    queued
        Runs that may wait; one more is refused.
    running_per_user
        Of the places, those that one owner's runs may take.
    queued_per_user
        One owner's runs that may wait; one more is refused.
    asking_per_user
        One owner's runs that wait for a person and hold no place meanwhile; one more keeps its place.
    launch_seconds
        How long a run may take to get a process that says it has begun.
    journal_bytes
        Bytes of events that one run may record.
    put_away_seconds
        How long a run waits for people before its process is ended, to be brought back with the answer.
    """

    running: int = 64
    queued: int = 1_000
    running_per_user: int = 48
    queued_per_user: int = 500
    asking_per_user: int = 16
    launch_seconds: float = 60.0
    journal_bytes: int = 200_000_000
    put_away_seconds: float = 300.0


class Waiting(Protocol):
    """What waits for a place."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys that its models are asked with."""
        ...


W = TypeVar("W", bound=Waiting)


class RunQueue(Generic[W]):
    """Runs that wait, and the places of those that run.

    The owners come in turn: whoever has queued 500 runs holds up nobody else's. Nothing here takes longer
    for a long queue.

    Parameters
    ----------
    limits
        How many places there are.
    admission
        Says which of them can be taken now; all of them, where nothing is given.
    """

    def __init__(self, limits: RunLimits, admission: Admission | None = None) -> None:
        self._limits = limits
        self._admission = admission
        # By owner, the one whose turn it is first; sets that keep their order.
        self._waiting: OrderedDict[str, dict[W, None]] = OrderedDict()
        # With the keys that were counted: what is told to a run that is brought back may have others.
        self._placed: dict[W, frozenset[str]] = {}
        self._asking: dict[W, None] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._size = 0
        self._coming = 0
        self._positions: dict[W, int] | None = None

    @property
    def waiting(self) -> int:
        """How many runs wait."""
        return self._size

    @property
    def held_up(self) -> bool:
        """Whether runs wait for more than a place: it may be their turn without that any other ends."""
        return bool(self._waiting) and len(self._placed) < self._limits.running

    @contextmanager
    def admitted(self, owner: str) -> Iterator[None]:
        """Keep room for a run of an owner while it is accepted.

        Raises
        ------
        TooManyRequests
            The owner has as many runs waiting as one may have.
        Unavailable
            The queue is full.
        """
        limits, mine = self._limits, self._count["waiting", owner] + self._count["coming", owner]
        starts = (
            self._size + self._coming == 0
            and len(self._placed) < limits.running
            and self._count["placed", owner] < limits.running_per_user
        )
        if not starts:
            if self._size + self._coming >= limits.queued:
                raise Unavailable(
                    f"{self._size} executions are waiting already, and {limits.queued} may "
                    "(KasalApp.max_queued); try again later",
                    retry_after=RETRY_SECONDS,
                )
            if mine >= limits.queued_per_user:
                raise TooManyRequests(
                    f"{mine} executions of yours are waiting already, and {limits.queued_per_user} of a user "
                    "may (KasalApp.max_queued_per_user); try again when some of them have run",
                    retry_after=RETRY_SECONDS,
                )
        self._coming += 1
        self._count["coming", owner] += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._drop("coming", owner)

    def add(self, run: W) -> None:
        """Have a run wait for a place."""
        self._waiting.setdefault(run.owner, {})[run] = None
        self._count["waiting", run.owner] += 1
        self._size += 1
        self._positions = None

    def next(self) -> W | None:
        """Give a place to the run whose turn it is; None where there is no place, or nobody may have it."""
        placed = len(self._placed)
        if not self._waiting or placed >= self._limits.running:
            return None
        if self._admission is not None and not self._admission.room(placed):
            return None
        for owner, runs in self._waiting.items():
            if self._count["placed", owner] < self._limits.running_per_user:
                run = next(filter(self._borne, islice(runs, LOOKED_AT)), None)
                if run is None:
                    continue
                self._forget(run)
                if owner in self._waiting:
                    self._waiting.move_to_end(owner)
                self._place(run)
                return run
        return None

    def take(self, run: W) -> None:
        """Give a place to a run that goes on already: for a moment there may be more than the limit."""
        self._place(run)

    def leave(self, run: W) -> None:
        """Let a run go, wherever it is: it has ended."""
        if run in self._waiting.get(run.owner, ()):
            self._forget(run)
        if run in self._placed:
            keys = self._placed.pop(run)
            if self._admission is not None:
                self._admission.end(keys)
            self._drop("placed", run.owner)
        if run in self._asking:
            del self._asking[run]
            self._drop("asking", run.owner)

    def ask(self, run: W) -> None:
        """Free a run's place while it waits for a person, unless too many of its owner's do already."""
        if run in self._placed and self._count["asking", run.owner] < self._limits.asking_per_user:
            self.leave(run)
            self._asking[run] = None
            self._count["asking", run.owner] += 1

    def answered(self, run: W) -> None:
        """Give a run a place again, at once: for a moment there may be more than the limit."""
        if run in self._asking:
            self.leave(run)
            self._place(run)

    def position(self, run: W) -> int | None:
        """Give a run's place in the line, counted from 1; None where it does not wait."""
        if run not in self._waiting.get(run.owner, ()):
            return None
        if self._positions is None:
            self._positions = {each: at for at, each in enumerate(self._in_turn(), 1)}
        return self._positions[run]

    def _borne(self, run: W) -> bool:
        return self._admission is None or self._admission.bears(run.keys.values())

    def _in_turn(self) -> Iterator[W]:
        turns = [iter(runs) for runs in self._waiting.values()]
        while turns:
            going = []
            for runs in turns:
                if (run := next(runs, None)) is not None:
                    yield run
                    going.append(runs)
            turns = going

    def _place(self, run: W) -> None:
        self._placed[run] = keys = frozenset(run.keys.values())
        if self._admission is not None:
            self._admission.begin(keys)
        self._count["placed", run.owner] += 1

    def _forget(self, run: W) -> None:
        runs = self._waiting[run.owner]
        del runs[run]
        if not runs:
            del self._waiting[run.owner]
        self._drop("waiting", run.owner)
        self._size -= 1
        self._positions = None

    def _drop(self, what: str, owner: str) -> None:
        self._count[what, owner] -= 1
        if not self._count[what, owner]:
            del self._count[what, owner]
