"""The trace of a run: its events folded into a tree of spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal, cast

from kasal_jupyter.events.event import COMPLETING, FAILING, OPENING, Event, TokenUsage
from kasal_jupyter.events.prompts import Prompts
from kasal_jupyter.events.summary import RunSummary, add_costs
from kasal_jupyter.events.tally import cost_of, is_free, is_recorded, usage_of
from kasal_jupyter.schemas.base import parse_time

SpanKind = Literal["task", "agent", "llm", "tool"]
SpanState = Literal["running", "completed", "skipped", "failed", "stopped"]

SPAN_KINDS: dict[str, SpanKind] = {
    "task_start": "task",
    "task_skipped": "task",
    "agent_start": "agent",
    "llm_call": "llm",
    "tool_call": "tool",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What a guardrail has said of a task's result.

    Attributes
    ----------
    attempt
        Counted from 1.
    """

    accepted: bool
    feedback: str
    attempt: int


@dataclass(slots=True)
class Span:
    """A timed part of a run.

    Attributes
    ----------
    name
        The task's title, the agent's name, the model or the tool.
    start, end
        Seconds since the run was accepted; ``end`` is None while it runs.
    prompt_tokens, completion_tokens
        Tokens of the span and everything below it.
    cost
        US dollars of the span and everything below it, 0.0 before any model answered; None as soon as one
        call's is unknown.
    opened, closed
        The events that opened and closed it: their messages, arguments and result.
    checks
        What a task's guardrail has said of its results, in their order.
    text
        What a streaming model has said so far.
    from_client
        Whether a tool was the client's: a function of a notebook.
    question
        What an agent has asked a human by this tool call.
    recalled
        The event that tells what an agent was reminded of; empty without a memory.
    recorded
        Whether an earlier run's record has answered a call: it has used nothing up.
    """

    id: int
    parent_id: int | None
    kind: SpanKind
    name: str
    task: str | None
    agent: str | None
    start: float
    end: float | None = None
    state: SpanState = "running"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    error: str | None = None
    text: str = ""
    from_client: bool = False
    question: str = ""
    recorded: bool = False
    opened: dict[str, Any] = field(default_factory=dict, repr=False)
    closed: dict[str, Any] = field(default_factory=dict, repr=False)
    children: list[Span] = field(default_factory=list, repr=False)
    checks: list[Check] = field(default_factory=list, repr=False)
    recalled: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration(self) -> float | None:
        """Seconds; None while it runs."""
        return None if self.end is None else self.end - self.start

    @property
    def edited(self) -> str:
        """What a user has changed of a call, in a fork: its prompt, answer or result; else nothing."""
        edit = self.closed.get("edited") or self.opened.get("edited") or {}
        return str(edit.get("what", ""))

    @property
    def total_tokens(self) -> int:
        """Tokens of the span and everything below it."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(slots=True)
class Trace:
    """A run's spans and figures. Feed it the journal's events in order, at any time, as they come.

    Feeding is O(depth) an event, so a live view may feed and draw as events arrive.
    """

    job_id: str = ""
    summary: RunSummary = field(default_factory=RunSummary)
    roots: list[Span] = field(default_factory=list)
    spans: dict[int, Span] = field(default_factory=dict)
    last_time: float = 0.0
    """Seconds from the first event to the latest."""
    plans: dict[str, str] = field(default_factory=dict)
    """What the crew's planner says of each task, by the task's id."""
    queued: dict[str, Any] = field(default_factory=dict)
    """The first event: the crew, its tasks, the inputs."""
    stored: dict[str, Any] = field(default_factory=dict)
    """The event that tells what the crew will remember of the run; empty without a memory."""
    _origin: float | None = None
    _prompts: Prompts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # The spans have them anyway.
        self._prompts = Prompts(lambda _span: None, most=inf, calls=inf)

    def feed(self, event: Event) -> Event:
        """Take in the next event, and give it: a model's call has whole messages."""
        event = cast("Event", self._prompts.event(cast("Mapping[str, Any]", event)))
        self.summary.feed(event)
        at = self._seconds(event["time"])
        if not self.job_id:
            self.job_id = event.get("job_id", "")
        kind = event["type"]
        if kind in OPENING:
            self._open(dict(event), at)
        elif kind in COMPLETING or kind in FAILING:
            self._close(dict(event), at)
        elif event["type"] == "task_skipped":
            self._open(dict(event), at)
            self._close(dict(event), at)
        elif event["type"] == "guardrail":
            if span := self.spans.get(event["span_id"]):
                span.checks.append(Check(event["accepted"], event["feedback"], event["attempt"]))
        elif event["type"] == "plan":
            self.plans |= {step["task_id"]: step["plan"] for step in event["steps"] if step["task_id"]}
        elif event["type"] == "memory_recalled":
            if span := self.spans.get(event["span_id"]):
                span.recalled = dict(event)
        elif event["type"] == "memory_stored":
            self.stored = dict(event)
        elif event["type"] == "tool_request":
            if span := self.spans.get(event["span_id"]):
                span.from_client = True
        elif event["type"] == "input_request":
            if span := self.spans.get(event["span_id"]):
                span.question = event["question"]
        elif event["type"] == "llm_chunk":
            if span := self.spans.get(event["span_id"]):
                span.text += event["text"]
        elif event["type"] == "execution_status":
            if event["status"] == "queued":
                self.queued = dict(event)
            if self.summary.ended:
                self._end_open_spans(at)
        return event

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Give every span with its depth, in the order they began, parents first.

        Agents may delegate to agents as deep as they like: Python's recursion would end before that.
        """
        stack = [(0, root) for root in reversed(self.roots)]
        while stack:
            depth, span = stack.pop()
            yield depth, span
            stack.extend((depth + 1, child) for child in reversed(span.children))

    def _seconds(self, time: str) -> float:
        stamp = parse_time(time).timestamp()
        if self._origin is None:
            self._origin = stamp
        if stamp - self._origin < self.last_time:
            # The clock was set back: events are in their order, so the time goes on from the latest.
            self._origin = stamp - self.last_time
        self.last_time = stamp - self._origin
        return self.last_time

    def _open(self, event: dict[str, Any], at: float) -> None:
        kind = SPAN_KINDS[event["type"]]
        name = {
            "task": event.get("task"),
            "agent": event.get("agent"),
            "llm": event.get("model"),
            "tool": event.get("tool"),
        }[kind]
        span = Span(
            id=event["span_id"],
            parent_id=event["parent_id"],
            kind=kind,
            name=name or kind,
            task=event.get("task"),
            agent=event.get("agent"),
            start=at,
            opened=event,
        )
        self.spans[span.id] = span
        parent = self.spans.get(span.parent_id) if span.parent_id is not None else None
        (parent.children if parent else self.roots).append(span)

    def _close(self, event: dict[str, Any], at: float) -> None:
        span = self.spans.get(event["span_id"])
        if span is None:
            return
        span.end = at
        span.closed = event
        span.recorded = is_recorded(event)
        if event["type"] in FAILING:
            span.state = "failed"
            span.error = event["error"]["message"]
        elif event["type"] == "task_skipped":
            span.state = "skipped"
        else:
            span.state = "completed"
        if event["type"] == "llm_response" or "cost" in event:
            # Views show what stands here as it is.
            event["usage"], event["cost"] = usage, cost = usage_of(event), cost_of(event)
            if span.recorded:
                return
            counted = usage or TokenUsage(prompt_tokens=0, completion_tokens=0, total_tokens=0)
            self._add_up(span, counted["prompt_tokens"], counted["completion_tokens"], cost)

    def _add_up(self, span: Span, prompt: int, completion: int, cost: float | None) -> None:
        above: Span | None = span
        while above is not None:
            above.prompt_tokens += prompt
            above.completion_tokens += completion
            above.cost = add_costs(above.cost, cost)
            above = self.spans.get(above.parent_id) if above.parent_id is not None else None

    def _end_open_spans(self, at: float) -> None:
        for span in self.spans.values():
            if span.end is None:
                span.end = at
                span.state = "stopped"
                if span.kind == "llm" and self.summary.verb != "replay" and not is_free(span.opened):
                    self._add_up(span, 0, 0, None)


def build_trace(events: Iterable[Event]) -> Trace:
    """Fold a whole run into its trace."""
    trace = Trace()
    for event in events:
        trace.feed(event)
    return trace
