"""Request bodies: read strictly, and refused with every fault by field."""

from __future__ import annotations

from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from kasal_jupyter.errors import Fault, InvalidRequest

M = TypeVar("M", bound=BaseModel)

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


def faults_of(error: ValidationError) -> list[Fault]:
    """Give a validation's faults, each with its path: ``agents[0].role``."""
    return [
        Fault(_path(item["loc"]), _REASONS.get(item["type"], item["msg"]))
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
