"""The answer to who used what: the books folded by day, crew, user, model, agent or task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any

from kasal_jupyter.errors import NotFound
from kasal_jupyter.events.tally import Tally
from kasal_jupyter.executions.ledger import entries_of
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.allowances import LimitState
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.usage import (
    GroupBy,
    LedgerEntry,
    Stored,
    UsageGroup,
    UsageList,
    UsageQuery,
    UsageTotal,
)
from kasal_jupyter.store.store import Store

DEFAULT_DAYS = 30
"""How many days are told of where no first one is named."""

NOT_QUEUED = ("running", "waiting_for_input", *sorted(ENDED))

Entry = Mapping[str, Any]
"""A :class:`~kasal_jupyter.schemas.usage.LedgerEntry` as it is stored."""


async def usage_of(runs: Runs, query: UsageQuery, scope: Mapping[str, Any], asked: str) -> UsageList:
    """Say what runs have used, those that go on included.

    Parameters
    ----------
    runs
        The runs.
    query
        Which days, and what they are told apart by.
    scope
        Whose runs, and of which crew: ``owner``, ``crew_id``.
    asked
        The owner whose stored bytes and limits are told.
    """
    store, span = runs.store, Span.of(query)

    begun = runs.begun()

    def look() -> tuple[list[Entry], list[Execution]]:
        # Of one moment: a run that ends now is in the one or in the other.
        with store.snapshot():
            # What has just ended is booked a little later, and what has just begun may be stored as queued.
            unbooked = [each for status in NOT_QUEUED for each in _unbooked(store, status, scope)]
            unbooked += [each for each in _unbooked(store, "queued", scope) if each.id in begun]
            return booked(store, span, scope), unbooked

    owner = str(scope.get("owner", ""))
    entries, unbooked = await LISTS.do(look, owner=owner)
    for execution in unbooked:
        with suppress(NotFound):
            summary = (await runs.feed(execution.id)).summary
            entries += [entry.dump() for entry in entries_of(execution, summary) if entry.day in span]

    def name_of(owner: str) -> str:
        user = store.users.readable(owner)
        return user.email if user is not None else owner

    def answer() -> UsageList:
        limits = runs.allowances.limits_of(asked)
        return usage_list(query, span, entries, name_of, store.stored_by(asked), limits=limits)

    return await LISTS.do(answer, owner=owner)


def _unbooked(store: Store, status: str, scope: Mapping[str, Any]) -> list[Execution]:
    return store.executions.find(booked=None, status=status, **scope)


@dataclass(frozen=True, slots=True)
class Span:
    """The days that are asked for, both included."""

    since: str
    until: str

    @classmethod
    def of(cls, query: UsageQuery) -> Span:
        """Read them from a query."""
        until = query.until or datetime.now(UTC).strftime("%Y-%m-%d")
        first = date.fromisoformat(until) - timedelta(days=DEFAULT_DAYS - 1)
        return cls(query.since or first.isoformat(), until)

    @property
    def days(self) -> int:
        """How many they are."""
        return (date.fromisoformat(self.until) - date.fromisoformat(self.since)).days + 1

    def __contains__(self, day: str) -> bool:
        return self.since <= day <= self.until

    def __iter__(self) -> Iterator[str]:
        first = date.fromisoformat(self.since)
        return ((first + timedelta(days=number)).isoformat() for number in range(self.days))


def booked(store: Store, span: Span, scope: Mapping[str, Any]) -> list[Entry]:
    """Give the entries of some days, through the index of days or of the scope, whichever leads to fewer.

    No execution is looked at. Call it in a thread: a year of a large team is thousands of entries.

    Parameters
    ----------
    store
        Where the books are.
    span
        The days.
    scope
        Values of other indexed fields: ``owner``, ``crew_id``.
    """
    if span.days < store.ledger.count(**scope):
        return [
            entry for day in span for entry in store.ledger.bodies(_entry, day=day, limit=None, **scope)[0]
        ]
    entries = store.ledger.bodies(_entry, limit=None, **scope)[0]
    return [entry for entry in entries if entry["day"] in span]


@lru_cache(maxsize=10_000)
def _entry(body: bytes) -> Entry:
    """Read a stored entry: each is checked once, until it changes."""
    return LedgerEntry.model_validate_json(body).dump()


@dataclass(slots=True)
class _Sum:
    name: str
    crew_name: str | None = None
    tally: Tally = field(default_factory=Tally)
    runs: int = 0


def usage_list(
    query: UsageQuery,
    span: Span,
    entries: Iterable[Entry],
    name_of: Callable[[str], str],
    stored: Stored,
    *,
    limits: Sequence[LimitState] = (),
) -> UsageList:
    """Fold entries into the answer of ``GET /usage``.

    Parameters
    ----------
    query
        What is asked for.
    span
        The days that the entries are of.
    entries
        Any number of them, in any order.
    name_of
        Gives a user's name by the owner that the entries have.
    stored, limits
        What is told of what is stored, and of what may be spent.
    """
    whole = _Sum("")
    groups: dict[str, _Sum] = {}
    for entry in sorted(entries, key=lambda each: str(each["day"])):
        _count(whole, entry["usage"], entry["runs"])
        for key, name, crew_name, figures in _parts(entry, query.group_by):
            group = groups.setdefault(key, _Sum(name, crew_name))
            # What was renamed is called as it was called last.
            group.name, group.crew_name = name, crew_name
            _count(group, figures, entry["runs"])
    counts_runs = query.group_by in {"day", "crew", "user"}
    if query.group_by == "user":
        for owner, group in groups.items():
            group.name = name_of(owner)
    listed = [
        UsageGroup(
            **group.tally.figures(),
            runs=group.runs if counts_runs else None,
            key=key,
            name=group.name,
            crew_name=group.crew_name,
        )
        for key, group in groups.items()
    ]
    if query.search is not None:
        text = query.search.casefold()
        listed = [group for group in listed if text in group.name.casefold()]
    listed.sort(key=_order(query.sort.removeprefix("-")), reverse=query.sort.startswith("-"))
    return UsageList(
        group_by=query.group_by,
        since=span.since,
        until=span.until,
        whole=UsageTotal(**whole.tally.figures(), runs=whole.runs),
        stored=stored,
        limits=list(limits),
        groups=query.part(listed),
        total=len(listed),
        page=query.page,
        per_page=query.per_page,
    )


def _count(group: _Sum, figures: Entry, runs: int) -> None:
    group.tally.add(figures)
    group.runs += runs


def _parts(entry: Entry, group_by: GroupBy) -> Iterator[tuple[str, str, str | None, Entry]]:
    """Give the groups that an entry adds to: key, name, the crew's name, and what to add."""
    crew_id, crew_name = entry["crew_id"], entry["crew_name"]
    match group_by:
        case "day":
            yield entry["day"], entry["day"], None, entry["usage"]
        case "crew":
            yield crew_id, crew_name, None, entry["usage"]
        case "user":
            yield entry["owner"], entry["owner"], None, entry["usage"]
        case "model":
            for share in entry["by"]["models"]:
                yield share["key"], share["name"], None, share
        case "agent":
            for share in entry["by"]["agents"]:
                # Two crews may have agents of one name.
                yield f"{crew_id}/{share['key']}", share["name"], crew_name, share
        case "task":
            for share in entry["by"]["tasks"]:
                yield share["key"] or f"{crew_id}/", share["name"], crew_name, share


def _order(field_name: str) -> Callable[[UsageGroup], Any]:
    if field_name == "name":
        return lambda group: (group.name.casefold(), group.key)
    return attrgetter("cost_at_least" if field_name == "cost" else field_name)
