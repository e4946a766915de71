"""Forks as the notebook asks for them: the steps that there are, and what is changed at one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.figures import cost_text
from kasal_jupyter.kernel.views.rows import KIND_WORDS, tool_note
from kasal_jupyter.schemas.executions import EDITS, Budget, ExecutionFork

STEP_HEADS = ["step", "what", "task", "agent", "said", "cost"]

MOST_STEPS = 400
"""Steps that a list has."""


def read_change(
    step: int | str,
    values: Mapping[str, Any],
    *,
    model: str | None = None,
    budget: Budget | None = None,
) -> tuple[ExecutionFork, dict[str, Any]]:
    """Give what a fork changes, and the other values that go along.

    Raises
    ------
    CellError
        The step is no number, or the change is none.
    """
    texts = {what: values[what] for what in EDITS if what in values}
    for what, text in texts.items():
        if not isinstance(text, str):
            raise CellError(f"{what} is a text, and not {type(text).__name__}; put it in quotes")
    others = {name: value for name, value in values.items() if name not in EDITS}
    if not str(step).isdecimal():
        raise CellError(f"{str(step)!r} is no step: steps are numbers; %kasal fork JOB lists them")
    try:
        change = ExecutionFork(span=int(step), model=model, budget=budget, **texts)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise CellError(f"{where + ': ' if where else ''}{first['msg']}") from None
    return change, others


def steps_table(trace: Trace) -> Shown:
    """List the steps that a run can be left at, each with the lines that do so."""
    calls = [span for _, span in trace.walk() if span.kind in {"llm", "tool"} and "key" in span.opened]
    if not calls:
        return Shown(f"{trace.job_id} has no steps that it can be forked at", STEP_HEADS, [])
    shown = calls[:MOST_STEPS]
    more = f"; the first {MOST_STEPS} of {len(calls):,}" if len(calls) > len(shown) else ""
    title = f"{trace.job_id} can be forked at these steps, and by the numbers of tasks and agents{more}"
    lines = [fork_lines(trace.job_id, span) for span in shown]
    return Shown(title, STEP_HEADS, [_cells(span) for span in shown], opens=("step", lines))


def fork_lines(job_id: str, span: Span) -> list[str]:
    """Give the lines that fork a run at a step: as it is, or with its text changed."""
    line = f"%kasal fork {job_id} {span.id}"
    whats = ("result",) if span.kind == "tool" else ("prompt", "answer")
    return [line, *(f"{line} {what} --edit" for what in whats)]


def _cells(span: Span) -> list[str]:
    said = tool_note(span) if span.kind == "tool" else span.closed.get("text") or _asked_for(span)
    cost = "" if span.kind == "tool" or span.recorded else cost_text(span.cost)
    what = f"{KIND_WORDS[span.kind]}: {span.name}"
    return [str(span.id), what, span.task or "", span.agent or "", one_line(said, 100), cost]


def _asked_for(span: Span) -> str:
    names = [call["name"] for call in span.closed.get("tool_calls") or ()]
    return f"asks for {', '.join(names)}" if names else span.error or ""
