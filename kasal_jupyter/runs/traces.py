"""The rows of ``GET /executions/{job_id}/traces``: what each agent did and what came of it."""

from __future__ import annotations

from typing import Any, cast

import orjson

from kasal_jupyter.runs.journal import Journal
from kasal_jupyter.schemas.base import parse_time, whole_seconds
from kasal_jupyter.schemas.events import COMPLETING, FAILING, OPENING
from kasal_jupyter.schemas.executions import TraceRow

_ACTIONS = {
    "task_complete": "task_complete",
    "task_failed": "task_failed",
    "llm_response": "llm_call",
    "llm_failed": "llm_call",
}
"""What a row's ``action`` is; a tool's row has the tool's name, as the reference shows it."""


def trace_rows(journal: Journal, after: int, limit: int) -> list[TraceRow]:
    """Give a row for every span that has ended, agents' own aside: their answer is their task's.

    Parameters
    ----------
    journal
        The run's events.
    after
        The ``seq`` of the last row already known; 0 for none.
    limit
        Most rows.
    """
    rows: list[TraceRow] = []
    began: dict[int, str] = {}
    seen = 0
    while len(rows) < limit and (lines := journal.read(seen)):
        seen += len(lines)
        for line in lines:
            event = cast("dict[str, Any]", orjson.loads(line))
            kind = event["type"]
            if kind in OPENING:
                began[event["span_id"]] = event["time"]
            elif kind in COMPLETING or kind in FAILING or kind == "error":
                start = began.pop(event.get("span_id", 0), None)
                if event["seq"] > after and not kind.startswith("agent") and len(rows) < limit:
                    rows.append(_row(event, start))
    return rows


def _row(event: dict[str, Any], start: str | None) -> TraceRow:
    took = (parse_time(event["time"]) - parse_time(start)).total_seconds() * 1000 if start else None
    return TraceRow(
        timestamp=whole_seconds(event["time"]),
        agent=event.get("agent"),
        action=event.get("tool") or _ACTIONS.get(event["type"], event["type"]),
        result=_result(event),
        seq=event["seq"],
        type=event["type"],
        task_id=event.get("task_id"),
        duration_ms=took,
    )


def _result(event: dict[str, Any]) -> str:
    if "error" in event:
        return f"Error: {event['error']['message']}"
    if event["type"] == "error":
        return str(event["message"])
    if event["type"] == "llm_response":
        calls = ", ".join(f"{call['name']}({call['arguments']})" for call in event["tool_calls"])
        return event["text"] or (f"Calls {calls}" if calls else "")
    return str(event["result"])
