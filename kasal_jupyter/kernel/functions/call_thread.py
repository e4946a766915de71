"""The one thread that does the calls of all runs in the background."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kasal_jupyter.kernel.functions.own_loop import OwnLoop
from kasal_jupyter.kernel.functions.tool_calls import ToolCall
from kasal_jupyter.kernel.runs.questions import HumanQuestion

Call = ToolCall | HumanQuestion
Serve = Callable[[Call, OwnLoop], None]
"""Does a call and answers it."""


@dataclass(slots=True)
class _Worker:
    """A thread that does calls, until it is replaced or there is nothing to do any more."""

    thread: threading.Thread | None = None
    busy_with: Call | None = None
    replaced: bool = False


@dataclass(slots=True)
class CallThread:
    """Does one call after the other, so that the notebook's functions need not be made for several threads.

    A function that does not end in its time cannot be interrupted there: it is left to itself, and another
    thread does the calls that come after it.
    """

    _waiting: deque[tuple[Call, Serve]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _runs: int = 0
    _worker: _Worker | None = None

    def open(self) -> None:
        """Note that a run in the background goes on: the thread is kept for it."""
        with self._changed:
            self._runs += 1

    def close(self) -> None:
        """Note that one has ended; behind the last, the thread ends too."""
        with self._changed:
            self._runs -= 1
            self._changed.notify_all()

    def submit(self, call: Call, serve: Serve) -> None:
        """Have a call done."""
        with self._changed:
            self._waiting.append((call, serve))
            self._changed.notify_all()
            if self._worker is None:
                self._begin()

    def mind(self) -> None:
        """Replace the thread where it is held up. To be called now and then."""
        with self._changed:
            worker = self._worker
            if worker is None or worker.busy_with is None:
                return
            if worker.busy_with.closed.is_set() or worker.busy_with.seconds_left <= 0:
                worker.replaced = True
                self._begin()

    def _begin(self) -> None:
        worker = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="kasal-tools", daemon=True)
        self._worker = worker
        worker.thread.start()

    def _work(self, worker: _Worker) -> None:
        loop = OwnLoop()
        try:
            while (next_one := self._next(worker)) is not None:
                call, serve = next_one
                serve(call, loop)
        finally:
            loop.close()

    def _next(self, worker: _Worker) -> tuple[Call, Serve] | None:
        with self._changed:
            worker.busy_with = None
            self._changed.wait_for(lambda: worker.replaced or self._waiting or not self._runs)
            if worker.replaced:
                return None
            if not self._waiting:
                self._worker = None
                return None
            call, serve = self._waiting.popleft()
            worker.busy_with = call
            return call, serve


call_thread = CallThread()
"""This kernel's."""
