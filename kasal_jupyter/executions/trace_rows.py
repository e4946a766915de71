"""The rows of ``GET /executions/{job_id}/traces``: what each agent did and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from kasal_jupyter.events.event import COMPLETING, FAILING, OPENING
from kasal_jupyter.executions.event_filter import EventFilter
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.schemas.base import parse_time, whole_seconds
from kasal_jupyter.schemas.executions import TraceRow

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
