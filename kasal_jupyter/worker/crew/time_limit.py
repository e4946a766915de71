"""Work that whoever waits for it may leave, and the time that an agent may take for a task."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from crewai.hooks.dispatch import HookAborted

T = TypeVar("T")


class BackgroundWork(Generic[T]):
    """Work that goes on beside whoever waits for it; it begins at once.

    Parameters
    ----------
    work
        What is done.
    name
        The thread's.
    on_end
        Called on that thread when the work is over, however it has ended.
    """

    def __init__(self, work: Callable[[], T], name: str, on_end: Callable[[], None] | None = None) -> None:
        self._work = work
        self._on_end = on_end
        self._outcome: list[T] = []
        self._failure: BaseException | None = None
        self._over = threading.Event()
        threading.Thread(target=self._act, name=name, daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether the work has ended."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; say whether it has come."""
        return self._over.wait(seconds)

    def result(self) -> T:
        """Give what work that is over has given, or raise what it has raised."""
        if self._failure is not None:
            raise self._failure
        return self._outcome[0]

    def _act(self) -> None:
        try:
            self._outcome.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed on to whoever waits.
            self._failure = error
        self._over.set()
        if self._on_end is not None:
            self._on_end()


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
    timed = BackgroundWork(lambda: context.run(work), "timed")
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
