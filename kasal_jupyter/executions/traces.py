"""What is read of a run's events: which are wanted, and the rows of ``GET /executions/{job_id}/traces``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from kasal_jupyter.errors import Fault, InvalidRequest, nearest
from kasal_jupyter.events.difference import Told, difference_of
from kasal_jupyter.events.event import COMPLETING, FAILING, OPENING
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.schemas.base import parse_time, whole_seconds
from kasal_jupyter.schemas.difference import ExecutionDiff
from kasal_jupyter.schemas.executions import KINDS, TraceRow

_ACTIONS = {
    "task_complete": "task_complete",
    "task_failed": "task_failed",
    "llm_response": "llm_call",
    "llm_failed": "llm_call",
}
"""What a row's ``action`` is; a tool's row has the tool's name, as the reference shows it."""

_AT_ONCE = frozenset({"error", "task_skipped", "guardrail", "plan", "memory_recalled", "memory_stored"})
"""What is a row without being a span's end."""


@dataclass(slots=True)
class TraceFold:
    """Makes rows of a run's events as they come: one for every span that has ended, and for what has none.

    Agents' own spans are left out: their answer is their task's.
    """

    _began: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: Any = None
    """What the tool was asked whose row was given last."""

    def feed(self, event: dict[str, Any]) -> TraceRow | None:
        """Take the next event in, and give the row that it ends."""
        kind = event["type"]
        if kind in OPENING:
            # Not its prompt, which has all that was said before.
            self._began[event["span_id"]] = {"time": event["time"], "asked": event.get("arguments")}
            return None
        if kind not in COMPLETING and kind not in FAILING and kind not in _AT_ONCE:
            return None
        # What adds to a span does not end it.
        began = self._began.pop(event.get("span_id", 0), {}) if kind not in _AT_ONCE else {}
        self.asked = began.get("asked")
        return None if kind.startswith("agent") else _row(event, began.get("time"))


def compared(one: Journal, other: Journal) -> ExecutionDiff:
    """Say in what two runs differ. It reads both journals."""
    return difference_of(_told(one), _told(other))


def _told(journal: Journal) -> Told:
    prompts = journal.prompts()
    told = Told(lambda seq: journal.event(seq, prompts))
    for event in journal.written():
        told.feed(event)
    return told


def trace_rows(
    journal: Journal, after: int, limit: int, wanted: EventFilter | None = None
) -> tuple[list[TraceRow], bool]:
    """Give a part of a run's rows.

    Parameters
    ----------
    journal
        The run's events.
    after
        The ``seq`` of the last row already known; 0 for none.
    limit
        Most rows.
    wanted
        Which rows; all of them, if it is None.

    Returns
    -------
    rows
        In the order in which they ended.
    more
        Whether the journal goes on behind them.
    """
    rows: list[TraceRow] = []
    fold = TraceFold()
    seen = 0
    while lines := journal.read(seen):
        for line in lines:
            seen += 1
            event = orjson.loads(line)
            row = fold.feed(event)
            if row is not None and row.seq > after and (wanted is None or wanted.takes(event, fold.asked)):
                rows.append(row)
                if len(rows) == limit:
                    return rows, seen < journal.seq
    return rows, False


def _row(event: dict[str, Any], start: str | None) -> TraceRow:
    # A clock that was set back between the two says nothing of how long it took, but not less than nothing.
    took = max(0.0, (parse_time(event["time"]) - parse_time(start)).total_seconds()) * 1000 if start else None
    return TraceRow(
        timestamp=whole_seconds(event["time"]),
        agent=event.get("agent"),
        action=event.get("tool") or _ACTIONS.get(event["type"], event["type"]),
        result=_result(event),
        seq=event["seq"],
        type=event["type"],
        task_id=event.get("task_id"),
        duration_ms=event.get("duration_ms", took),
        remark=event.get("remark"),
    )


def _result(event: dict[str, Any]) -> str:
    if "error" in event:
        return f"Error: {event['error']['message']}"
    if event["type"] == "error":
        return str(event["message"])
    if event["type"] == "task_skipped":
        return f"Skipped: {event['reason']}"
    if event["type"] == "guardrail":
        return "Accepted" if event["accepted"] else f"Refused: {event['feedback']}"
    if event["type"] == "plan":
        return "\n\n".join(step["plan"] for step in event["steps"])
    if event["type"] in {"memory_recalled", "memory_stored"}:
        return "\n".join(memory["content"] for memory in event["memories"]) or "Nothing"
    if event["type"] == "llm_response":
        calls = ", ".join(f"{call['name']}({call['arguments']})" for call in event["tool_calls"])
        return event["text"] or (f"Calls {calls}" if calls else "")
    return str(event["result"])


TYPES: frozenset[str] = frozenset().union(*KINDS.values())
"""Every type of event."""

FAILED = FAILING | {"error"}
"""Those that tell of a failure."""


_MARKS = frozenset({"seq", "job_id", "time", "type", "span_id", "parent_id", "task_id", "call_id"})


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What an event must be to be wanted.

    Attributes
    ----------
    types
        One of these types; any, if it is None.
    agent
        That agent's, by its name.
    task
        That task's, by its id or its title.
    find
        Those that have this text somewhere, in capitals or not.
    failed
        Those that tell of a failure.
    """

    types: frozenset[str] | None = None
    agent: str | None = None
    task: str | None = None
    find: str = ""
    failed: bool = False

    @classmethod
    def read(
        cls,
        kind: str | None,
        agent: str | None,
        task: str | None,
        *,
        find: str | None = None,
        failed: bool = False,
    ) -> Self:
        """Read a filter as a query gives it; ``kind`` has kinds and types, separated by commas.

        Raises
        ------
        InvalidRequest
            There is no such kind.
        """
        types: set[str] = set()
        for word in (kind or "").split(","):
            name = word.strip()
            if name in KINDS:
                types |= KINDS[name]
            elif name in TYPES:
                types.add(name)
            elif name:
                known = [*KINDS, *sorted(TYPES - KINDS.keys())]
                reason = f"There is no kind {name!r}{nearest(name, known)}; there are {', '.join(known)}"
                raise InvalidRequest("Invalid query", faults=[Fault("kind", reason)])
        wanted = frozenset(types) if types else None
        return cls(wanted, agent or None, task or None, (find or "").casefold(), failed)

    @property
    def takes_all(self) -> bool:
        """Whether every event is wanted."""
        return self == EventFilter()

    def takes(self, event: Mapping[str, Any], *more: Any) -> bool:
        """Say whether an event is wanted; the text that is looked for may stand in ``more`` as well."""
        return (
            (not self.failed or event["type"] in FAILED)
            and self._concerns(event)
            and (not self.find or has_text((*_said(event), *more), self.find))
        )

    def _concerns(self, event: Mapping[str, Any]) -> bool:
        return (
            (self.types is None or event["type"] in self.types)
            and (self.agent is None or event.get("agent") == self.agent)
            and (self.task is None or self.task in {event.get("task_id"), event.get("task")})
        )


def _said(event: Mapping[str, Any]) -> Iterator[Any]:
    """Give what an event tells of the run, without what it is told apart by."""
    return (value for name, value in event.items() if name not in _MARKS)


def has_text(value: Any, wanted: str) -> bool:
    """Say whether a text stands in a value of JSON, however deep; ``wanted`` is folded to small letters."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            if wanted in each.casefold():
                return True
        elif isinstance(each, Mapping):
            stack.extend(each.values())
        elif isinstance(each, (list, tuple)):
            stack.extend(each)
        elif isinstance(each, (int, float)) and wanted in str(each):
            return True
    return False
