"""Whether a condition, which is data, holds of a result."""

from __future__ import annotations

import json
from typing import Any

import re2  # type: ignore[import-untyped]

from kasal_jupyter.hiding import here
from kasal_jupyter.schemas.tasks import TaskCondition

_SHOWN = 80
"""Most characters of a value in a reason."""

_MISSING = object()


def unmet(condition: TaskCondition, raw: str, structured: Any = None) -> str | None:
    """Say what of a condition does not hold of a result; None where all of it does.

    Parameters
    ----------
    condition
        What is asked.
    raw
        The result as text.
    structured
        The result as JSON, where the task has an ``output_schema``.
    """
    try:
        return _unmet(condition, raw, structured)
    except RecursionError:
        return "the result is nested too deeply"


def _unmet(condition: TaskCondition, raw: str, structured: Any) -> str | None:
    value: Any = raw
    what = "the result"
    if condition.field is not None:
        value = _at(structured if structured is not None else _parsed(raw), condition.field)
        what = condition.field
        if value is _MISSING:
            return f"the result has no field {condition.field!r}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if condition.contains is not None and condition.contains.casefold() not in text.casefold():
        return f"{what} does not contain {_shown(condition.contains)}"
    if condition.lacks is not None and condition.lacks.casefold() in text.casefold():
        return f"{what} contains {_shown(condition.lacks)}"
    if condition.matches is not None and re2.search(condition.matches, text) is None:
        return f"{what} does not match {_shown(condition.matches)}"
    if condition.equals is not None and not _equal(value, condition.equals):
        return f"{what} is not {_shown(condition.equals)}"
    return None


def _at(value: Any, path: str) -> Any:
    """Give what stands at a path; a number in it is a place in a list."""
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _equal(value: Any, wanted: Any) -> bool:
    """Compare as JSON does: 1 is 1.0, and true is not 1."""
    if isinstance(value, str):
        if isinstance(wanted, str):
            return value.strip() == wanted.strip()
        value = _parsed(value)
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return bool(value == wanted)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _MISSING


def _shown(value: Any) -> str:
    text = here().hide(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
