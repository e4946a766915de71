"""A run's steps, as places to leave it at: which call is meant by one, and what is asked anew from it on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.events.event import COMPLETING, FAILING
from kasal_jupyter.events.summary import add_costs
from kasal_jupyter.events.tally import cost_of
from kasal_jupyter.events.trace import SPAN_KINDS, SpanKind
from kasal_jupyter.schemas.executions import EditKind
from kasal_jupyter.schemas.spec import ForkPlace, RunTask

MOST_NAMED = 12
"""Steps that an error names."""


@dataclass(slots=True)
class Step:
    """A span, as far as a fork needs to know it.

    Attributes
    ----------
    name
        The task's title, the agent's name, the model or the tool.
    began, ended
        The events that have begun and ended it, by their ``seq``; ``ended`` is None where nothing has.
    key
        The call's identity; None where it is none, or was not recorded with one.
    answered
        Whether it has come to a good end.
    cost
        US dollars of a model's answer; None where they are unknown.
    """

    id: int
    parent_id: int | None
    kind: SpanKind
    name: str
    task_id: str | None
    task: str | None
    agent: str | None
    began: int
    key: str | None = None
    ended: int | None = None
    answered: bool = False
    cost: float | None = None

    @property
    def words(self) -> str:
        """The step in words: its number, what it is, and in which task."""
        where = f", in “{self.task}”" if self.task and self.kind != "task" else ""
        return f"{self.id} ({_KIND_WORDS[self.kind]} {self.name}{where})"


_KIND_WORDS: Mapping[SpanKind, str] = {
    "task": "the task",
    "agent": "the agent",
    "llm": "a call of",
    "tool": "a call of",
}


@dataclass(slots=True)
class Steps:
    """The steps of a run. Feed it the journal's events in order."""

    steps: dict[int, Step] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)
    """By the calls, as they were, that users have changed the prompts of: as they were asked."""

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> Steps:
        """Fold a whole run."""
        steps = cls()
        for event in events:
            steps.feed(event)
        return steps

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take in the next event."""
        if (kind := SPAN_KINDS.get(event["type"])) is not None:
            name = event.get("model") or event.get("tool") if kind in {"llm", "tool"} else None
            span = self.steps[event["span_id"]] = Step(
                id=event["span_id"],
                parent_id=event["parent_id"],
                kind=kind,
                name=str(name or event.get("agent" if kind == "agent" else "task") or kind),
                task_id=event.get("task_id"),
                task=event.get("task"),
                agent=event.get("agent"),
                began=event["seq"],
                key=event.get("key"),
            )
            if span.key is not None and (edit := event.get("edited")) is not None:
                self.edited[edit["call"]] = span.key
        elif event["type"] in COMPLETING | FAILING and (step := self.steps.get(event["span_id"])):
            step.ended, step.answered = event["seq"], event["type"] in COMPLETING
            step.cost = cost_of(event)

    # -- the place -------------------------------------------------------------------------------------------

    def call_of(self, span: int, what: EditKind | None) -> Step:
        """Give the call that is meant by a step: of a task, or an agent's work, one of its model's.

        Parameters
        ----------
        span
            The step's number: its span's id.
        what
            What is changed of it. An answer is the last that was given in the step, all else its first call.

        Raises
        ------
        InvalidRequest
            There is no such step, or nothing of it can be changed so; it says which there are.
        """
        step = self.steps.get(span)
        if step is None:
            raise _fault("span", f"there is no step {span}; {self._named()}")
        if step.kind == "tool" and step.key is not None:
            if what in {"prompt", "answer"}:
                raise _fault(what, f"step {step.words} has a result, and no {what}")
            return step
        if what == "result":
            raise _fault("result", f"step {step.words} has a prompt and an answer, and no result")
        calls = [step] if step.kind == "llm" else list(self._calls_in(step, own=what == "answer"))
        known = [call for call in calls if call.key is not None]
        if not known:
            raise _fault("span", f"no model was asked in step {step.words}; {self._named()}")
        return known[-1 if what == "answer" else 0]

    def _calls_in(self, step: Step, *, own: bool) -> Iterator[Step]:
        """Give the calls of models in a step; of its ``own`` are those that no other agent has made in it."""
        within = {step.id}
        for each in self.steps.values():
            if each.parent_id not in within:
                continue
            if each.kind == "llm":
                # What a guardrail asks is no answer of the task's.
                if not own or self.steps[each.parent_id].kind == "agent":
                    yield each
            elif not own or each.kind == "agent":
                within.add(each.id)

    def _named(self) -> str:
        calls = [each.words for each in self.steps.values() if each.key is not None]
        if not calls:
            return "it has none"
        more = f" and {len(calls) - MOST_NAMED} more" if len(calls) > MOST_NAMED else ""
        return f"there are {', '.join(calls[:MOST_NAMED])}{more}"

    # -- what hangs on it ------------------------------------------------------------------------------------

    def anew(self, place: ForkPlace) -> list[Step]:
        """Give the calls of models that were answered at a place and behind it."""
        return [
            step
            for step in self.steps.values()
            if step.kind == "llm" and step.answered and self._is_behind(step, place)
        ]

    def keys_behind(self, place: ForkPlace) -> set[str]:
        """Give the calls behind a place, the one at it left out."""
        found = {
            step.key
            for step in self.steps.values()
            if step.key is not None and step.began != place.at and self._is_behind(step, place)
        }
        return found | {call for call, asked in self.edited.items() if asked in found}

    @staticmethod
    def _is_behind(step: Step, place: ForkPlace) -> bool:
        return place.is_behind({"seq": step.began, "task_id": step.task_id})


def place_of(call: Step, tasks: Sequence[RunTask]) -> ForkPlace:
    """Give the place of a call in a run of these tasks: what hangs on it comes after it, by causes.

    That is what its own task asks after it, and every task that is given this one's result, or the result of
    one that is.
    """
    if call.task_id is None:
        return ForkPlace(at=call.began, tasks=None)
    hanging = {call.task_id}
    for task in tasks:
        if task.id in hanging:
            continue
        before = task.context_tasks
        if any(each in hanging for each in before) if before is not None else _is_after(task, tasks, hanging):
            hanging.add(task.id)
    return ForkPlace(at=call.began, tasks=[task.id for task in tasks if task.id in hanging])


def _is_after(task: RunTask, tasks: Sequence[RunTask], hanging: set[str]) -> bool:
    """Say whether a task comes after one of those: it gets the results of all before it."""
    ids = [each.id for each in tasks]
    return any(each in hanging for each in ids[: ids.index(task.id)])


def summed_cost(calls: Iterable[Step]) -> float | None:
    """Add up what calls have cost; None where one's cost is unknown."""
    cost: float | None = 0.0
    for call in calls:
        cost = add_costs(cost, call.cost)
    return cost


def prompt_place(messages: Sequence[Mapping[str, Any]]) -> int:
    """Say which of a call's messages is its prompt: the last that the user says, else the last of all."""
    places = range(len(messages) - 1, -1, -1)
    return next((at for at in places if messages[at].get("role") == "user"), len(messages) - 1)


def _fault(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest("Invalid fork", faults=[Fault(field, reason)])
