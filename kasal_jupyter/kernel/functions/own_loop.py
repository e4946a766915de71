"""Calling the notebook's functions, ``async`` ones too, as if no event loop were running, and for so long."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import signal
import threading
import time
from asyncio import events
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_SECONDS = 0.5
"""How long a cancelled ``async`` function may take to end before it is interrupted."""


class OwnLoop:
    """An event loop for the ``async`` tools of one thread, made when it is first needed.

    It is kept between calls, since clients and locks that a function keeps are bound to their loop.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def call(
        self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], seconds: float
    ) -> Any:
        """Call a function, await what it gives where that is to be awaited, and give the result.

        On the main thread the kernel's own loop runs already, and stands still as long as a cell blocks it.
        It is put aside meanwhile, so that the function may call ``asyncio.run`` itself as well.

        Parameters
        ----------
        function, args, kwargs
            What is called.
        seconds
            How long it may take: then it is cancelled, or interrupted where that is possible.

        Raises
        ------
        TimeLimitReached
            The time was over.
        """
        with time_limit(seconds), _outside_of_loops():
            value = function(*args, **kwargs)
            if not inspect.isawaitable(value):
                return value
        with time_limit(seconds + GRACE_SECONDS), _outside_of_loops():
            if self._runner is None:
                # A factory keeps it from becoming the thread's current loop, which is the kernel's.
                self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            # The cell's context: where what is printed goes to.
            return self._runner.run(_awaited(value, seconds), context=contextvars.copy_context())

    def close(self) -> None:
        """Cancel what the functions have left running, and close the loop."""
        if self._runner is not None:
            with _outside_of_loops():
                self._runner.close()
            self._runner = None


async def _awaited(value: Awaitable[Any], seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await value
    except TimeoutError:
        # Not one of the function's own.
        if limit.expired():
            raise TimeLimitReached from None
        raise


@contextmanager
def _outside_of_loops() -> Iterator[None]:
    running = events._get_running_loop()  # noqa: SLF001 - asyncio has no other way to put a loop aside
    if running is None:
        yield
        return
    events._set_running_loop(None)  # noqa: SLF001
    try:
        yield
    finally:
        # `asyncio.run` leaves the thread without a current loop.
        asyncio.set_event_loop(running)
        events._set_running_loop(running)  # noqa: SLF001


class TimeLimitReached(BaseException):
    """The time is over. No ``Exception``: the code that is interrupted would take it for one of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what goes on inside after so many seconds, where that is possible.

    It is on the main thread of a system with SIGALRM, between two steps of Python: a call into a library
    that comes back late is interrupted late. Elsewhere nothing is interrupted. A timer that somebody else
    had set goes on afterwards.

    Raises
    ------
    TimeLimitReached
        The time was over.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    armed = True

    def ring(_signal: int, _frame: FrameType | None) -> None:
        if armed:
            raise TimeLimitReached

    handler = signal.signal(signal.SIGALRM, ring)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        try:
            yield
        finally:
            armed = False
    finally:
        # Whatever happens: it may ring in the very moment in which it is disarmed.
        signal.setitimer(signal.ITIMER_REAL, 0)
        # None stands for a handler that was not set from Python.
        signal.signal(signal.SIGALRM, handler if handler is not None else signal.SIG_DFL)
        if left:
            passed = time.monotonic() - began
            signal.setitimer(signal.ITIMER_REAL, max(left - passed, 0.001), interval)
