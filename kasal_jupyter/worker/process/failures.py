"""From an exception to an error code and one readable sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kasal_jupyter.errors import KasalError
from kasal_jupyter.events.event import ErrorInfo, FailureDetails
from kasal_jupyter.worker.models.provider_errors import (
    TOOLS,
    Place,
    ProviderFailure,
    failure_of,
    garbled,
    is_ours,
    said,
)

ANSWER_INVALID = "the answer is not in the JSON form that it was asked for"

OUT_OF_MEMORY = "The run was out of memory: it needs more than it may have, or than there is."

_NOT_JSON = re.compile(r" at line \d+ column \d+$")
"""How the message of pydantic's JSON parser ends."""


_OF_PROGRAMS = (AttributeError, TypeError, LookupError, NameError, AssertionError, NotImplementedError)


class ModelFailed(KasalError):
    """A model call failed, in words for the run's owner.

    Parameters
    ----------
    message
        One sentence.
    code
        ``RATE_LIMIT``, ``MODEL_AUTH``, ``MODEL_ERROR`` …
    passing
        Whether the same call may well succeed a little later.
    wait
        Seconds that the provider asks to wait; None where it says nothing.
    setting
        Which of the agent's settings the model does not take, where that is why; or what its server lacks.
    unpaid
        Whether the provider had done nothing yet that costs: it was not reached, or turned the call down.
    tries
        How often a model is asked at the most that fails like this; None for what is usual.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        passing: bool = False,
        wait: float | None = None,
        setting: str | None = None,
        unpaid: bool = False,
        tries: int | None = None,
    ) -> None:
        super().__init__(message)
        self.failure_code = code
        self.passing = passing
        self.wait = wait
        self.setting = setting
        self.unpaid = unpaid
        self.tries = tries


class FailedBefore(ModelFailed):
    """A model has failed in an earlier run, and was not asked now.

    Attributes
    ----------
    wait_before
        Seconds that were waited then before it was asked again; None where it was not.
    """

    wait_before: float | None = None


class AnswerUnreadable(ModelFailed):
    """A model has answered, and not with the object that it was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="MODEL_ERROR")

    @classmethod
    def of(cls, model: str, why: str = "") -> AnswerUnreadable:
        """Make it, for a model, with what is wrong with its answer."""
        return cls(f"{model}: {ANSWER_INVALID}{f' ({why})' if why else ''}.")


class NoToolCalls(ModelFailed):
    """A model's server takes no tools: CrewAI goes on in words, by the words that it knows this by."""

    def __init__(self, model: str, said: str = "") -> None:
        because = f": {said}" if said else "."
        super().__init__(f"{model} does not support tools here{because}", code="MODEL_ERROR", setting=TOOLS)


def details_of(failure: ModelFailed) -> FailureDetails:
    """Give what of a failure decides about what comes after it."""
    details = FailureDetails()
    if failure.passing:
        details["passing"] = True
    if failure.wait is not None:
        details["wait"] = failure.wait
    if failure.setting is not None:
        details["setting"] = failure.setting
    if failure.unpaid:
        details["unpaid"] = True
    if failure.tries is not None:
        details["tries"] = failure.tries
    if isinstance(failure, AnswerUnreadable):
        details["unreadable"] = True
    return details


def failed_before(error: ErrorInfo, details: FailureDetails, wait: float | None) -> ModelFailed:
    """Make a failure again that was recorded; ``wait`` as of :class:`FailedBefore`."""
    if details.get("unreadable"):
        return AnswerUnreadable(error["message"])
    made = FailedBefore(
        error["message"],
        code=error["code"],
        passing=details.get("passing", False),
        wait=details.get("wait"),
        setting=details.get("setting"),
        unpaid=details.get("unpaid", False),
        tries=details.get("tries"),
    )
    made.wait_before = wait
    return made


def model_failure(error: BaseException, model: str, asked: Place | None = None) -> ModelFailed:
    """Read what was raised while a model was asked.

    Parameters
    ----------
    error
        The exception; its causes are looked at too, since CrewAI and the providers wrap theirs.
    model
        The name of the model.
    asked
        Where it was asked.
    """
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ModelFailed):
            return one
    if found := failure_of(chain, asked):
        return _failed(found, model)
    # Of an answer that is not in its schema, pydantic says where it is wrong but not what is.
    if any(("pydantic" in type(one).__module__ or _not_json(one)) and not is_ours(one) for one in chain):
        return AnswerUnreadable.of(model)
    if found := garbled(chain):
        return _failed(found, model)
    # What goes wrong in a program goes wrong in ours, or in one that ours is built on.
    if any(isinstance(one, _OF_PROGRAMS) or (isinstance(one, Exception) and is_ours(one)) for one in chain):
        words = f"The call of {model} could not be made: {said(error)}"
        return ModelFailed(words, code="INTERNAL_ERROR", unpaid=True)
    return ModelFailed(f"{model}: {said(error)}", code="MODEL_ERROR")


def describe(
    error: BaseException, *, model: str | None = None, code: str = "INTERNAL_ERROR", of_tool: bool = False
) -> ErrorInfo:
    """Say what went wrong.

    Parameters
    ----------
    error
        The exception; its causes are looked at too.
    model
        The name of the model that was asked, where one was.
    code
        The code of an exception that nothing else is known about.
    of_tool
        Whether a tool raised it: tools speak HTTP, too, and their timeouts are not a model's.
    """
    chain = list(_chain(error))
    for one in chain:
        # ModelFailed, and RunFailed, which has to be an exception of CrewAI's.
        if known_code := getattr(one, "failure_code", None):
            return ErrorInfo(code=known_code, message=str(one))
        if isinstance(one, MemoryError):
            return ErrorInfo(code="OUT_OF_MEMORY", message=OUT_OF_MEMORY)
    if code == "MODEL_ERROR":
        failure = model_failure(error, model or "The model")
        return ErrorInfo(code=failure.failure_code, message=str(failure))
    if not of_tool and (found := failure_of(chain)):
        return ErrorInfo(code=found.code, message=f"{model or 'The model'}: {found.message}")
    return ErrorInfo(code=code, message=said(error))


def _failed(found: ProviderFailure, model: str) -> ModelFailed:
    return ModelFailed(
        f"{model}: {found.message}",
        code=found.code,
        passing=found.passing,
        wait=found.wait,
        setting=found.setting,
        unpaid=found.unpaid,
    )


def _not_json(error: BaseException) -> bool:
    return isinstance(error, ValueError) and bool(_NOT_JSON.search(str(error)))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
