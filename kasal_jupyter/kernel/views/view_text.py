"""The trace as plain text: a tree with block-character bars on one time axis."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from kasal_jupyter.events.event import COMPLETING, FAILING, Event, TaskPlan
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
    MARKS,
    STATE_MARKS,
    STATUS_MARKS,
    Row,
    answered_by,
    build_rows,
    elapsed_text,
    fair_choice,
    how_to_answer,
    how_to_get_all,
    memories_text,
    recalled_note,
    run_start,
    steps_in,
    stored_note,
    tool_note,
)

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


def render_text(trace: Trace, *, width: int = 110, rating: str = "") -> str:
    """Draw the trace as text.

    Parameters
    ----------
    trace
        What is known of the run so far.
    width
        Characters of a line; at least 40 are used.
    rating
        What somebody makes of it; empty where nobody does.

    Returns
    -------
    str
        A header, the tree with its bars, durations, tokens and costs, and the answer or the error.
    """
    width = max(width, NARROWEST)
    rows = list(_tree(build_rows(trace, fair_choice(trace, MOST_ROWS))))
    priced = any(span_cost_text(root) for root in trace.roots)
    origin = run_start(trace)
    lines = [header_line(trace), *([f"Rated {rating}"] if rating else [])]
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


# -- lines, one after the other -------------------------------------------------------------------------

# The trace as a stream of lines, for a terminal: each is printed once, when its step is over.
#
# Tasks may run at the same time. A line then belongs to the task whose heading was printed last,
# so the heading is printed again before a line of another task. A tool in which other agents work, by
# delegation, has its line when they begin, and one more when it is over.


class LineView:
    """A growing tree. Feed it a run's events; print what it answers.

    Parameters
    ----------
    width
        Characters of a line, at the most.
    """

    def __init__(self, width: int = 110) -> None:
        self.trace = Trace()
        self.width = width
        self.asked_here = False
        self._context: dict[str, list[str]] = {}
        self._heading: int | None = None
        self._opened: set[int] = set()

    def feed(self, event: Event) -> list[str]:
        """Take in the next event, and give the lines it adds to the tree."""
        self.trace.feed(event)
        if event["type"] == "execution_status":
            if event["status"] == "queued":
                return self._opening(event.get("tasks", []))
            return self._ending() if self.trace.summary.ended else []
        if event["type"] == "task_start":
            return [self._task_line(self.trace.spans[event["span_id"]])]
        if event["type"] == "agent_start":
            span = self.trace.spans[event["span_id"]]
            if span.parent_id is None:
                # The crew's planner, whose work is no task's.
                return [self._task_line(span)]
            # The agent of a task is on the task's line; one that work was delegated to has its own.
            return self._below(span, self._delegated(span)) if self._depth(span) > 1 else []
        if event["type"] == "task_skipped":
            self._heading = None
            skipped = self.trace.spans[event["span_id"]]
            name, reason = one_line(skipped.name, 80), one_line(event["reason"], 160)
            return [fitted(f"├─ {STATE_MARKS['skipped']} {name} skipped: {reason}", self.width).rstrip()]
        if event["type"] == "guardrail":
            checked = self.trace.spans.get(event["span_id"])
            said = "✔ accepted" if event["accepted"] else f"✖ refused: {one_line(event['feedback'], 160)}"
            return (
                self._below(checked, [fitted(f"│  ├─ guardrail {said}", self.width).rstrip()])
                if checked
                else []
            )
        if event["type"] == "memory_recalled":
            reminded = self.trace.spans.get(event["span_id"])
            note = recalled_note(event)
            line = f"│  ├─ {KEPT_MARK} {note} · {event['duration_ms']:.1f} ms"
            return self._below(reminded, [fitted(line, self.width)]) if reminded and note else []
        if event["type"] == "memory_stored":
            self._heading = None
            return [fitted(f"├─ {KEPT_MARK} {stored_note(event)}", self.width).rstrip()]
        if event["type"] == "plan":
            self._heading = None
            return [f"│  └─ ✔ planned {counted(len(event['steps']), 'task')}"]
        if event["type"] == "input_request":
            asking = self.trace.spans.get(event["span_id"])
            return self._below(asking, self._question(asking, event["choices"])) if asking else []
        if event["type"] in COMPLETING or event["type"] in FAILING:
            # Unknown where only the tail of a run was asked for.
            closed = self.trace.spans.get(event["span_id"])  # type: ignore[typeddict-item]
            return self._below(closed, self._closed(closed)) if closed else []
        return []

    def _opening(self, tasks: list[TaskPlan]) -> list[str]:
        titles = {task["id"]: task["title"] for task in tasks}
        self._context = {task["id"]: [titles.get(each, each) for each in task["context"]] for task in tasks}
        summary = self.trace.summary
        lineage = lineage_text(summary.verb, summary.parent)
        return ["  ".join(filter(None, (one_line(summary.crew_name, 80), self.trace.job_id, lineage)))]

    def _task_line(self, span: Span, more: str = "") -> str:
        self._heading = span.id
        note = one_line(span.agent or "", 60) if span.kind == "task" else ""
        context = self._context.get(span.opened.get("task_id") or "")
        if context and not more:
            note += " " + one_line(f"· context: {', '.join(context)}", 120)
        return fitted(f"├─ {MARKS[span.kind]} {one_line(span.name, 80)} {note}{more}", self.width).rstrip()

    def _below(self, span: Span, lines: list[str]) -> list[str]:
        """Give the lines, under their task's heading again where another task's stands above."""
        root = span
        while root.parent_id is not None and (above := self.trace.spans.get(root.parent_id)):
            root = above
        if not lines or root.id == self._heading:
            return lines
        return [self._task_line(root, " (continued)"), *lines]

    def _question(self, span: Span, choices: list[str]) -> list[str]:
        how = how_to_answer(self.trace.job_id, choices, here=self.asked_here)
        return [
            f"│  ? {one_line(span.agent or 'An agent', 60)} asks: {one_line(span.question, 400)}",
            f"│    {how}",
        ]

    def _closed(self, span: Span) -> list[str]:
        took = answered_by(span) or duration_text(span.duration or 0.0)
        tokens = f" · {span.total_tokens:,} tokens" if span.total_tokens else ""
        if cost := span_cost_text(span):
            tokens += f" · {cost}" if span.cost is not None else " · cost unknown"
        if span.kind == "task":
            mark = "✖ failed" if span.state == "failed" else "✔"
            return [f"│  └─ {mark} {took}{tokens}"]
        if span.state == "failed":
            return [
                self._line(span, STATE_MARKS["failed"], f"{took} · {one_line(span.error or 'failed', 160)}")
            ]
        if span.kind == "llm":
            usage = span.closed.get("usage")
            counts = f" · {usage['prompt_tokens']:,} in · {usage['completion_tokens']:,} out" if usage else ""
            return [self._line(span, MARKS["llm"], f"{took}{counts}")]
        if span.id in self._opened:
            answered = one_line(span.closed.get("result") or "", 100)
            indent = "│  " * (self._depth(span) + 1)
            return [fitted(f"{indent}└─ ✔ {took} → {answered}", self.width).rstrip()]
        if span.kind == "tool":
            return [self._line(span, MARKS["tool"], f"{took} · {tool_note(span)}")]
        return []

    def _delegated(self, span: Span) -> list[str]:
        """Give the line of an agent, below that of the tool by which it was given work."""
        lines = [self._line(span, MARKS["agent"], "")]
        tool = self.trace.spans.get(span.parent_id) if span.parent_id is not None else None
        if tool is not None and tool.kind == "tool" and tool.id not in self._opened:
            self._opened.add(tool.id)
            lines.insert(0, self._line(tool, MARKS["tool"], tool_note(tool)))
        return lines

    def _line(self, span: Span, mark: str, note: str) -> str:
        indent = "│  " * self._depth(span)
        return fitted(f"{indent}├─ {mark} {one_line(span.name, 80)} {note}", self.width).rstrip()

    def _depth(self, span: Span) -> int:
        """Count the levels above a span that have a line of their own."""
        depth = 0
        above = self.trace.spans.get(span.parent_id) if span.parent_id is not None else None
        while above is not None:
            parent = self.trace.spans.get(above.parent_id) if above.parent_id is not None else None
            if not (above.kind == "agent" and parent is not None and parent.kind == "task"):
                depth += 1
            above = parent
        return min(depth, 12)

    def _ending(self) -> list[str]:
        summary = self.trace.summary
        lines = [f"└─ {header_line(self.trace)}"]
        if summary.error is not None:
            lines.append(f"   {summary.error.code}: {clean(summary.error.message)}")
        return lines
