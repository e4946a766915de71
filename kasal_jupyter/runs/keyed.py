"""Requests that carry a key: sent again, they start nothing again (``Idempotency-Key``)."""

from __future__ import annotations

from dataclasses import dataclass

from kasal_jupyter.errors import Conflict
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.store.store import Store


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that its client may send again: the key tells that it is the same.

    Attributes
    ----------
    key
        The client's key, with its owner before it: two users may choose the same.
    digest
        Of what is asked for.
    """

    key: str
    digest: str


def started_with(store: Store, request: KeyedRequest) -> Execution | None:
    """Give the execution that a request with the same key has started.

    Raises
    ------
    Conflict
        That request asked for something else.
    """
    found = store.executions.find(idempotency_key=request.key)
    if not found:
        return None
    first = found[0]
    if first.request_digest != request.digest:
        raise Conflict(
            f"The Idempotency-Key was used for another request, which started {first.id}; take a new one"
        )
    return first
