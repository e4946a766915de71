"""Durations, counts and sizes as people read them."""

from __future__ import annotations

from kasal_jupyter.schemas.trace import Trace


def duration_text(seconds: float) -> str:
    """Write a duration: ``12 ms``, ``5.1 s``, ``2 min 05 s``, ``1 h 02 min``."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """Write a count with its noun: ``1 task``, ``1,204 characters``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def run_figures(trace: Trace) -> str:
    """Write what a run did: ``3 tasks · 6 model calls · 4 tool calls · 1 error recovered``."""
    summary = trace.summary
    parts = []
    if summary.tasks_total:
        done = "" if summary.tasks_done == summary.tasks_total else f"{summary.tasks_done} of "
        parts.append(done + counted(summary.tasks_total, "task"))
    if summary.llm_calls:
        parts.append(counted(summary.llm_calls, "model call"))
    if summary.tool_calls:
        parts.append(counted(summary.tool_calls, "tool call"))
    # The calls that failed: the tasks and the run that they took down are no further errors.
    errors = sum(span.state == "failed" and span.kind in {"llm", "tool"} for span in trace.spans.values())
    if errors:
        recovered = " recovered" if summary.status == "completed" else ""
        parts.append(counted(errors, "error") + recovered)
    return " · ".join(parts)
