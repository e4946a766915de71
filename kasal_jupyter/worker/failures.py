"""From an exception to an error code and one readable sentence."""

from __future__ import annotations

from collections.abc import Iterator

from kasal_jupyter.errors import KasalError
from kasal_jupyter.schemas.events import ErrorInfo

MAX_MESSAGE = 500
"""Most characters of a provider's own words."""

RUN_ENDING = frozenset({"MODEL_AUTH", "MODEL_NOT_FOUND", "MODEL_TIMEOUT", "MODEL_UNREACHABLE", "RATE_LIMIT"})
"""Codes that end the whole run: the provider's client has tried again already where that makes sense.

CrewAI would pass such an error on to a manager as if it were a coworker's answer.
"""


class ModelFailed(KasalError):
    """A model call failed, in words for the run's owner.

    Parameters
    ----------
    message
        One sentence.
    code
        ``RATE_LIMIT``, ``MODEL_AUTH``, ``MODEL_ERROR`` …
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.failure_code = code


def describe(
    error: BaseException, *, model: str | None = None, code: str = "INTERNAL_ERROR", of_tool: bool = False
) -> ErrorInfo:
    """Say what went wrong.

    Parameters
    ----------
    error
        The exception; its causes are looked at too, since CrewAI and the providers wrap theirs.
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
    for one in () if of_tool else chain:
        if known := _of_provider(one, model or "The model"):
            return known
    return ErrorInfo(code=code, message=_sentence(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _of_provider(error: BaseException, model: str) -> ErrorInfo | None:
    """Tell providers' exceptions by their class names and HTTP statuses, which they all agree on."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = _sentence(error)
    if "LLMContextLengthExceededError" in names or "context_length_exceeded" in said:
        return ErrorInfo(
            code="CONTEXT_OVERFLOW", message=f"{model}: the prompt is longer than the model takes."
        )
    if names & {"APITimeoutError", "TimeoutException"}:
        return ErrorInfo(code="MODEL_TIMEOUT", message=f"{model}: no answer within the time allowed.")
    if "TransportError" in names and "ConnectError" not in names:
        return ErrorInfo(
            code="MODEL_UNREACHABLE", message=f"{model}: the connection to the provider broke off."
        )
    if names & {"APIConnectionError", "ConnectError"}:
        return ErrorInfo(code="MODEL_UNREACHABLE", message=f"{model}: the provider could not be reached.")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return None
    match status:
        case 401 | 403:
            return ErrorInfo(
                code="MODEL_AUTH", message=f"{model}: the provider refused the API key ({status})."
            )
        case 404:
            return ErrorInfo(
                code="MODEL_NOT_FOUND", message=f"{model}: the provider has no such model (404)."
            )
        case 408 | 504:
            return ErrorInfo(
                code="MODEL_TIMEOUT", message=f"{model}: no answer within the time allowed ({status})."
            )
        case 429:
            return ErrorInfo(
                code="RATE_LIMIT", message=f"{model}: the provider's rate limit is used up (429)."
            )
        case _:
            return ErrorInfo(code="MODEL_ERROR", message=f"{model}: {said}")


def _sentence(error: BaseException) -> str:
    """Give an exception's text on one line, or its class where it has none."""
    text = " ".join(str(error).split())
    if not text:
        return f"{type(error).__name__}."
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"
