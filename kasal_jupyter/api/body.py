"""What a request says: bodies and queries, read strictly, and refused with every fault by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from kasal_jupyter.errors import Fault, InvalidRequest, nearest
from kasal_jupyter.schemas.base import Query

M = TypeVar("M", bound=BaseModel)
Q = TypeVar("Q", bound=Query)

MOST_NESTING = 100
"""How deep a body's lists and objects may nest; events and documents hold it some levels deeper again."""

_REASONS = {
    "missing": "Field required",
    "extra_forbidden": "Unknown field; remove it or correct its name",
}


def read_body(model: type[M], body: bytes, message: str) -> M:
    """Read a JSON body.

    Parameters
    ----------
    model
        What it must be.
    body
        The bytes as sent.
    message
        The error's message, e.g. ``Invalid crew configuration``.

    Raises
    ------
    InvalidRequest
        It is not JSON, or not such a body; every fault is named.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = f"Not valid JSON: {error}" if body.strip() else "A JSON object is required"
        raise InvalidRequest(message, faults=[Fault("body", reason)]) from None
    if _nests_deeper(data, MOST_NESTING):
        reason = f"Nested more than {MOST_NESTING} levels deep; make it flatter"
        raise InvalidRequest(message, faults=[Fault("body", reason)])
    try:
        return model.model_validate(data, strict=True)
    except ValidationError as error:
        raise InvalidRequest(message, faults=faults_of(error)) from None


def read_query(model: type[Q], arguments: Mapping[str, Sequence[bytes]]) -> Q:
    """Read a query.

    Parameters
    ----------
    model
        What may be asked.
    arguments
        The values by name, as Tornado takes the query apart; the last of several counts.

    Raises
    ------
    InvalidRequest
        A parameter is unknown or wrong; every fault is named.
    """
    given = {name: values[-1] for name, values in arguments.items() if not _passes(name)}
    if not given and (empty := _nothing_given(model)) is not None:
        return empty  # type: ignore[no-any-return]
    known = [field.alias or name for name, field in model.model_fields.items()]
    faults = [
        Fault(name, f"Unknown parameter{nearest(name, known)}; there are {', '.join(known) or 'none here'}")
        for name in given
        if name not in known
    ]
    try:
        texts = {name: value.decode() for name, value in given.items() if name in known}
        read = model.model_validate_strings(texts)
    except UnicodeDecodeError:
        raise InvalidRequest("Invalid query", faults=[Fault("query", "Not valid UTF-8")]) from None
    except ValidationError as error:
        raise InvalidRequest("Invalid query", faults=[*faults, *faults_of(error)]) from None
    if faults:
        raise InvalidRequest("Invalid query", faults=faults)
    return read


@cache
def _nothing_given(model: type[Q]) -> Q | None:
    """Give the query that has nothing; None where it must have something."""
    if any(field.is_required() for field in model.model_fields.values()):
        return None
    # It cannot be changed, so that one serves every request.
    return model()


def _passes(name: str) -> bool:
    """Say whether a parameter is not the operation's: a credential, or JupyterLab's against caches."""
    return name in {"token", "_xsrf"} or name.isdigit()


def faults_of(error: ValidationError) -> list[Fault]:
    """Give a validation's faults, each with its path: ``agents[0].role``."""
    return [
        Fault(_path(item["loc"]), _REASONS.get(item["type"], item["msg"].removeprefix("Value error, ")))
        for item in error.errors(include_url=False, include_input=False)
    ]


def _nests_deeper(data: object, most: int) -> bool:
    level = [data]
    for _ in range(most + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        level = inner
    return True


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or "body"
