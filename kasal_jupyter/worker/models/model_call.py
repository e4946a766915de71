"""One call of a model, in a thread of its own: it can be left, whatever it waits for.

A call that hangs in the operating system can't be interrupted, and the time-out of an SDK is for one read,
which a server that drips never lets pass. So whoever asks waits here: for the answer, the time, or the
end of the run.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from crewai.hooks.dispatch import HookAborted

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.worker.crew.time_limit import Aside
from kasal_jupyter.worker.models.endings import Heard
from kasal_jupyter.worker.models.spoken import LiveSpeech
from kasal_jupyter.worker.process.stop import StopSignal

_current: contextvars.ContextVar[Attempt | None] = contextvars.ContextVar("kasal_attempt", default=None)


class CallTimedOut(TimeoutError):
    """A model has not answered in time."""


class CallGivenUp(HookAborted):
    """Nobody waits for this call any more: it ends at its next sign of life, and closes its connection."""

    def __init__(self) -> None:
        super().__init__("Nobody waits for this answer any more.", source="kasal")


class Attempt:
    """One call.

    Attributes
    ----------
    call_id
        CrewAI's id of it; None before it has begun.
    key
        Its identity; None where nothing is recorded.
    answered
        Whether the model has answered.
    usage, cost
        What the answer took, as far as is known.
    sent
        Whether the request was made, as far as that can be told.
    turned_down
        Whether the provider was not reached, or refused to begin.
    heard
        What CrewAI has no place for in the answer.
    live
        What was streamed of it, without thoughts.
    address
        Where the request went, where no exception would say it.
    """

    def __init__(self) -> None:
        self.call_id: str | None = None
        self.key: str | None = None
        self.answered = False
        self.usage: TokenUsage | None = None
        self.cost: float | None = None
        self.sent = False
        self.turned_down = False
        self.heard = Heard()
        self.live: LiveSpeech | None = None
        self.address: str | None = None
        self._given_up = False

    @property
    def unpaid(self) -> bool:
        """Whether nobody asks money for it: the provider has done nothing."""
        return not self.answered and (self.turned_down or not self.sent)

    def settle(self, usage: TokenUsage | None, cost: float | None) -> None:
        """Take down that the model has answered, and what that took."""
        self.answered, self.usage, self.cost = True, usage, cost

    def here(self, work: Callable[[], Any]) -> Any:
        """Make the call in this thread."""
        token = _current.set(self)
        try:
            return work()
        finally:
            _current.reset(token)

    def aside(self, work: Callable[[], Any], seconds: float, signal: StopSignal) -> Any:
        """Make the call in another thread, and wait for it.

        Parameters
        ----------
        work
            The call.
        seconds
            The most to wait.
        signal
            What ends the wait as well.

        Raises
        ------
        CallTimedOut
            It takes longer.
        RunStopped, RunFailed
            The run must end.
        """
        context = contextvars.copy_context()

        def tell() -> None:
            with signal.changed:
                signal.changed.notify_all()

        call = Aside(lambda: context.run(self.here, work), "model-call", tell)
        try:
            signal.wait_for(lambda: call.over, seconds)
        finally:
            self._given_up = not call.over
        if self._given_up:
            raise CallTimedOut(f"no answer within {seconds:g} seconds")
        return call.result()

    def is_given_up(self) -> bool:
        """Say whether nobody waits for it any more."""
        return self._given_up


def current_attempt() -> Attempt | None:
    """Give the call that this thread makes; None where it makes none."""
    return _current.get()


def given_up() -> bool:
    """Say whether this thread makes a call that nobody waits for any more."""
    attempt = _current.get()
    return attempt is not None and attempt.is_given_up()
