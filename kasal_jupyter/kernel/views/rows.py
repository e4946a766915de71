"""The rows of a trace view: spans in order, with the words each is shown by.

The HTML and the text view, and the lines of a terminal, all show these rows, so
that they say the same. A task whose work is one agent's is one row: the agent's
own span would only repeat it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import counted, duration_text
from kasal_jupyter.schemas.executions import OpenQuestion

KEPT_MARK = "✎"

_MEMORY_WORDS = {"short_term": "short term", "long_term": "long term", "knowledge": "knowledge"}

DEEPEST = 24
"""Levels that are drawn as levels; what lies deeper is drawn at the deepest."""

MARKS = {"task": "▣", "agent": "◉", "llm": "◆", "tool": "●"}
STATE_MARKS = {"failed": "✖", "stopped": "■", "skipped": "⊘"}
MOST_ASKED_ABOUT = 4_000
"""Characters of what a question is about that are shown with it."""

STATUS_MARKS = {
    "queued": "◷",
    "running": "▶",
    "waiting_for_input": "?",
    "completed": "✔",
    "failed": "✖",
    "stopped": "■",
    "interrupted": "■",
}
KIND_WORDS = {"task": "task", "agent": "agent", "llm": "model call", "tool": "tool call"}


@dataclass(slots=True)
class Row:
    """A span as a view shows it.

    Attributes
    ----------
    title, note
        Its name, and what is said behind it in a weaker colour; both cleaned.
    work
        The one agent's span that a task's row stands for as well.
    plan
        What the crew's planner says of a task.
    before
        The model call before this one by the same agent, to show only new messages.
    gap, rest
        Spans that are not among the rows: just before this one, and behind the last of its children.
    """

    span: Span
    depth: int
    title: str
    note: str = ""
    work: Span | None = None
    plan: str = ""
    before: Span | None = None
    gap: list[Span] = field(default_factory=list, repr=False)
    rest: list[Span] = field(default_factory=list, repr=False)
    children: list[Row] = field(default_factory=list, repr=False)

    @property
    def mark(self) -> str:
        """The row's sign: its kind, or how it ended badly."""
        return STATE_MARKS.get(self.span.state) or MARKS[self.span.kind]

    def walk(self) -> Iterator[Row]:
        """Give the row and all below it, parents first."""
        stack = [self]
        while stack:
            row = stack.pop()
            yield row
            stack.extend(reversed(row.children))


def run_start(trace: Trace) -> float:
    """Seconds from the first event to the run's start; before it, the run waited in the queue."""
    summary = trace.summary
    if summary.created_at and summary.started_at:
        from kasal_jupyter.schemas.base import parse_time

        return max(0.0, (parse_time(summary.started_at) - parse_time(summary.created_at)).total_seconds())
    return min((root.start for root in trace.roots), default=0.0)


def build_rows(trace: Trace, wanted: AbstractSet[int] | None = None) -> list[Row]:
    """Give the rows of the trace's tasks, each with those below it.

    ``wanted`` are the ids of the spans to give rows of; with a span, those around it must be among them.
    """
    plans = {task["id"]: task for task in trace.queued.get("tasks", ())}
    top, _ = _rows_of(trace.roots, 0, wanted)
    for row in top:
        # Besides tasks there is the crew's planner, whose work is no task's.
        if row.span.kind == "task":
            row.note = _task_note(row.span, plans)
        elif row.span.kind == "llm" and trace.roots[0] is not row.span:
            row.note = f"says what was learnt · {row.note}"
        elif not row.note and trace.plans:
            row.note = f"planned {counted(len(trace.plans), 'task')}"
    # Walked with a stack: how deep agents delegate to agents is the models' choice.
    stack = list(top)
    while stack:
        row = stack.pop()
        spans = row.span.children
        if row.span.kind == "task" and len(spans) == 1 and spans[0].kind == "agent":
            row.work = spans[0]
            row.note = " · ".join(filter(None, (row.note, recalled_note(row.work.recalled))))
            spans = spans[0].children
        row.children, row.rest = _rows_of(spans, min(row.depth + 1, DEEPEST), wanted)
        if row.span.checks:
            for inner in row.children:
                if inner.span.kind == "llm":
                    inner.note = f"checks the result · {inner.note}"
        if row.span.kind == "task":
            row.plan = trace.plans.get(row.span.opened.get("task_id") or "", "")
        stack.extend(row.children)
    return top


def _rows_of(spans: list[Span], depth: int, wanted: AbstractSet[int] | None) -> tuple[list[Row], list[Span]]:
    """Give the rows of the wanted ones of these spans, and the spans that come behind them."""
    rows: list[Row] = []
    gap: list[Span] = []
    calls = 0
    before: Span | None = None
    again = _tried_again(spans)
    for span in spans:
        calls += span.kind == "llm"
        if wanted is None or span.id in wanted:
            row = Row(span, depth, one_line(span.name, 160), _note(span, calls, span.id in again), gap=gap)
            row.before = before if span.kind == "llm" else None
            rows.append(row)
            gap = []
        else:
            gap.append(span)
        before = span if span.kind == "llm" else before
    return rows, gap


def spans_within(span: Span) -> Iterator[Span]:
    """Give a span and all in it, in any order, however deep agents delegated to agents."""
    stack = [span]
    while stack:
        inner = stack.pop()
        yield inner
        stack.extend(inner.children)


def steps_in(spans: Iterable[Span]) -> int:
    """Count spans with all below them."""
    return sum(1 for span in spans for _ in spans_within(span))


def step_note(span: Span) -> str:
    """Say what is to be said of a span by itself, without those around it."""
    return _note(span, 0, again=False)


def _note(span: Span, calls: int, again: bool) -> str:
    said = _said_of(span, calls, again)
    return " · ".join(filter(None, (answered_by(span), said)))


def answered_by(span: Span) -> str:
    """Say where a call's answer is from, where that is not the usual: ``recorded``, ``answer edited``."""
    return f"{span.edited} edited" if span.edited else "recorded" if span.recorded else ""


def _said_of(span: Span, calls: int, again: bool) -> str:
    if span.state == "failed":
        reason = f": {one_line(span.error, 120)}" if span.error else ""
        return f"failed{' · tried again' if again else ''}{reason}"
    if span.state == "stopped":
        return "stopped"
    if span.kind == "llm":
        return _llm_note(span, calls)
    return tool_note(span) if span.kind == "tool" else recalled_note(span.recalled)


def _tried_again(spans: list[Span]) -> set[int]:
    """Give the failed spans that a later one of the same name follows."""
    later: set[tuple[str, str]] = set()
    again: set[int] = set()
    for span in reversed(spans):
        if span.state == "failed" and (span.kind, span.name) in later:
            again.add(span.id)
        later.add((span.kind, span.name))
    return again


def _task_note(span: Span, plans: dict[str, dict[str, Any]]) -> str:
    parts = []
    if span.agent:
        parts.append(one_line(span.agent, 80))
    plan = plans.get(span.opened.get("task_id") or "")
    if plan and plan.get("context"):
        names = (plans[task]["title"] if task in plans else task for task in plan["context"])
        parts.append(one_line("context: " + ", ".join(names), 120))
    if span.state == "skipped":
        parts.append(f"skipped: {one_line(span.opened['reason'], 120)}")
    if span.checks:
        parts.append(_checks_note(span))
    if remark := span.closed.get("remark"):
        parts.append(one_line(remark, 120))
    if span.state == "failed":
        parts.append("failed")
    elif span.state == "stopped":
        parts.append("stopped")
    elif errors := sum(inner.state == "failed" for inner in spans_within(span)):
        parts.append(f"{counted(errors, 'error')}{' recovered' if span.state == 'completed' else ''}")
    return " · ".join(parts)


def _checks_note(span: Span) -> str:
    refused = sum(not check.accepted for check in span.checks)
    accepted = "accepted" if span.checks[-1].accepted else ""
    often = f"refused {'once' if refused == 1 else f'{refused} times'}" if refused else ""
    return f"guardrail: {', '.join(filter(None, (often, accepted)))}"


def _llm_note(span: Span, number: int) -> str:
    parts = [f"call {number}"] if number else []
    usage = span.closed.get("usage")
    if usage:
        parts.append(f"{usage['prompt_tokens']:,} in")
        parts.append(f"{usage['completion_tokens']:,} out")
        if usage.get("cached_tokens"):
            parts.append(f"{usage['cached_tokens']:,} cached")
    elif span.state == "completed":
        parts.append("tokens unknown")
    elif span.state == "running":
        parts.append("answering" if span.text else "waiting")
    if remark := span.closed.get("remark"):
        parts.append(one_line(remark, 120))
    return " · ".join(parts)


def tool_note(span: Span) -> str:
    """Say what a tool was asked and what it answered, on one line."""
    if span.question:
        answered = span.closed.get("result")
        told = f" → {one_line(answered, 60)}" if answered else ""
        waits = "waiting for an answer: " if span.state == "running" else ""
        return f"{waits}{one_line(span.question, 120)}{told}"
    arguments = span.opened.get("arguments") or {}
    asked = ", ".join(f"{key}={_short(value)}" for key, value in list(arguments.items())[:4])
    result = span.closed.get("result")
    answered = f" → {one_line(result, 60)}" if result else ""
    whose = "notebook function" if span.from_client else ""
    return " · ".join(filter(None, (whose, one_line(asked, 80)))) + answered


def _short(value: object) -> str:
    return one_line(value, 40) if isinstance(value, str) else one_line(repr(value), 40)


def how_to_get_all(job_id: str) -> str:
    """Say how a very long answer is got, of which the events have the beginning alone."""
    return f"It goes on: `%kasal result {job_id}` gives all of it"


def about_text(question: OpenQuestion, most: int = MOST_ASKED_ABOUT) -> str:
    """Write what a question is about: the result that is reviewed, or the call that is to be made."""
    if question.arguments is None:
        text = clean(question.output or "")
    else:
        arguments = (
            f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
            for name, value in question.arguments.items()
        )
        text = clean(f"{question.tool}({', '.join(arguments)})")
    return text if len(text) <= most else f"{text[:most]}…"


def asked_text(question: OpenQuestion) -> str:
    """Write who asks, what, and what that is about."""
    asks = f"{one_line(question.agent or 'An agent', 60)} asks: {clean(question.question)}"
    return "\n".join(filter(None, [asks, about_text(question)]))


def how_to_answer(job_id: str, choices: Sequence[str], *, here: bool = False) -> str:
    """Say how a question is answered: with which words, from a notebook and from a terminal.

    ``here`` is where the cell itself asks: this notebook can run no other cell before it is answered.
    """
    example = one_line(choices[0], 40) if choices else "…"
    which = f"{' / '.join(one_line(choice, 60) for choice in choices)} · " if choices else ""
    if here:
        return f'{which}type it below · or in a terminal: jupyter kasal answer {job_id} "{example}"'
    return f'{which}%kasal answer {job_id} "{example}" · jupyter kasal answer {job_id} "{example}"'


def elapsed_text(trace: Trace, now: float | None = None) -> str:
    """Write how long the run took, or has taken at ``now`` (seconds since its first event)."""
    summary = trace.summary
    if summary.duration is not None:
        return duration_text(summary.duration)
    return duration_text((trace.last_time if now is None else now) - run_start(trace))


def recalled_note(event: Mapping[str, Any]) -> str:
    """Say how much an agent was reminded of; nothing where that was nothing, and nothing went wrong."""
    memories = event.get("memories") or []
    passages = sum(memory["type"] == "knowledge" for memory in memories)
    said = [
        counted(count, word, many)
        for count, word, many in (
            (len(memories) - passages, "memory", "memories"),
            (passages, "passage", "passages"),
        )
        if count
    ]
    if event.get("remark"):
        said.append("by words alone")
    return f"recalled {', '.join(said)}" if said else ""


def stored_note(event: Mapping[str, Any]) -> str:
    """Say how much a crew will remember of a run."""
    return f"will remember {counted(len(event.get('memories') or []), 'memory', 'memories')}"


def memories_text(event: Mapping[str, Any]) -> str:
    """Write what was recalled, or is to be remembered: its type, how near it was, its text, a line each."""
    lines = []
    for memory in event.get("memories") or []:
        about = one_line(memory.get("category") or "", 80)
        kind = _MEMORY_WORDS.get(memory["type"], memory["type"])
        near = f" {memory['score']:.2f}" if "score" in memory else ""
        lines.append(f"[{kind}{f' · {about}' if about else ''}{near}] {one_line(memory['content'], 400)}")
    if remark := event.get("remark"):
        lines.append(str(remark))
    return "\n".join(lines)


# -- which steps are drawn ------------------------------------------------------------------------------

# Which steps of a long run a view draws: not the first ones only, but some of every task.
#
# The whole is in the result's ``spans()``; a saved notebook has room for some of it.

FAILED_SHARE = 0.2
"""Share of the room that failed steps take before any others."""


def fair_choice(trace: Trace, most: int) -> set[int] | None:
    """Choose about ``most`` spans of a run that is over: failed ones, and of each parent its first and last.

    Returns
    -------
    set of int or None
        Ids, with those of all spans around the chosen ones; None where there is room for all.
    """
    if len(trace.spans) <= most:
        return None
    failed = (span for span in trace.spans.values() if span.state == "failed")
    chosen = _with_those_around(trace, islice(failed, round(most * FAILED_SHARE)))
    families = [trace.roots, *(span.children for span in trace.spans.values() if span.children)]
    room = most - len(chosen)
    quota = _quota([len(family) for family in families], room)
    if quota:
        steps = (span for family in families for span in _ends(family, quota))
        return _cut(trace, chosen | _with_those_around(trace, steps), 2 * most)
    # More parents than there is room for: spans stand in the order in which they began, parents first.
    return _cut(trace, chosen | set(islice(trace.spans, room)), most)


def latest_choice(trace: Trace, most: int) -> set[int]:
    """Choose about ``most`` spans of a run that goes on: what runs, what began last, what is around it."""
    spans = trace.spans
    running = [span for span in spans.values() if span.end is None]
    # What runs deepest began last.
    chosen = _with_those_around(trace, running[-most // 2 :])
    for task in islice(reversed(trace.roots), most // 3):
        chosen.add(task.id)
    for span in reversed(spans.values()):
        if len(chosen) >= most:
            break
        chosen |= _with_those_around(trace, (span,))
    return _cut(trace, chosen, 2 * most)


def _quota(sizes: list[int], room: int) -> int:
    """Give the most that each family may have so that all fit; 0 where not one of each does."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(size, middle) for size in sizes) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _ends(family: list[Span], quota: int) -> list[Span]:
    """Give the first of a family, and its last, which mostly says how it ended."""
    return family if len(family) <= quota else [*family[: quota - 1], family[-1]]


def _cut(trace: Trace, chosen: set[int], most: int) -> set[int]:
    """Keep what began first where agents that delegate to agents made the choice too large."""
    return (
        chosen if len(chosen) <= most else set(islice((span for span in trace.spans if span in chosen), most))
    )


def _with_those_around(trace: Trace, spans: Iterable[Span]) -> set[int]:
    found: set[int] = set()
    for span in spans:
        above: Span | None = span
        while above is not None and above.id not in found:
            found.add(above.id)
            above = trace.spans.get(above.parent_id) if above.parent_id is not None else None
    return found


# -- what a row opens to --------------------------------------------------------------------------------

# What a span opens to: its prompt, messages, arguments, result and error, as labelled texts.


class Section(NamedTuple):
    """A labelled text of a span; a label alone is a remark.

    ``bad`` marks an error, ``answer`` what people read: it may be Markdown.
    """

    label: str
    text: str = ""
    bad: bool = False
    answer: bool = False


def sections(row: Row) -> list[Section]:
    """Give what the row's span holds, in reading order; nothing that is empty."""
    span = row.span
    match span.kind:
        case "llm":
            found = _model_call(span, row.before)
        case "tool":
            found = _tool_call(span)
        case _:
            found = [*_text("plan", row.plan), *_work(span, row.work)]
    if span.error:
        found.append(Section("error", span.error, bad=True))
    return found


def _work(span: Span, work: Span | None) -> list[Section]:
    agent = work or span
    found = [
        *_text("skipped", span.opened.get("reason")),
        *_text("recalled", memories_text(agent.recalled)),
        *_text("prompt", agent.opened.get("prompt")),
        *_text("tools", ", ".join(agent.opened.get("tools") or ())),
    ]
    if result := span.closed.get("result"):
        found.append(Section("result", result, answer=True))
    found += _remark(span)
    for check in span.checks:
        said = "accepts it" if check.accepted else "refuses it"
        found.append(
            Section(f"guardrail, attempt {check.attempt}: {said}", check.feedback, bad=not check.accepted)
        )
    if "structured" in span.closed:
        found.append(Section("result as JSON", as_json(span.closed["structured"])))
    return found


def _tool_call(span: Span) -> list[Section]:
    arguments = span.opened.get("arguments")
    return [
        *_text("arguments", as_json(arguments) if arguments else None),
        *_text("result", span.closed.get("result")),
    ]


def _model_call(span: Span, before: Span | None) -> list[Section]:
    messages = span.opened.get("messages") or []
    known = _shared(before.opened.get("messages") or [], messages) if before else 0
    found = [Section(f"{counted(known, 'message')} as in the call before")] if known else []
    for message in messages[known:]:
        found += _text(str(message.get("role", "message")), _said(message))
    found += _text("tools offered", ", ".join(span.opened.get("tools") or ()))
    if settings := span.opened.get("settings"):
        found.append(Section("settings", as_json(settings)))
    found += _text("reasoning", span.closed.get("reasoning"))
    found += _text("answer", span.closed.get("text") or span.text)
    for call in span.closed.get("tool_calls") or ():
        found += _text("asks for a tool", f"{call['name']} {call['arguments']}")
    if (reason := span.closed.get("finish_reason")) not in {None, "stop", "tool_calls"}:
        found += _text("finish reason", reason)
    return found + _remark(span)


def _remark(span: Span) -> list[Section]:
    """Say what is wrong with an answer that is not whole."""
    remark = span.closed.get("remark")
    return [Section("remark", remark, bad=True)] if remark else []


def _text(label: str, text: str | None) -> list[Section]:
    return [Section(label, text)] if text else []


def _shared(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> int:
    """Count the messages that both calls begin with."""
    known = 0
    for earlier, later in zip(before, now, strict=False):
        if earlier != later:
            break
        known += 1
    return known


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = [] if content is None else [content if isinstance(content, str) else as_json(content)]
    parts.extend(
        f"{call.get('function', {}).get('name', 'tool')} {call.get('function', {}).get('arguments', '')}"
        for call in message.get("tool_calls") or []
        if isinstance(call, dict)
    )
    return "\n".join(parts)


def as_json(value: object) -> str:
    """Write a value as JSON: on one line where it is short."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    return line if len(line) <= 100 else json.dumps(value, ensure_ascii=False, indent=2, default=str)
