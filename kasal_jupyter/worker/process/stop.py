"""Whether a run must end, or wait: it was told to, a model has failed for good, or its budget is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from crewai.hooks.dispatch import HookAborted

from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.worker.process.failures import OUT_OF_MEMORY


class RunStopped(HookAborted):
    """The run was told to stop. CrewAI passes ``HookAborted`` through all its layers without a retry."""

    def __init__(self) -> None:
        super().__init__("The run was stopped.", source="kasal")


class RunFailed(HookAborted):
    """A model has failed for good, or the budget is used up, so no further model is asked."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error["message"], source="kasal")
        self.failure_code = error["code"]


class RunOutOfMemory(RunFailed):
    """The run has come to the end of its memory; whatever it would do next may fail in any way."""

    def __init__(self) -> None:
        super().__init__(ErrorInfo(code="OUT_OF_MEMORY", message=OUT_OF_MEMORY))


class StopSignal:
    """What a run's threads look at before they ask a model, and while they wait for something."""

    def __init__(self) -> None:
        self.on_failure: Callable[[ErrorInfo], None] | None = None
        """Told of the reason that ends the run, on the thread that it was found on."""
        self.changed = threading.Condition()
        """Notified when the run must end, and of whatever else somebody waits for."""
        self._stopped = False
        self._held: Mapping[str, float] = {}
        self.failure: ErrorInfo | None = None

    @property
    def stopped(self) -> bool:
        """Whether the run was told to stop."""
        return self._stopped

    def stop(self) -> None:
        """Tell the run to stop; wakes whoever sleeps or waits."""
        with self.changed:
            self._stopped = True
            self.changed.notify_all()

    def fail(self, error: ErrorInfo) -> None:
        """End the run, for the first reason that is given; wakes whoever sleeps or waits."""
        with self.changed:
            if self.failure is not None:
                return
            try:
                # Before anybody else can notice it.
                if self.on_failure is not None:
                    self.on_failure(error)
            finally:
                self.failure = error
                self.changed.notify_all()

    def hold(self, models: Mapping[str, float]) -> None:
        """Have some models asked only after some seconds, by their names."""
        until = {name: time.monotonic() + seconds for name, seconds in models.items()}
        self._held = {**self._held, **until}

    def wait_while_held(self, model: str) -> None:
        """Wait until a model may be asked.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        while (left := self._held.get(model, 0.0) - time.monotonic()) > 0:
            self.sleep(left)

    def sleep(self, seconds: float) -> None:
        """Sleep, unless the run must end meanwhile.

        Raises
        ------
        RunStopped, RunFailed
            It must.
        """
        self.wait_for(lambda: False, seconds)

    def wait_for(self, ready: Callable[[], bool], seconds: float | None) -> None:
        """Wait until something is ready, at most so long.

        Parameters
        ----------
        ready
            Asked whenever :attr:`changed` is notified.
        seconds
            The most to wait; None: as long as it takes.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        with self.changed:
            self.changed.wait_for(lambda: self._stopped or self.failure is not None or ready(), seconds)
        self.check()

    def check(self, _context: object = None) -> None:
        """Raise what ends the run, if anything does. Serves as CrewAI's hook before a model call.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        if self.stopped:
            raise RunStopped
        if self.failure is not None:
            raise RunFailed(self.failure)
