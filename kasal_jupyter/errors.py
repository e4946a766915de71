"""The errors of the product.

::

    KasalError                       500 INTERNAL_ERROR
    ├── InvalidRequest               400 VALIDATION_ERROR
    │   └── NotRunnable              400 CREW_NOT_RUNNABLE
    ├── Unauthorized                 401 UNAUTHORIZED
    ├── Forbidden                    403 FORBIDDEN
    │   ├── QuotaExceeded            403 QUOTA_EXCEEDED
    │   └── BudgetUsedUp             403 BUDGET_EXCEEDED
    ├── NotFound                     404 NOT_FOUND
    ├── MethodNotAllowed             405 METHOD_NOT_ALLOWED
    ├── Conflict                     409 CONFLICT
    ├── PreconditionFailed           412 PRECONDITION_FAILED
    ├── UnsupportedMedia             415 UNSUPPORTED_MEDIA_TYPE
    ├── NotGenerated                 422 CREW_NOT_GENERATED
    ├── TooManyRequests              429 RATE_LIMIT
    ├── ModelCallFailed              502 MODEL_ERROR
    ├── Unavailable                  503 SERVICE_UNAVAILABLE
    ├── StoreError                   500 STORE_ERROR
    │   ├── StoreTooNew
    │   └── DocumentDamaged
    └── WorkerLost                   500 WORKER_LOST

Each class carries the HTTP status and the code that the API answers with; the
error body is the reference's *Error Response Format*.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Self

from kasal_jupyter.wellformed import well_formed

MOST_FAULTS = 100
"""Faults that an answer lists; of more it says how many there are."""

_MOST_NAMES = 20
"""Names that a reason lists."""

_LEAST_BEGUN = 3
"""Letters of a word that is taken for the beginning of another."""

_LONGEST_WORD, _MOST_WORDS = 64, 500
"""What is compared to find a word that was meant: that takes the product of their lengths."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request.

    Attributes
    ----------
    field
        Where, as a path into the body: ``"agents"``, ``"tasks[1].agent"``.
    reason
        What is wrong and what to do about it, as a sentence.
    """

    field: str
    reason: str


class Faults(list[Fault]):
    """Faults as they are found: the first ones are kept, the others counted."""

    def __init__(self) -> None:
        super().__init__()
        self.more = 0

    @property
    def full(self) -> bool:
        """Whether another one would only be counted, whatever its reason."""
        return len(self) >= MOST_FAULTS

    def append(self, fault: Fault) -> None:
        """Note a fault."""
        if self.full:
            self.more += 1
        else:
            super().append(fault)

    def extend(self, faults: Iterable[Fault]) -> None:
        """Note several."""
        for fault in faults:
            self.append(fault)

    def __iadd__(self, faults: Iterable[Fault]) -> Self:  # type: ignore[override, misc]
        self.extend(faults)
        return self

    def nearest(self, word: str, known: Iterable[str]) -> str:
        """Give what :func:`nearest` does; nothing where the fault would only be counted."""
        return "" if self.full else nearest(word, known)

    def told(self) -> list[Fault]:
        """Give what an answer lists."""
        return [*self, _uncounted(self.more)] if self.more else list(self)


def few(faults: Sequence[Fault]) -> Sequence[Fault]:
    """Give faults as an answer lists them."""
    more = len(faults) - MOST_FAULTS
    # One more than that is most likely what says how many there are.
    return faults if more <= 1 else [*faults[:MOST_FAULTS], _uncounted(more)]


def _uncounted(more: int) -> Fault:
    return Fault("errors", f"and {more:,} more; correct those before them first")


def nearest(word: str, known: Iterable[str]) -> str:
    """Give ``; did you mean …?`` for the end of a reason where a known word is near, else nothing."""
    near = nearest_word(word, known)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest_word(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Give the known word that may have been meant, whatever its case; None where none is near.

    Parameters
    ----------
    word
        What was written.
    known
        What could have been.
    cutoff
        How alike they must be, from 0 to 1.
    """
    if len(word) > _LONGEST_WORD:
        return None
    words = {each.casefold(): each for each in islice(known, _MOST_WORDS) if len(each) <= _LONGEST_WORD}
    folded = word.casefold()
    close = difflib.get_close_matches(folded, words, n=1, cutoff=cutoff)
    # Else what was begun and not written out.
    begun = [each for each in words if len(folded) >= _LEAST_BEGUN and each.startswith(folded)]
    found = close or begun[:1]
    return words[found[0]] if found else None


def listed(names: Iterable[str], none: str = "none") -> str:
    """Give names for a reason: the first of them, separated by commas."""
    first = list(islice(names, _MOST_NAMES + 1))
    return ", ".join([*first[:_MOST_NAMES], *(["…"] if len(first) > _MOST_NAMES else [])]) or none


class KasalError(Exception):
    """Anything the product refuses or fails at, in words meant for its user.

    Parameters
    ----------
    message
        One readable sentence.
    faults
        Every fault found, the first one first; shown as the error's ``details``.
    retry_after
        Seconds after which the same request may succeed, where that is known.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), retry_after: int | None = None) -> None:
        # It may speak of what somebody has sent, or of a file whose name is in no encoding.
        self.message = well_formed(message)
        super().__init__(self.message)
        self.faults = tuple(
            Fault(well_formed(fault.field), well_formed(fault.reason)) for fault in few(faults)
        )
        self.retry_after = retry_after

    def details(self) -> dict[str, Any]:
        """Give the ``details`` object: the first fault as the reference shows it, then all of them."""
        if not self.faults:
            return {}
        first = self.faults[0]
        details: dict[str, Any] = {"field": first.field, "reason": first.reason}
        if len(self.faults) > 1:
            details["errors"] = [{"field": fault.field, "reason": fault.reason} for fault in self.faults]
        return details

    def body(self) -> dict[str, Any]:
        """Give the whole error body, in the reference's *Error Response Format*."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details()}}


class InvalidRequest(KasalError):
    """The request's parameters are wrong."""

    status = 400
    code = "VALIDATION_ERROR"


class NotRunnable(InvalidRequest):
    """The crew is well-formed but cannot run here: a model without a key, an input that is missing."""

    code = "CREW_NOT_RUNNABLE"


class Unauthorized(KasalError):
    """The caller is nobody we know."""

    status = 401
    code = "UNAUTHORIZED"


class Forbidden(KasalError):
    """The caller is known, and may not do this."""

    status = 403
    code = "FORBIDDEN"


class QuotaExceeded(Forbidden):
    """The caller would have more stored than they may.

    Parameters
    ----------
    message
        One readable sentence.
    used, limit
        What it would be, and what it may be.
    """

    code = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, used: int, limit: int) -> None:
        super().__init__(message)
        self.used = used
        self.limit = limit

    def details(self) -> dict[str, Any]:
        """Give the figures."""
        return {"used": self.used, "limit": self.limit}


class BudgetUsedUp(Forbidden):
    """Nothing is left of a budget that a run would spend from."""

    code = "BUDGET_EXCEEDED"


class NotFound(KasalError):
    """There is no such resource."""

    status = 404
    code = "NOT_FOUND"


class MethodNotAllowed(KasalError):
    """The resource is there, and has no such method."""

    status = 405
    code = "METHOD_NOT_ALLOWED"


class Conflict(KasalError):
    """The resource is in a state that forbids this."""

    status = 409
    code = "CONFLICT"


class PreconditionFailed(KasalError):
    """Somebody else changed the resource in the meantime."""

    status = 412
    code = "PRECONDITION_FAILED"


class UnsupportedMedia(KasalError):
    """The request's body is of a kind that is not taken here."""

    status = 415
    code = "UNSUPPORTED_MEDIA_TYPE"


class NotGenerated(KasalError):
    """A model was asked for a crew, and has given none that could run."""

    status = 422
    code = "CREW_NOT_GENERATED"


class ModelCallFailed(KasalError):
    """A model that a request needs has not answered.

    Parameters
    ----------
    message
        One readable sentence.
    cause
        The code of the run that asked it: ``RATE_LIMIT``, ``MODEL_AUTH``, ``MODEL_TIMEOUT`` … It stands in
        the error's body, in the place of the class's own.
    faults, retry_after
        As of every error.
    """

    status = 502
    code = "MODEL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        cause: str = "MODEL_ERROR",
        faults: Sequence[Fault] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, faults=faults, retry_after=retry_after)
        self.cause = cause

    def body(self) -> dict[str, Any]:
        """Give the error body, with the code of what has happened to the model."""
        body = super().body()
        body["error"]["code"] = self.cause
        return body


class TooManyRequests(KasalError):
    """The caller's rate limit is used up.

    Parameters
    ----------
    message
        One readable sentence.
    faults, retry_after
        As of every error.
    limit
        How many requests the rate admits, where it is the caller's to know.
    """

    status = 429
    code = "RATE_LIMIT"

    def __init__(
        self,
        message: str,
        *,
        faults: Sequence[Fault] = (),
        retry_after: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message, faults=faults, retry_after=retry_after)
        self.limit = limit


class Unavailable(KasalError):
    """The server takes no such requests at the moment."""

    status = 503
    code = "SERVICE_UNAVAILABLE"


class StoreError(KasalError):
    """The data folder cannot be read or written."""

    code = "STORE_ERROR"


class StoreTooNew(StoreError):
    """The data folder was written by a newer version of the product."""


class DocumentDamaged(StoreError):
    """A stored document can't be read any more; all others can.

    Parameters
    ----------
    message
        One readable sentence.
    collection
        Its collection.
    document_id
        Which it is.
    owner, crew_id
        Whose it is, and which crew's; empty where it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        collection: str = "",
        document_id: str = "",
        owner: str = "",
        crew_id: str = "",
    ) -> None:
        super().__init__(message)
        self.collection = collection
        self.document_id = document_id
        self.owner = owner
        self.crew_id = crew_id


class WorkerLost(KasalError):
    """A run's process, or the process that starts them, is gone."""

    code = "WORKER_LOST"
