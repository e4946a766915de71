"""Threads for work that may take long or hang, shared out so that one's work costs nobody else a place.

The loop's default threads are few, and belong to the server's own bookkeeping: what works on somebody's
input, or waits for somebody else's machine, for a name server or for a disk, is done here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from kasal_jupyter.errors import TooManyRequests, Unavailable

T = TypeVar("T")

WAITING = 200
"""How many may wait for places that users' requests want, where nothing else is said."""

RETRY_SECONDS = 5
"""When whoever is refused may ask again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    owner: str
    target: str
    loop: asyncio.AbstractEventLoop
    place: asyncio.Future[None]


class Places:
    """A number of threads, given in turn by owner.

    A place is kept until the work itself is over: whoever stops waiting for it, as with a time limit, has no
    other in its stead. The end of the process waits for none of them.

    Parameters
    ----------
    most
        Threads at the same time.
    each_owner
        How many of them one owner's work may have.
    each_target
        How many of them may work on the same thing, a host for example, whoever's work it is.
    waiting
        How many may wait for a place, and a quarter of that of one owner; any number, where nothing is given.
    """

    def __init__(
        self,
        most: int,
        *,
        each_owner: int | None = None,
        each_target: int | None = None,
        waiting: int | None = None,
    ) -> None:
        self._most = most
        self._most_waiting = waiting
        self._each_owner = each_owner or most
        self._each_target = each_target or most
        self._lock = threading.Lock()
        self._taken = 0
        self._owners: Counter[str] = Counter()
        self._targets: Counter[str] = Counter()
        # Whose turn it is: an owner that was given a place goes to the end.
        self._waiting: dict[str, deque[_Waiter]] = {}

    async def do(
        self, work: Callable[[], T], *, owner: str = "", target: str = "", seconds: float | None = None
    ) -> T:
        """Do something in a thread, when there is a place for it.

        Parameters
        ----------
        work
            What to do.
        owner
            For whom.
        target
            On what it works; nothing is shared where that is empty.
        seconds
            How long to wait for its end, once it has begun.

        Raises
        ------
        TimeoutError
            It goes on for longer than that.
        TooManyRequests, Unavailable
            Too much waits already, of this owner or of all; or there are no more threads.
        """
        loop = asyncio.get_running_loop()
        await self._place(_Waiter(owner, target, loop, loop.create_future()))
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = (work(), None)
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                outcome = (None, error)
            self._release(owner, target)
            # The server may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, done, *outcome)

        try:
            threading.Thread(target=run, name="kasal-place", daemon=True).start()
        except RuntimeError:
            self._release(owner, target)
            raise Unavailable("The server has no thread left", retry_after=RETRY_SECONDS) from None
        async with asyncio.timeout(seconds):
            return await done

    async def _place(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiting.setdefault(waiter.owner, deque()).append(waiter)
            self._grant()
            self._require_room(waiter)
        try:
            await waiter.place
        except asyncio.CancelledError:
            with self._lock:
                line = self._waiting.get(waiter.owner, ())
                waits = waiter in line
                if waits:
                    self._leave(waiter)
            if not waits:
                # It was given one just now.
                self._release(waiter.owner, waiter.target)
            raise

    def _require_room(self, waiter: _Waiter) -> None:
        """Refuse who would have to wait behind too many."""
        own = self._waiting.get(waiter.owner, ())
        if self._most_waiting is None or waiter not in own:
            return
        if len(own) > max(1, self._most_waiting // 4):
            self._leave(waiter)
            raise TooManyRequests(
                f"{len(own)} of your requests wait for the same; wait for them", retry_after=RETRY_SECONDS
            )
        if (waiting := sum(map(len, self._waiting.values())) - 1) >= self._most_waiting:
            self._leave(waiter)
            raise Unavailable(
                f"{waiting} others wait for the same; try it again later", retry_after=RETRY_SECONDS
            )

    def _release(self, owner: str, target: str) -> None:
        with self._lock:
            self._give_back(owner, target)
            self._grant()

    def _give_back(self, owner: str, target: str) -> None:
        self._taken -= 1
        for counter, key in ((self._owners, owner), (self._targets, target)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def _grant(self) -> None:
        """Give the places there are, to one owner after the other."""
        while self._taken < self._most and (waiter := self._next()) is not None:
            self._leave(waiter)
            if waiter.owner in self._waiting:
                self._waiting[waiter.owner] = self._waiting.pop(waiter.owner)
            self._taken += 1
            self._owners[waiter.owner] += 1
            self._targets[waiter.target] += 1
            try:
                waiter.loop.call_soon_threadsafe(_tell, waiter.place, None, None)
            except RuntimeError:
                # Its loop was closed meanwhile: nobody waits any more.
                self._give_back(waiter.owner, waiter.target)

    def _next(self) -> _Waiter | None:
        for owner, line in self._waiting.items():
            if self._owners[owner] >= self._each_owner:
                continue
            for waiter in line:
                if not waiter.target or self._targets[waiter.target] < self._each_target:
                    return waiter
        return None

    def _leave(self, waiter: _Waiter) -> None:
        line = self._waiting[waiter.owner]
        line.remove(waiter)
        if not line:
            del self._waiting[waiter.owner]


def _tell(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


DISK = Places(4)
"""For waiting until the disk has something: however slow it is, nobody who only reads stands behind that."""

PROGRAMS = Places(8, each_owner=1, waiting=WAITING)
"""For looking whether there is a program that a user has named."""

CONNECTIONS = Places(16, each_owner=1, waiting=WAITING)
"""For looking up the names of hosts that are connected to; the owner is the host."""

MODEL_SERVERS = Places(8, each_owner=1, waiting=WAITING)
"""For asking servers of models what they have; the owner is the server."""

PROBES = Places(6, each_owner=2, waiting=WAITING)
"""For looking at MCP servers; each takes a process."""

MEMORIES = Places(8, each_owner=2, waiting=WAITING)
"""For putting what a crew remembers into an index, and for searching it."""

LISTS = Places(4, each_owner=2, waiting=WAITING)
"""For searching lists, and reading journals through."""

LARGE = Places(2, each_owner=1, waiting=WAITING)
"""For what is large of a request: reading its body, putting a crew together, checking it."""

SMALL = 16
"""Documents, or so, that are worked on at once: with fewer, a thread would cost more than the work."""


async def beside_loop(work: Callable[[], T], *, size: int, owner: str, places: Places = LARGE) -> T:
    """Do something in a thread where others would have to wait for it; at once where it is small.

    Parameters
    ----------
    work
        What to do.
    size
        How many documents it is about, or parts of one.
    owner
        For whom.
    places
        Whose threads.

    Raises
    ------
    TooManyRequests, Unavailable
        Too much waits already, of this owner or of all.
    """
    return work() if size <= SMALL else await places.do(work, owner=owner)


FILES = Places(2, each_owner=1, waiting=WAITING)
"""For looking for files, and packing them."""


# Work of the server that nobody waits for.


class Chores:
    """Tasks of the loop, kept until they are done; what goes wrong in one is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait until everything is done, what it begins meanwhile included, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            logging.getLogger(__name__).warning("%d chores were left undone", len(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logging.getLogger(__name__).error("a run's bookkeeping failed", exc_info=error)
