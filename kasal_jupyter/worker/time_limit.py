"""The time that an agent may take for a task."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from crewai.hooks.dispatch import HookAborted

from kasal_jupyter.worker.aside import Aside

_lapsed: contextvars.ContextVar[tuple[threading.Event, ...]] = contextvars.ContextVar(
    "kasal_lapsed", default=()
)
"""Set once the time is up of the work that this thread does, and of the work around it."""


class TaskTimedOut(TimeoutError):
    """An agent has not done its task in time. CrewAI does not try again after a ``TimeoutError``."""

    def __init__(self, seconds: int, *, code: str) -> None:
        often = "1 second" if seconds == 1 else f"{seconds} seconds"
        super().__init__(f"It was not done within the {often} that its agent may take.")
        self.failure_code = code


class TimeIsUp(HookAborted):
    """The work goes on in a thread that nobody waits for any more: it ends before its next step."""

    def __init__(self) -> None:
        super().__init__("Its time is up.", source="kasal")


def within(seconds: int, work: Callable[[], Any]) -> Any:
    """Do work in a thread of its own, and give its result if it comes in time.

    CrewAI waits for that thread to its end, however long it takes. Here it is left behind, and stops at its
    next model or tool call (see :func:`check_time`).

    Raises
    ------
    TaskTimedOut
        It does not come in time.
    """
    lapsed = threading.Event()
    context = contextvars.copy_context()
    context.run(_lapsed.set, (*_lapsed.get(), lapsed))
    timed = Aside(lambda: context.run(work), "timed")
    if not timed.wait(seconds):
        lapsed.set()
        raise TaskTimedOut(seconds, code="TASK_TIMEOUT")
    return timed.result()


def time_is_up() -> bool:
    """Say whether this thread works for nobody any more."""
    return any(lapsed.is_set() for lapsed in _lapsed.get())


def check_time(_context: object = None) -> None:
    """Raise where this thread's time is up. Serves as CrewAI's hook before a model or a tool call.

    Raises
    ------
    TimeIsUp
        It is.
    """
    if time_is_up():
        raise TimeIsUp
