"""The trace as plain text: a tree with block-character bars on one time axis."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import (
    counted,
    duration_text,
    lineage_text,
    run_cost_text,
    run_figures,
    span_cost_text,
)
from kasal_jupyter.kernel.views.rows import (
    KEPT_MARK,
    STATUS_MARKS,
    Row,
    build_rows,
    elapsed_text,
    how_to_get_all,
    memories_text,
    run_start,
    steps_in,
    stored_note,
)
from kasal_jupyter.kernel.views.selection import fair_choice

BAR = 20
"""Characters of the time axis."""

NARROWEST = 40
"""Characters of a line that are used at the least."""

NO_BARS_BELOW = 72
"""Characters of a line below which its name needs the room of the bar."""

MOST_ROWS = 300
"""Rows that are drawn; of a longer run some of every task, and the others are counted."""

MOST_ANSWER_LINES = 40
"""Lines of the answer that are shown; the whole is the result's ``output``."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def render_text(trace: Trace, *, width: int = 110) -> str:
    """Draw the trace as text.

    Parameters
    ----------
    trace
        What is known of the run so far.
    width
        Characters of a line; at least 40 are used.

    Returns
    -------
    str
        A header, the tree with its bars, durations, tokens and costs, and the answer or the error.
    """
    width = max(width, NARROWEST)
    rows = list(_tree(build_rows(trace, fair_choice(trace, MOST_ROWS))))
    priced = any(span_cost_text(root) for root in trace.roots)
    origin = run_start(trace)
    lines = [header_line(trace)]
    shown = 0
    for branch, row in rows:
        if row.gap:
            lines.append(f"{branch[:-3]}┆  … {counted(steps_in(row.gap), 'more step')}")
        lines.append(_line(trace, branch, row, width, origin=origin, priced=priced))
        shown += 1 if row.work is None else 2
    if (missing := len(trace.spans) - shown) > 0:
        lines.append(f"… {counted(missing, 'step')} not drawn: .spans() of the result holds them all")
    if trace.stored:
        kept = f"{KEPT_MARK} {stored_note(trace.stored)}: {one_line(memories_text(trace.stored), 400)}"
        lines.append(fitted(kept, width).rstrip())
    summary = trace.summary
    if summary.error is not None and summary.status != "completed":
        lines += ["", *_excerpt(f"{summary.error.code}: {summary.error.message}")]
    answer = summary.result if summary.result is not None else summary.partial_result
    if answer is not None:
        early = summary.ended and summary.status != "completed"
        lines += ["", *(["So far:"] if early else []), *_excerpt(answer)]
        if summary.result_file is not None:
            lines.append(how_to_get_all(trace.job_id))
    if summary.remarks:
        lines += ["", *(f"Remark: {clean(remark)}" for remark in summary.told_remarks())]
    return "\n".join(lines)


def header_line(trace: Trace, now: float | None = None) -> str:
    """Give the run on one line: crew, state, time (so far, at ``now``), tokens, cost, figures, id."""
    summary = trace.summary
    parts = [
        f"{one_line(summary.crew_name, 80)}  {STATUS_MARKS[summary.status]} {summary.status}",
        elapsed_text(trace, now),
    ]
    if summary.total_tokens:
        parts.append(f"{summary.total_tokens:,} tokens")
    parts += [text for text in (run_cost_text(trace), run_figures(trace)) if text]
    parts.append(one_line(trace.job_id, 60))
    if lineage := lineage_text(summary.verb, summary.parent):
        parts.append(one_line(lineage, 80))
    return "  ".join(parts)


def bar(span: Span, origin: float, total: float, now: float) -> str:
    """Draw a span's place on the time axis with block characters.

    Its end is drawn to an eighth of a character; no block begins so finely, so its start to a whole one.
    """
    start = max(0.0, min(1.0, (span.start - origin) / total)) * BAR
    end = max(0.0, min(1.0, ((now if span.end is None else span.end) - origin) / total)) * BAR
    first = min(int(start), BAR - 1)
    full, part = divmod(max(1, round((end - first) * 8)), 8)
    blocks = "█" * full + _EIGHTHS[part].strip()
    return f"▕{' ' * first}{blocks:<{BAR - first}}▏"


def fitted(text: str, width: int) -> str:
    """Cut or pad a text to so many columns of a terminal, in which East Asian letters take two."""
    used = columns_of(text)
    if used <= width:
        return text + " " * (width - used)
    kept, used = "", 0
    for char in text:
        columns = columns_of(char)
        if used + columns > width - 1:
            break
        kept += char
        used += columns
    return f"{kept}…{' ' * (width - 1 - used)}"


def columns_of(text: str) -> int:
    """Count the columns that a terminal shows a text in."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _line(trace: Trace, branch: str, row: Row, width: int, *, origin: float, priced: bool) -> str:
    span = row.span
    total = max(trace.last_time - origin, 1e-6)
    took = duration_text((trace.last_time if span.end is None else span.end) - span.start)
    tokens = f"{span.total_tokens:,}" if span.total_tokens else ""
    drawn = f" {bar(span, origin, total, trace.last_time)}" if width >= NO_BARS_BELOW else ""
    columns = f"{drawn} {took:>10} {tokens:>8}"
    if priced:
        columns += f" {span_cost_text(span):>8}"
    name = f"{branch}{row.mark} {row.title}  {row.note}".rstrip()
    return f"{fitted(name, width - len(columns))}{columns}".rstrip()


def _excerpt(text: str) -> list[str]:
    """Give the text's lines as they are: wrapping them would break its tables and code."""
    lines = clean(text[: MOST_ANSWER_LINES * 1_000]).splitlines()
    if len(lines) > MOST_ANSWER_LINES or len(text) > MOST_ANSWER_LINES * 1_000:
        return [*lines[:MOST_ANSWER_LINES], f"… {counted(len(text), 'character')} in all"]
    return lines


def _tree(top: list[Row]) -> Iterator[tuple[str, Row]]:
    """Give each row behind its branches, walked with a stack: agents may delegate as deep as they like."""
    stack = [(row, "", row is top[-1]) for row in reversed(top)]
    while stack:
        row, indent, last = stack.pop()
        yield f"{indent}{'└─ ' if last else '├─ '}", row
        below = f"{indent}{'   ' if last else '│  '}"
        stack.extend((child, below, child is row.children[-1]) for child in reversed(row.children))
