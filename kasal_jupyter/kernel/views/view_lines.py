"""The trace as a stream of lines, for a terminal: each is printed once, when its step is over.

Tasks may run at the same time. A line then belongs to the task whose heading was printed last,
so the heading is printed again before a line of another task. A tool in which other agents work, by
delegation, has its line when they begin, and one more when it is over.
"""

from __future__ import annotations

from kasal_jupyter.events.event import COMPLETING, FAILING, Event, TaskPlan
from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import counted, duration_text, lineage_text, span_cost_text
from kasal_jupyter.kernel.views.rows import (
    KEPT_MARK,
    MARKS,
    STATE_MARKS,
    how_to_answer,
    recalled_note,
    stored_note,
    tool_note,
)
from kasal_jupyter.kernel.views.view_text import fitted, header_line


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
        took = "recorded" if span.recorded else duration_text(span.duration or 0.0)
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
