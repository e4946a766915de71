"""Threads for what others are waited for or worked on, beside those of the server's own bookkeeping.

What somebody's input needs time for takes none of another's: places are few, an owner has one at a time, and
those who wait come in turn by owner, however many of one owner's wait. The event loop's own threads, which
write journals and start processes, do none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

from kasal_jupyter.errors import TooManyRequests, Unavailable

T = TypeVar("T")

WAITING = 200
"""How many may wait, where nothing else is said."""

RETRY_SECONDS = 5
"""When whoever is refused may ask again."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work, which has places of its own.

    Attributes
    ----------
    name
        What its threads are called.
    places
        How much is done at the same time.
    each
        How much of one owner is done at the same time.
    """

    name: str
    places: int
    each: int = 1


CHECKS = Kind("checks", 8)
"""Names of hosts that a user has written down are looked up."""

CONNECTIONS = Kind("connections", 16)
"""Names of hosts that are connected to are looked up; the owner is the host."""

QUESTIONS = Kind("questions", 8)
"""Servers of models are asked; the owner is the server."""

PROBES = Kind("probes", 4)
"""MCP servers are looked at."""

MEMORIES = Kind("memories", 2)
"""What a crew remembers is put into an index, and searched."""

LISTS = Kind("lists", 4, each=2)
"""Lists are searched, and journals read through."""

FILES = Kind("files", 2)
"""Files are looked for and packed."""


async def aside(kind: Kind, owner: str, work: Callable[[], T]) -> T:
    """Do some work in a thread, when it is the owner's turn; see :meth:`Aside.call`."""
    asides = _asides.setdefault(asyncio.get_running_loop(), {})
    if (found := asides.get(kind)) is None:
        found = asides[kind] = Aside(kind.name, kind.places, each=kind.each)
    return await found.call(owner, work)


class Aside:
    """Places for work that blocks, handed out in turn by owner. It belongs to one event loop.

    Parameters
    ----------
    name
        What its threads are called.
    places
        How much is done at the same time.
    waiting
        How much may wait; of one owner, a quarter of that.
    each
        How much of one owner is done at the same time.
    """

    def __init__(self, name: str, places: int, *, waiting: int = WAITING, each: int = 1) -> None:
        self.name = name
        self.places = places
        self._each = each
        self._most_waiting = waiting
        self._most_of_one = max(1, waiting // 4)
        self._running: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Who waits; the owner whose turn is next stands first."""

    async def call(self, owner: str, work: Callable[[], T]) -> T:
        """Do some work in a thread, when it is the owner's turn.

        Whoever no longer waits for it is gone at once; work that has begun goes on, and keeps its place.

        Parameters
        ----------
        owner
            Whose input is worked on.
        work
            The work.

        Raises
        ------
        TooManyRequests
            Too much of this owner's waits already.
        Unavailable
            Too much waits of all.
        """
        await self._turn(owner)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            self._leave(owner)
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result: T | None = None
            failure: BaseException | None = None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
                failure = error
            # The loop may have been closed meanwhile: nobody waits then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, result, failure)

        try:
            # It must not hold up the end of the process, as the threads of a pool do.
            threading.Thread(target=run, name=f"kasal-{self.name}", daemon=True).start()
        except RuntimeError:
            self._leave(owner)
            raise Unavailable("The server has no thread left", retry_after=RETRY_SECONDS) from None
        return await answer

    async def _turn(self, owner: str) -> None:
        """Wait for a place, and take it."""
        if self._free(owner) and not self._waiting:
            self._enter(owner)
            return
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= self._most_waiting:
            raise Unavailable(
                f"{waiting} others wait for the same; try it again later", retry_after=RETRY_SECONDS
            )
        own = self._waiting.get(owner, ())
        if len(own) >= self._most_of_one:
            raise TooManyRequests(
                f"{len(own)} of your requests wait for the same; wait for them", retry_after=RETRY_SECONDS
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._call_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(owner)
            else:
                self._withdraw(owner, turn)
            raise

    def _free(self, owner: str) -> bool:
        return sum(self._running.values()) < self.places and self._running.get(owner, 0) < self._each

    def _enter(self, owner: str) -> None:
        self._running[owner] = self._running.get(owner, 0) + 1

    def _leave(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        self._call_next()

    def _withdraw(self, owner: str, turn: asyncio.Future[None]) -> None:
        own = self._waiting.get(owner)
        if own is None or turn not in own:
            return
        own.remove(turn)
        if not own:
            del self._waiting[owner]

    def _call_next(self) -> None:
        """Give free places to those whose turn it is; an owner who was called goes behind the others."""
        while owner := next((each for each in self._waiting if self._free(each)), None):
            own = self._waiting.pop(owner)
            turn = own.popleft()
            if own:
                self._waiting[owner] = own
            if not turn.done():
                self._enter(owner)
                turn.set_result(None)


_asides: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Kind, Aside]] = WeakKeyDictionary()
