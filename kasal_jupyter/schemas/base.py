"""What every schema shares: strictness, ids, timestamps, the text types."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no letter that is read as a digit."""

ID_LENGTH = 12
"""Characters behind an id's prefix: 60 random bits."""


T = TypeVar("T")

_BUILDING = threading.RLock()


class Deferred(BaseModel):
    """A model that is built at its first use: to build them all would add 60 ms to every server's start."""

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def model_rebuild(
        cls,
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: Mapping[str, Any] | None = None,
    ) -> bool | None:
        """Build it, in one thread at a time: pydantic spoils what two build at the same time."""
        with _BUILDING:
            return super().model_rebuild(
                force=force,
                raise_errors=raise_errors,
                _parent_namespace_depth=_parent_namespace_depth + 1,
                _types_namespace=_types_namespace,
            )


class Model(Deferred):
    """A strict model: an unknown field is an error, not a typo that goes unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Document(Model):
    """A stored resource. What an older or newer version stored beside its fields is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    def dump(self) -> dict[str, Any]:
        """Give the document as plain JSON types, as the store keeps it."""
        return self.model_dump(mode="json")


class Query(Model):
    """The parameters behind a path's question mark. This one has none."""


MOST_LISTED = 500
"""Items of a list that are given at once."""


class ListQuery(Query):
    """Which part of a list is asked for; pages count from 1."""

    page: int = Field(1, ge=1, le=10**9)
    per_page: int = Field(100, ge=1, le=MOST_LISTED)
    search: str | None = Field(None, min_length=1, max_length=200, description="Text that an item contains.")
    sort: str | None = Field(
        None, description="The field to sort by; a minus before it turns the order round."
    )

    @property
    def offset(self) -> int:
        """Items before the page."""
        return (self.page - 1) * self.per_page

    def part(self, items: Sequence[T]) -> list[T]:
        """Give those of all items that are on the page."""
        return list(items[self.offset : self.offset + self.per_page])


class Listed(Model, Generic[T]):
    """A page of a list. In JSON, its items stand under a name that says what they are, see :func:`called`."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    items: list[T]
    total: int
    page: int
    per_page: int

    @classmethod
    def of(cls, query: ListQuery, items: list[T], total: int) -> Self:
        """Give the page that a query asks for.

        Parameters
        ----------
        query
            The query.
        items
            What is on the page.
        total
            How many there are on all pages.
        """
        return cls(items=items, total=total, page=query.page, per_page=query.per_page)


def called(name: str) -> Callable[[str], str]:
    """Have the items of a page be called something in JSON, by ``class CrewList(…, alias_generator=…)``."""
    return lambda field: name if field == "items" else field


class Updated(Model):
    """The answer to a change, as the reference's *Update crew configuration* has it."""

    id: str
    updated: Literal[True] = True


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\r\n\t]*$")
]
"""A name: one line, 1 to 200 characters."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=100_000, pattern=r"\S")]
"""A prompt text that may not be blank, at most 100,000 characters."""


def _not_null(value: object) -> object:
    if value is None:
        raise ValueError("null is no value here; leave the field out to keep what it is")
    return value


def _never_null(schema: dict[str, Any]) -> None:
    schema.pop("default", None)
    (given,) = (each for each in schema.pop("anyOf") if each != {"type": "null"})
    schema.update({**given, **schema})


# A union that hides null from its JSON schema by itself would name its branches in the paths of faults.
Given = Annotated[T | None, BeforeValidator(_not_null), Field(json_schema_extra=_never_null)]
"""A field of a partial update: where it is left out, nothing changes; ``null`` is refused."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For integers of bodies, behind their bounds: JSON does not tell 3 from 3.0."""

LongText = Annotated[str, StringConstraints(max_length=100_000)]
"""A text that may be empty."""


def new_id(prefix: str) -> str:
    """Make an id such as ``crew_4t9k2m0x7q1z``.

    Parameters
    ----------
    prefix
        The kind of resource: ``crew``, ``agent``, ``task``, ``job``, ``tool``.
    """
    number, letters = secrets.randbelow(len(ID_ALPHABET) ** ID_LENGTH), []
    for _ in range(ID_LENGTH):
        number, letter = divmod(number, len(ID_ALPHABET))
        letters.append(ID_ALPHABET[letter])
    return f"{prefix}_{''.join(letters)}"


def utc_now() -> str:
    """Give the time as the reference writes it: UTC, whole seconds, ``2024-01-15T10:30:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now_precise() -> str:
    """Give the time with microseconds, as events carry it: ``2024-01-15T10:30:00.123456Z``."""
    return _precise(datetime.now(UTC))


def steady_seconds() -> float:
    """Give a time that only goes on, whatever becomes of the machine's clock; alike in all its processes.

    Where the system has such a clock, it goes on while the machine sleeps, too.
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


def clock_anchor() -> float:
    """Give the seconds from :func:`steady_seconds` to the time of day, as it is now."""
    return time.time() - steady_seconds()


class Clock:
    """Tells the time of one run: the time of day as it was when the run was made, and steady from there.

    A machine's clock may be set while a run goes on. Its events are in order, and take as long as they take.

    Parameters
    ----------
    anchor
        As :func:`clock_anchor` gave it: the server and the run's process tell the same time by it.
    """

    def __init__(self, anchor: float | None = None) -> None:
        self._anchor = clock_anchor() if anchor is None else anchor

    def now(self) -> str:
        """Give the time as :func:`utc_now_precise` does."""
        return _precise(datetime.fromtimestamp(self._anchor + steady_seconds(), UTC))


def _precise(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Read a time that :func:`utc_now` or :func:`utc_now_precise` wrote."""
    return datetime.fromisoformat(text)


def whole_seconds(precise: str) -> str:
    """Shorten an event's time to the reference's form, ``2024-01-15T10:30:00Z``."""
    return f"{precise[:19]}Z"
