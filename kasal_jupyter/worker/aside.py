"""Work in a thread of its own, which whoever waits for it may leave."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
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
