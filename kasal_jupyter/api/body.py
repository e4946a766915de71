"""What a request says: bodies and queries, read strictly, and refused with every fault by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from kasal_jupyter.errors import MOST_FAULTS, Fault, InvalidRequest, nearest
from kasal_jupyter.schemas.base import Query
from kasal_jupyter.wellformed import has_more_values, well_formed_json

M = TypeVar("M", bound=BaseModel)
Q = TypeVar("Q", bound=Query)

MOST_NESTING = 100
"""How deep a body's lists and objects may nest; events and documents hold it some levels deeper again."""

MOST_VALUES = 50_000
"""Values in a body, however small."""

MANY_FAULTS = 1_000
"""Faults that are all looked at."""

_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""What every whole number beyond 64 bits has in it."""

_FIRST = 12
"""Entries of each list and object that are looked at for faults, where there are many."""

_REASONS = {
    "missing": "Field required",
    "extra_forbidden": "Unknown field; remove it or correct its name",
}


def read_body(model: type[M], body: bytes, message: str, *, most: int = MOST_VALUES) -> M:
    """Read a JSON body.

    Parameters
    ----------
    model
        What it must be.
    body
        The bytes as sent.
    message
        The error's message, e.g. ``Invalid crew configuration``.
    most
        Values that it may have, however small.

    Raises
    ------
    InvalidRequest
        It is not JSON, or not such a body; every fault is named.
    """
    if has_more_values(body, most):
        raise InvalidRequest(message, faults=[Fault("body", _too_many(most))])
    try:
        data = orjson.loads(well_formed_json(body))
    except orjson.JSONDecodeError as error:
        reason = f"Not valid JSON: {error}" if body.strip() else "A JSON object is required"
        raise InvalidRequest(message, faults=[Fault("body", reason)]) from None
    if too_much := _reason_against(data, most):
        raise InvalidRequest(message, faults=[Fault("body", too_much)])
    # What reads bodies makes floats of them, without a word.
    if _LONG_NUMBER.search(body) and (faults := [*_inexact(body)]):
        raise InvalidRequest(message, faults=faults)
    try:
        return model.model_validate(data, strict=True)
    except ValidationError as error:
        raise InvalidRequest(message, faults=_first_faults(model, data, error)) from None


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
    there_are = f"; there are {', '.join(known) or 'none here'}"
    faults = [
        Fault(name, f"Unknown parameter{nearest(name, known) or there_are}")
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


def _too_many(most: int) -> str:
    return f"It has more than {most:,} values; send less at a time"


def _reason_against(data: object, most: int) -> str | None:
    """Say why a body is too much to be looked at; None where it is not."""
    level, count = [data], 0
    for _ in range(MOST_NESTING + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        count += len(inner)
        if count > most:
            return _too_many(most)
        if not inner:
            return None
        level = inner
    return f"Nested more than {MOST_NESTING} levels deep; make it flatter"


class _Inexact:
    """Stands for a number that has more digits than 64 bits."""


def _number(digits: str) -> int | _Inexact:
    # Longer ones are never read: that takes the square of their length.
    return 0 if len(digits) <= 20 and -(2**63) <= int(digits) < 2**64 else _Inexact()


def _inexact(body: bytes) -> Iterator[Fault]:
    """Find the whole numbers that would lose digits; the body has been read, and nests within bounds."""
    level: list[tuple[tuple[str | int, ...], Any]] = [((), json.loads(body, parse_int=_number))]
    while level:
        path, value = level.pop()
        if isinstance(value, _Inexact):
            yield Fault(
                _path(path), "A whole number of more than 64 bits would lose digits; write it as a text"
            )
        elif isinstance(value, dict | list):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            level += (((*path, step), each) for step, each in pairs)


def _first_faults(model: type[BaseModel], data: object, error: ValidationError) -> list[Fault]:
    """Give a body's faults: all of them where they are few.

    To write down a hundred thousand takes pydantic a second, so that of many the first are found anew, in the
    body's beginnings.
    """
    count = error.error_count()
    if count <= MANY_FAULTS:
        return faults_of(error)
    try:
        model.model_validate(_beginning(data, 3), strict=True)
    except ValidationError as first:
        # What is missing may stand where it was cut.
        faults = [fault for fault in faults_of(first) if fault.reason != _REASONS["missing"]][:MOST_FAULTS]
    else:
        faults = [Fault("body", "It has many faults of one kind")]
    return [*faults, Fault("errors", f"and {count - len(faults):,} more; correct those before them first")]


def _beginning(data: Any, levels: int) -> Any:
    """Give a body with the first entries of each list and object, some levels deep."""
    if not levels and isinstance(data, (list, dict)):
        return data[:_FIRST] if isinstance(data, list) else data
    if isinstance(data, list):
        return [_beginning(each, levels - 1) for each in data[:_FIRST]]
    if isinstance(data, dict):
        return {key: _beginning(value, levels - 1) for key, value in islice(data.items(), _FIRST)}
    return data


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path or "body"
