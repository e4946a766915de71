"""Python's values as JSON knows them: exactly, or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

MOST_VALUES = 1_000
"""Values of an array that are sent as they are; more are no prompt."""

DEEPEST = 90
"""Levels of lists in lists."""

_TEXTS = (Decimal, Fraction, UUID, PurePath, timedelta)
"""What is written as the text that ``str`` gives."""

_PANDAS_TEXTS = {"Period", "Interval"}
"""Classes of pandas' that are written so as well; pandas need not be installed."""

_MISSING = {"NAType", "NaTType"}
"""Classes of pandas' marks for what is missing."""


class NotPlain(ValueError):
    """A value that JSON has no word for; the text names it, and says what to pass instead."""


def plain(value: Any, name: str) -> Any:
    """Give a value as JSON knows it.

    Numbers keep every digit: a whole number of more than 64 bits becomes a text, for no reader of JSON is
    sure to keep it. So do decimals, dates, times, durations, UUIDs and paths. Sets become sorted lists,
    enumerations their values, dataclasses and pydantic's models their fields, arrays and scalars of numpy and
    pandas what they hold, and what is missing null.

    Parameters
    ----------
    value
        The value.
    name
        What it is called, for errors.

    Raises
    ------
    NotPlain
        It has no such form.
    """
    return _plain(value, name, 0)


def is_missing(value: Any) -> bool:
    """Say whether a value is one of the marks for what is missing."""
    return value is None or type(value).__name__ in _MISSING


def scalar(value: Any) -> Any:
    """Give numpy's scalar as Python's with the same digits: of a short float those that tell it from others.

    Dates and durations, which may be finer than Python's, become their texts; so do the longest floats.
    """
    kind = value.dtype.kind
    if kind in "mM":
        return None if str(value) == "NaT" else str(value)
    if kind == "f":
        return str(value) if value.dtype.itemsize > 8 else float(str(value))
    return value.item()


def is_scalar(value: Any) -> bool:
    """Say whether a value is one of numpy's scalars; numpy need not be installed."""
    return (
        getattr(value, "dtype", None) is not None
        and getattr(value, "shape", None) == ()
        and hasattr(value, "item")
    )


def _plain(value: Any, name: str, depth: int) -> Any:
    if depth > DEEPEST:
        root = name.partition("[")[0]
        raise NotPlain(
            f"{root} is nested more than {DEEPEST} levels deep, or contains itself; make it flatter"
        )
    if isinstance(value, Enum):
        return _plain(value.value, name, depth)
    if is_scalar(value):
        value = scalar(value)
    if is_missing(value) or isinstance(value, bool):
        return None if is_missing(value) else value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return _whole(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotPlain(f"{name} is {value}, which is no number of JSON; pass None or a text")
        return float(value)
    if isinstance(value, _TEXTS) or type(value).__name__ in _PANDAS_TEXTS:
        return str(value)
    if isinstance(value, date | time) or hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, Mapping):
        return _mapping(value, name, depth)
    return _plain_many(value, name, depth)


def _plain_many(value: Any, name: str, depth: int) -> Any:
    """Give what holds several values as a list or as a mapping."""
    if isinstance(value, AbstractSet):
        value = _sorted(value)
    elif is_dataclass(value) and not isinstance(value, type):
        return _mapping({each.name: getattr(value, each.name) for each in fields(value)}, name, depth)
    elif not isinstance(value, type) and hasattr(value, "model_dump"):
        return _mapping(value.model_dump(), name, depth)
    elif isinstance(value, range) or hasattr(value, "tolist"):
        size = getattr(value, "size", None)
        size = len(value) if size is None else size
        if size > MOST_VALUES or getattr(value, "ndim", 1) > 1:
            raise NotPlain(
                f"{name} is an array of {size:,} values, too many for a prompt; pass it as a frame, which "
                f"agents get tools for: pandas.DataFrame({name})"
            )
        # Its own scalars: a list of Python's would have other digits, and of fine dates none at all.
        value = list(value) if getattr(value, "ndim", 1) else [value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(each, f"{name}[{place}]", depth + 1) for place, each in enumerate(value)]
    raise NotPlain(_refusal(value, name))


def _refusal(value: Any, name: str) -> str:
    kind = type(value).__name__
    if kind == "LazyFrame":
        return f"{name} is a LazyFrame, which has no rows yet; pass {name}.collect()"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{name} is {kind}, which no prompt can hold; decode it to a text"
    return (
        f"{name} is of the type {kind}, which cannot be sent to a crew; "
        "pass text, numbers, dates or lists of them"
    )


def _mapping(value: Mapping[Any, Any], name: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, each in value.items():
        called = key if isinstance(key, str) else _plain(key, f"a key of {name}", depth + 1)
        if isinstance(called, list | dict):
            raise NotPlain(f"a key of {name} is a {type(key).__name__}; keys are texts or numbers")
        text = str(called)
        if text in found:
            raise NotPlain(f"{name} has two keys that are written {text!r}; make all of them texts")
        found[text] = _plain(each, f"{name}[{text!r}]", depth + 1)
    return found


def _whole(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:
        # Python writes no more than 4,300 digits.
        return hex(value)


def _sorted(values: Iterable[Any]) -> list[Any]:
    """Give a set's values in an order that is the same each time."""
    listed = list(values)
    try:
        return sorted(listed)
    except TypeError:
        return sorted(listed, key=cast("Callable[[Any], str]", repr))
