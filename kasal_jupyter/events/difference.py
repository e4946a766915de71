"""In what two runs differ: their calls side by side, the first in which they part, and its texts.

Calls are laid side by side by their task and their agent, in the order in which each agent makes them; tools
that are called at once, by what they are asked. What is asked is the same where the calls' identities are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any

from kasal_jupyter.events.event import COMPLETING, FAILING, Event
from kasal_jupyter.events.side_by_side import side_by_side
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.events.tally import cost_of, is_recorded, usage_of
from kasal_jupyter.schemas.difference import (
    DiffKind,
    DiffPair,
    DiffRun,
    DiffStep,
    DiffText,
    ExecutionDiff,
)

MOST_STEPS = 300
"""Pairs of calls that are told."""

MOST_TEXTS = 6
"""Texts of a call that are laid side by side."""

_KINDS = {"llm_call": "model", "tool_call": "tool"}

GetEvent = Callable[[int], Mapping[str, Any]]
"""Gives an event of a run by its ``seq``."""


@dataclass(slots=True)
class Call:
    """A call of a model or a tool, as far as runs are compared by it.

    Attributes
    ----------
    began, ended
        Its events, by their ``seq``.
    asked, answered
        Digests of what is asked and answered.
    """

    span: int
    kind: str
    name: str
    task_id: str | None
    task: str | None
    agent: str | None
    began: int
    asked: str
    ended: int | None = None
    answered: str = ""
    tokens: int | None = None
    cost: float | None = None
    recorded: bool = False
    edited: bool = False
    failed: bool = False

    def step(self) -> DiffStep:
        """Give it as it is told."""
        return DiffStep(
            span=self.span,
            seq=self.began,
            tokens=self.tokens,
            cost=self.cost,
            recorded=self.recorded,
            edited=self.edited,
            failed=self.failed,
        )


@dataclass(slots=True)
class Told:
    """One of the two runs. Feed it the journal's events in order.

    Parameters
    ----------
    event
        Reads one of them again.
    """

    event: GetEvent
    calls: dict[int, Call] = field(default_factory=dict)
    summary: RunSummary = field(default_factory=RunSummary)
    queued: Mapping[str, Any] = field(default_factory=dict)
    models: dict[str, None] = field(default_factory=dict)

    def feed(self, event: Event) -> None:
        """Take in the next event."""
        self.summary.feed(event)
        told: Mapping[str, Any] = event
        if told["type"] == "execution_status" and told["status"] == "queued":
            self.queued = told
        elif (kind := _KINDS.get(told["type"])) is not None:
            name = told["model"] if kind == "model" else told["tool"]
            if kind == "model":
                self.models[name] = None
            if key := told.get("key"):
                asked = key.rpartition(":")[0]
            else:
                # A prompt may be named alone in what is fed.
                asked = _digest(_question(told if kind == "tool" else self.event(told["seq"])))
            self.calls[told["span_id"]] = Call(
                span=told["span_id"],
                kind=kind,
                name=name,
                task_id=told.get("task_id"),
                task=told.get("task"),
                agent=told.get("agent"),
                began=told["seq"],
                asked=asked,
                edited="edited" in told,
            )
        elif told["type"] in COMPLETING | FAILING and (call := self.calls.get(told["span_id"])):
            usage = usage_of(told) if call.kind == "model" else None
            call.ended, call.answered = told["seq"], _digest(_answer(told))
            call.tokens = usage["total_tokens"] if usage else None
            call.cost = cost_of(told) if call.kind == "model" else None
            call.recorded, call.edited = is_recorded(told), call.edited or "edited" in told
            call.failed = told["type"] in FAILING

    def run(self) -> DiffRun:
        """Give what is told of it in figures."""
        summary, queued = self.summary, self.queued
        return DiffRun(
            job_id=str(queued.get("job_id", "")),
            crew_id=str(queued.get("crew_id", "")),
            crew_name=summary.crew_name,
            crew_version=queued.get("crew_version"),
            status=summary.status,
            verb=summary.verb,
            parent=summary.parent,
            models=list(self.models),
            total_tokens=summary.total_tokens,
            cost=summary.cost,
            llm_calls=summary.llm_calls,
            tool_calls=summary.tool_calls,
            recorded=summary.answers.recorded,
            duration=summary.duration,
        )


def difference_of(one: Told, other: Told) -> ExecutionDiff:
    """Say in what two runs differ."""
    found = [(each, _differs(one, other, *each)) for each in _pairs(one, other)]
    parted = next(((each, differs) for each, differs in found if differs != "same"), None)
    inputs = _inputs(one.queued.get("inputs") or {}, other.queued.get("inputs") or {})
    result = _result(one, other)
    ends = (one.summary.status, one.summary.error and one.summary.error.message)
    other_ends = (other.summary.status, other.summary.error and other.summary.error.message)
    same = parted is None and result is None and not inputs and ends == other_ends
    first = _told(*parted) if parted is not None else None
    texts = _texts(one, other, *parted[0]) if parted is not None else []
    return ExecutionDiff(
        a=one.run(),
        b=other.run(),
        same=same,
        words=_words(one, other, first, texts, same=same, calls=len(found)),
        inputs=inputs[:MOST_TEXTS],
        first=first,
        texts=texts,
        result=result,
        steps=[_told(*each) for each in found[:MOST_STEPS]],
        steps_left_out=max(0, len(found) - MOST_STEPS),
    )


# -- side by side --------------------------------------------------------------------------------------------

_Pair = tuple[Call | None, Call | None]


def _pairs(one: Told, other: Told) -> list[_Pair]:
    """Lay the calls of two runs side by side, in the order of the first one's."""
    tasks = _alike(
        [(task["id"], task["title"]) for task in one.queued.get("tasks", ())],
        [(task["id"], task["title"]) for task in other.queued.get("tasks", ())],
    )
    groups = _grouped(one.calls.values(), lambda call: (call.task_id, call.agent))
    theirs = _grouped(other.calls.values(), lambda call: (tasks.get(call.task_id), call.agent))
    agents = dict(_renamed(groups, theirs))
    placed: list[tuple[float, _Pair]] = []
    for group in dict.fromkeys([*groups, *(agents.get(each, each) for each in theirs)]):
        named = next((each for each, found in agents.items() if found == group), group)
        last = float("inf")
        for pair in _aligned(groups.get(group, []), theirs.get(named, [])):
            if pair[0] is not None:
                last = pair[0].began
            placed.append((last, pair))
    # The sort is stable: what the other has more of, stays behind what it follows.
    return [pair for _, pair in sorted(placed, key=lambda each: each[0])]


def _alike(
    ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]
) -> dict[str | None, str | None]:
    """Give our task for each of theirs: the same one, or one of its title, or the one at its place."""
    found: dict[str | None, str | None] = {None: None}
    for place in (0, 1, 2):
        by = {(*our, at)[place]: our[0] for at, our in enumerate(ours) if our[0] not in found.values()}
        for at, their in enumerate(theirs):
            if their[0] not in found and (our := by.pop((*their, at)[place], None)) is not None:
                found[their[0]] = our
    return found


_Group = tuple[str | None, str | None]


def _grouped(calls: Iterable[Call], by: Callable[[Call], _Group]) -> dict[_Group, list[Call]]:
    groups: dict[_Group, list[Call]] = {}
    for call in calls:
        groups.setdefault(by(call), []).append(call)
    return groups


def _renamed(
    groups: Mapping[_Group, object], theirs: Mapping[_Group, object]
) -> Iterator[tuple[_Group, _Group]]:
    """Give, for agents that the first run does not have, those that are alone at the same task there."""
    lone: dict[str | None, list[_Group]] = {}
    for group in groups:
        if group not in theirs:
            lone.setdefault(group[0], []).append(group)
    for group in theirs:
        if group not in groups and (rest := lone.get(group[0])):
            yield group, rest.pop(0)


def _aligned(ours: Sequence[Call], theirs: Sequence[Call]) -> Iterator[_Pair]:
    """Lay one agent's calls in a task side by side."""
    for mine, their in zip_longest(_turns(ours), _turns(theirs), fillvalue=()):
        if mine and their and mine[0].kind == their[0].kind == "tool":
            yield from _at_once(list(mine), list(their))
        elif mine and their and mine[0].kind != their[0].kind:
            # The one asks again where the other calls tools.
            yield from ((each, None) for each in mine)
            yield from ((None, each) for each in their)
        else:
            yield from zip_longest(mine, their)


def _turns(calls: Sequence[Call]) -> list[list[Call]]:
    """Part calls: each of a model alone, those of tools as they follow one."""
    turns: list[list[Call]] = []
    for kind, turn in groupby(calls, lambda call: call.kind):
        found = list(turn)
        turns += [[each] for each in found] if kind == "model" else [found]
    return turns


def _at_once(ours: list[Call], theirs: list[Call]) -> Iterator[_Pair]:
    rest = list(theirs)
    left: list[Call] = []
    for call in ours:
        match = next((each for each in rest if each.asked == call.asked), None)
        if match is None:
            left.append(call)
        else:
            rest.remove(match)
            yield call, match
    yield from zip_longest(left, rest)


def _differs(one: Told, other: Told, a: Call | None, b: Call | None) -> DiffKind:
    if a is None or b is None:
        return "only_b" if a is None else "only_a"
    if (a.kind, a.name) != (b.kind, b.name):
        return "question"
    if a.asked != b.asked and ((a.task, a.agent) == (b.task, b.agent) or _asked_otherwise(one, other, a, b)):
        return "question"
    return "same" if a.answered == b.answered else "answer"


def _asked_otherwise(one: Told, other: Told, a: Call, b: Call) -> bool:
    """Say whether what is asked differs in more than by whom, and in which task."""
    return _question(one.event(a.began)) != _question(other.event(b.began))


def _told(pair: _Pair, differs: DiffKind) -> DiffPair:
    a, b = pair
    call = a or b
    assert call is not None
    return DiffPair(
        kind="model" if call.kind == "model" else "tool",
        name=call.name,
        task=call.task,
        agent=call.agent,
        differs=differs,
        a=a.step() if a is not None else None,
        b=b.step() if b is not None else None,
    )


# -- what is asked and answered ------------------------------------------------------------------------------


def _question(event: Mapping[str, Any]) -> dict[str, str]:
    """Give what is asked, as texts by what they are; the run itself is not named in them."""
    if event["type"] == "tool_call":
        found = {"tool": str(event["tool"]), "arguments": _json(event["arguments"])}
    else:
        found = {"model": str(event["model"])}
        for at, message in enumerate(event["messages"], 1):
            found[f"message {at} ({message.get('role')})"] = _message(message)
        found["tools offered"] = ", ".join(event["tools"])
        settings = event.get("settings") or {}
        found["settings"] = _json({name: settings[name] for name in settings if name != "stop"})
    run = str(event.get("job_id") or "\0")
    return {name: text.replace(run, "{run}") for name, text in found.items()}


def _answer(event: Mapping[str, Any]) -> dict[str, str]:
    run = str(event.get("job_id") or "\0")
    match event["type"]:
        case "llm_response":
            calls = [f"{call['name']} {call['arguments']}" for call in event["tool_calls"]]
            found = {"answer": event["text"] or "", "asks for tools": "\n".join(calls)}
        case "tool_result":
            found = {"result": event["result"]}
        case _:
            found = {"failed": event["error"]["message"]}
    return {name: text.replace(run, "{run}") for name, text in found.items() if text}


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    parts = [content if isinstance(content, str) else _json(content)]
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts.append(f"{function.get('name')} {function.get('arguments')}")
    return "\n".join(filter(None, parts))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True, default=str)


def _digest(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


# -- in words ------------------------------------------------------------------------------------------------


def _words(
    one: Told, other: Told, first: DiffPair | None, texts: Sequence[DiffText], *, same: bool, calls: int
) -> str:
    a, b = str(one.queued.get("job_id", "")), str(other.queued.get("job_id", ""))
    if same:
        return f"{a} and {b} do not differ: {calls:,} calls, each asked and answered alike."
    if first is None:
        ends = f"{a} is {one.summary.status}, {b} is {other.summary.status}"
        return f"All {calls:,} calls were asked and answered alike; {ends}."
    who = f"{first.agent or 'the crew'}{f', in “{first.task}”,' if first.task else ''}"
    does = f"asks {first.name}" if first.kind == "model" else f"calls {first.name}"
    step = first.a or first.b
    assert step is not None
    at = f"They part at step {step.span} of {a if first.a is not None else b}"
    if first.differs in {"only_a", "only_b"}:
        has, lacks = (a, b) if first.differs == "only_a" else (b, a)
        return f"{at}: {who} {does}, which {lacks} does not and {has} does."
    if first.differs == "answer":
        given = "is answered otherwise" if first.kind == "model" else "is given another result"
        edited = ", changed by a user" if first.b is not None and first.b.edited else ""
        return f"{at}: {who} {does} the same, and {given}{edited}."
    answers = {"answer", "result", "asks for tools", "failed"}
    what = ", ".join(text.label for text in texts if text.label not in answers)
    return f"{at}: {who} {does}, and asks something else there{f': {what}' if what else ''}."


def _texts(one: Told, other: Told, a: Call | None, b: Call | None) -> list[DiffText]:
    """Lay side by side what differs of two calls, first what is asked."""
    asked = [_question(run.event(call.began)) if call else {} for run, call in ((one, a), (other, b))]
    answered = [
        _answer(run.event(call.ended)) if call and call.ended else {} for run, call in ((one, a), (other, b))
    ]
    found = [
        side_by_side(label, ours.get(label), theirs.get(label))
        for ours, theirs in (asked, answered)
        for label in dict.fromkeys([*ours, *theirs])
        if ours.get(label) != theirs.get(label)
    ]
    return found[:MOST_TEXTS]


def _inputs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[DiffText]:
    return [
        side_by_side(name, _written(ours.get(name)), _written(theirs.get(name)))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]


def _written(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else _json(value)


def _result(one: Told, other: Told) -> DiffText | None:
    ours, theirs = (
        each.result if each.result is not None else each.partial_result
        for each in (one.summary, other.summary)
    )
    return None if ours == theirs else side_by_side("result", ours, theirs)
