"""When a model is asked again, how long later, and how that is told."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kasal_jupyter.events.event import ErrorInfo, FailureDetails, TokenUsage
from kasal_jupyter.worker.crew.earlier import Given
from kasal_jupyter.worker.process.failures import ModelFailed

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
