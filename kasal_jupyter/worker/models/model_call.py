"""One call of a model, in a thread of its own: it can be left, whatever it waits for.

A call that hangs in the operating system can't be interrupted, and the time-out of an SDK is for one read,
which a server that drips never lets pass. So whoever asks waits here: for the answer, the time, or the
end of the run.
"""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crewai.hooks.dispatch import HookAborted

from kasal_jupyter.events.event import Edited, ErrorInfo, FailureDetails, TokenUsage
from kasal_jupyter.worker.crew.earlier import Given
from kasal_jupyter.worker.crew.time_limit import BackgroundWork
from kasal_jupyter.worker.models.answer_text import Heard, LiveSpeech
from kasal_jupyter.worker.process.failures import ModelFailed
from kasal_jupyter.worker.process.stop import StopSignal

_current: contextvars.ContextVar[ModelCall | None] = contextvars.ContextVar("kasal_call", default=None)


class CallTimedOut(TimeoutError):
    """A model has not answered in time."""


class CallGivenUp(HookAborted):
    """Nobody waits for this call any more: it ends at its next sign of life, and closes its connection."""

    def __init__(self) -> None:
        super().__init__("Nobody waits for this answer any more.", source="kasal")


class ModelCall:
    """One call.

    Attributes
    ----------
    call_id
        CrewAI's id of it; None before it has begun.
    key
        Its identity; None where nothing is recorded.
    edited
        Who has put another prompt in the place of the last one.
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
        self.edited: Edited | None = None
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

    def in_this_thread(self, work: Callable[[], Any]) -> Any:
        """Make the call in this thread."""
        token = _current.set(self)
        try:
            return work()
        finally:
            _current.reset(token)

    def in_thread(self, work: Callable[[], Any], seconds: float, signal: StopSignal) -> Any:
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

        call = BackgroundWork(lambda: context.run(self.in_this_thread, work), "model-call", tell)
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


def current_call() -> ModelCall | None:
    """Give the call that this thread makes; None where it makes none."""
    return _current.get()


def given_up() -> bool:
    """Say whether this thread makes a call that nobody waits for any more."""
    call = _current.get()
    return call is not None and call.is_given_up()


# When a model is asked again, how long later, and how that is told.

LONGEST_WAIT = 120.0
"""Seconds that a provider may ask to wait; where it asks for more, the model has failed."""

_TRIES = {"RATE_LIMIT": 5, "MODEL_TIMEOUT": 2}
_USUAL_TRIES = 3
_FIRST_WAIT = {"RATE_LIMIT": 1.0}
_USUAL_FIRST_WAIT = 0.5
_JITTER = 0.25
"""Waits differ by so much of themselves, so that agents that failed together do not come back together."""


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """A failed call will be made again, or another model will be asked instead.

    Attributes
    ----------
    call_id
        CrewAI's id of the call that failed.
    model
        Who is asked next.
    attempt
        The number of that call, counted for each model from 1.
    wait
        Seconds until then.
    error
        Why.
    """

    call_id: str | None
    model: str
    attempt: int
    wait: float
    error: ErrorInfo
    type: str = "kasal_llm_retry"


@dataclass(frozen=True, slots=True)
class CallLeft:
    """A call has failed, or nobody waits for it any more.

    Attributes
    ----------
    usage, cost
        What it took all the same: 0.0 where the provider has done nothing, None where nobody knows.
    key
        Its identity.
    failure
        What else is to be known of how it failed.
    """

    call_id: str | None
    error: ErrorInfo
    usage: TokenUsage | None
    cost: float | None
    key: str | None
    failure: FailureDetails
    type: str = "kasal_llm_left"


@dataclass(frozen=True, slots=True)
class CallGiven:
    """A call was not made: an earlier run's answer to it is given.

    Attributes
    ----------
    key
        Its identity.
    given
        The call and the answer, as they were recorded.
    """

    key: str
    given: Given
    type: str = "kasal_llm_given"


def asks_again(failure: ModelFailed, tries: int) -> bool:
    """Say whether a model is asked again after so many tries, the last of which failed in this way."""
    if not failure.passing or (failure.wait or 0.0) > LONGEST_WAIT:
        return False
    return tries < (failure.tries or _TRIES.get(failure.failure_code, _USUAL_TRIES))


def seconds_until_retry(failure: ModelFailed, tries: int) -> float:
    """Give the seconds to wait: what the provider asks for, or else twice as long each time."""
    if failure.wait is not None:
        return failure.wait
    usual: float = _FIRST_WAIT.get(failure.failure_code, _USUAL_FIRST_WAIT) * 2.0 ** (tries - 1)
    return usual * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311


def final_words(failure: ModelFailed, tries: int) -> str:
    """Give the sentence that a model's last failure is told by."""
    if failure.wait is not None and failure.wait > LONGEST_WAIT:
        return f"{failure} It asks to wait {_duration(failure.wait)}, longer than a run waits."
    if failure.passing and tries > 1:
        return f"{failure} It was asked {'twice' if tries == 2 else f'{tries} times'}."
    return str(failure)


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"


def note_address(request: Any, **_about: Any) -> None:
    """Keep the address that an SDK asks: a hook, for those whose errors do not say it."""
    if call := current_call():
        call.address = str(request.url)
