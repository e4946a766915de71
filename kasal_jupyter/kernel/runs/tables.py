"""Runs as tables: one row a run, and of one run one row a task, or one row a span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.rows import below

if TYPE_CHECKING:
    import pandas as pd

    from kasal_jupyter.kernel.runs.run_list import Run

_TYPES = {
    "span_id": "int64",
    "parent_id": "Int64",
    "depth": "int64",
    "progress": "int64",
    "duration": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "tokens": "int64",
    "cost": "float64",
    "llm_calls": "int64",
    "tool_calls": "int64",
}
"""The types of the columns that hold figures: also of a run that has none yet."""

_RUN_COLUMNS = (
    *("job_id", "crew", "crew_id", "status", "progress", "created", "duration", "prompt_tokens"),
    *("completion_tokens", "tokens", "cost", "llm_calls", "tool_calls", "inputs", "output", "error"),
)
_TASK_COLUMNS = (
    *("task", "agent", "state", "start", "duration", "prompt_tokens", "completion_tokens", "tokens", "cost"),
    *("llm_calls", "tool_calls", "result", "error"),
)
_SPAN_COLUMNS = (
    *("span_id", "parent_id", "depth", "kind", "name", "task", "agent", "model", "tool", "state", "start"),
    *("duration", "prompt_tokens", "completion_tokens", "tokens", "cost", "arguments", "messages"),
    *("result", "text", "error"),
)


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Give one row a run.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    rows = [
        {
            "job_id": run.job_id,
            "crew": run.crew_name,
            "crew_id": run.crew_id,
            "status": run.status,
            "progress": run.progress,
            "created": run.created_at,
            "duration": run.duration,
            "prompt_tokens": run.usage.prompt_tokens,
            "completion_tokens": run.usage.completion_tokens,
            "tokens": run.usage.total_tokens,
            "cost": run.usage.cost,
            "llm_calls": run.usage.llm_calls,
            "tool_calls": run.usage.tool_calls,
            "inputs": run.inputs,
            "output": run.output,
            "error": run.error.message if run.error is not None else None,
        }
        for run in runs
    ]
    return _table(rows, _RUN_COLUMNS)


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
    for name in {"start", "created"}.intersection(columns):
        table[name] = pd.to_datetime(table[name], utc=True, format="ISO8601")
    return table.astype({name: kind for name, kind in _TYPES.items() if name in columns})
