"""A limit on how long the notebook's own code may take on the main thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
