"""A run as tables: one row a task, or one row a span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.rows import below
from kasal_jupyter.schemas.trace import Span, Trace

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {
    "span_id": "int64",
    "parent_id": "Int64",
    "depth": "int64",
    "duration": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "tokens": "int64",
    "cost": "float64",
    "llm_calls": "int64",
    "tool_calls": "int64",
}
"""The types of the columns that hold figures: also of a run that has none yet."""

_TASK_COLUMNS = (
    *("task", "agent", "state", "start", "duration", "prompt_tokens", "completion_tokens", "tokens", "cost"),
    *("llm_calls", "tool_calls", "result", "error"),
)
_SPAN_COLUMNS = (
    *("span_id", "parent_id", "depth", "kind", "name", "task", "agent", "model", "tool", "state", "start"),
    *("duration", "prompt_tokens", "completion_tokens", "tokens", "cost", "arguments", "messages"),
    *("result", "text", "error"),
)


def task_table(trace: Trace) -> pd.DataFrame:
    """Give one row a task: those that ran in the order they began, then those that did not.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    # The crew's planner is none.
    tasks = [span for span in trace.roots if span.kind == "task"]
    begun = {span.opened.get("task_id") for span in tasks}
    rows = [_task_row(span) for span in tasks]
    states = trace.summary.task_states
    rows += [
        {
            **dict.fromkeys(_TASK_COLUMNS),
            "task": task["title"],
            "agent": task["agent"],
            "state": states.get(task["id"], "created"),
            **dict.fromkeys(("prompt_tokens", "completion_tokens", "tokens", "llm_calls", "tool_calls"), 0),
            "cost": 0.0,
        }
        for task in trace.queued.get("tasks", ())
        if task["id"] not in begun
    ]
    return _table(rows, _TASK_COLUMNS)


def span_table(trace: Trace) -> pd.DataFrame:
    """Give one row a span, in the order they began, parents first.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    return _table([_span_row(span, depth) for depth, span in trace.walk()], _SPAN_COLUMNS)


def _figures(span: Span) -> dict[str, Any]:
    return {
        "state": span.state,
        "start": span.opened["time"],
        "duration": span.duration,
        "prompt_tokens": span.prompt_tokens,
        "completion_tokens": span.completion_tokens,
        "tokens": span.total_tokens,
        "cost": span.cost,
        "error": span.error,
    }


def _task_row(span: Span) -> dict[str, Any]:
    kinds = [inner.kind for inner in below(span)]
    return {
        **_figures(span),
        "task": span.name,
        "agent": span.agent,
        "llm_calls": kinds.count("llm"),
        "tool_calls": kinds.count("tool"),
        "result": span.closed.get("result"),
    }


def _span_row(span: Span, depth: int) -> dict[str, Any]:
    model = span.kind == "llm"
    return {
        **_figures(span),
        "span_id": span.id,
        "parent_id": span.parent_id,
        "depth": depth,
        "kind": span.kind,
        "name": span.name,
        "task": span.task,
        "agent": span.agent,
        "model": span.name if model else None,
        "tool": span.name if span.kind == "tool" else None,
        "arguments": span.opened.get("arguments"),
        "messages": span.opened.get("messages"),
        "result": span.closed.get("result"),
        "text": (span.closed.get("text") or span.text or None) if model else None,
    }


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise CellError(
            "A DataFrame needs pandas, which is not installed in this kernel: %pip install pandas"
        ) from None
    # By column: from rows, pandas would make a date or a number of what an agent happened to say.
    table = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in columns})
    table["start"] = pd.to_datetime(table["start"], utc=True, format="ISO8601")
    return table.astype({name: kind for name, kind in _TYPES.items() if name in columns})
