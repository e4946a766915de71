"""The trace as plain text: a tree with block-character bars on one time axis."""

from __future__ import annotations

from collections.abc import Iterator

from kasal_jupyter.kernel.clean import clean, one_line
from kasal_jupyter.kernel.figures import duration_text, run_figures
from kasal_jupyter.kernel.rows import STATUS_MARKS, Row, build_rows, elapsed_text, run_start
from kasal_jupyter.schemas.trace import Span, Trace

BAR = 20
"""Characters of the time axis."""

MOST_ROWS = 400
"""Rows that are drawn; what comes after is counted."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def render_text(trace: Trace, *, width: int = 110) -> str:
    """Draw the trace as text.

    Parameters
    ----------
    trace
        What is known of the run so far.
    width
        Characters of a line.

    Returns
    -------
    str
        A header, the tree with its bars, durations and tokens, and the answer or the error.
    """
    lines = [header_line(trace)]
    rows = list(_tree(build_rows(trace), ""))
    origin = run_start(trace)
    total = max(trace.last_time - origin, 1e-6)
    name_width = max(24, width - BAR - 22)
    for branch, row in rows[:MOST_ROWS]:
        words = one_line(f"{row.mark} {row.title}  {row.note}".rstrip(), max(16, name_width - len(branch)))
        name = f"{branch}{words}"
        span = row.span
        took = duration_text((trace.last_time if span.end is None else span.end) - span.start)
        tokens = f"{span.total_tokens:,}" if span.total_tokens else ""
        drawn = bar(span, origin, total, trace.last_time)
        lines.append(f"{name:<{name_width}} {drawn} {took:>10} {tokens:>8}".rstrip())
    if len(rows) > MOST_ROWS:
        lines.append(f"… and {len(rows) - MOST_ROWS:,} more steps")
    summary = trace.summary
    if summary.result is not None:
        lines += ["", clean(summary.result)]
    elif summary.error is not None:
        lines += ["", f"{summary.error.code}: {clean(summary.error.message)}"]
    return "\n".join(lines)


def header_line(trace: Trace) -> str:
    """Give the run on one line: crew, state, time, tokens, figures, id."""
    summary = trace.summary
    parts = [
        f"{one_line(summary.crew_name, 80)}  {STATUS_MARKS[summary.status]} {summary.status}",
        elapsed_text(trace),
    ]
    if summary.total_tokens:
        parts.append(f"{summary.total_tokens:,} tokens")
    if figures := run_figures(summary):
        parts.append(figures)
    parts.append(trace.job_id)
    return "  ".join(parts)


def bar(span: Span, origin: float, total: float, now: float) -> str:
    """Draw a span's place on the time axis with block characters, at an eighth of a character's precision."""
    start = max(0.0, min(1.0, (span.start - origin) / total)) * BAR
    end = max(0.0, min(1.0, ((now if span.end is None else span.end) - origin) / total)) * BAR
    first = min(int(start), BAR - 1)
    length = max(end - first, 0.125)
    full = min(int(length), BAR - first)
    part = _EIGHTHS[round((length - full) * 8)] if first + full < BAR else ""
    blocks = "█" * full + part.strip()
    return f"▕{' ' * first}{blocks:<{BAR - first}}▏"


def _tree(rows: list[Row], indent: str) -> Iterator[tuple[str, Row]]:
    for place, row in enumerate(rows):
        last = place == len(rows) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}", row
        yield from _tree(row.children, f"{indent}{'   ' if last else '│  '}")
