"""Forks: where a run is left, what is changed of it there, and what it may take to go on from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from kasal_jupyter.events.steps import Step, Steps, place_of, prompt_place, summed_cost
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.schemas.executions import (
    MOST_EDITED,
    EditKind,
    Execution,
    ExecutionFork,
    ForkEstimate,
    ForkPreview,
)
from kasal_jupyter.schemas.spec import ForkPlace, RunEdit, RunSpec


@dataclass(frozen=True, slots=True)
class Fork:
    """A fork that can be started.

    Attributes
    ----------
    place
        Where it begins.
    edits
        What users have changed: what stood before the place, and what is changed at it now.
    preview
        The call that it begins at, and what it may take.
    """

    place: ForkPlace
    edits: list[RunEdit]
    preview: ForkPreview


def plan_fork(journal: Journal, before: RunSpec, source: Execution, change: ExecutionFork, by: str) -> Fork:
    """Say where a run is left, and what that changes. It reads the whole journal.

    Parameters
    ----------
    journal, before, source
        The run: its events, what it was asked, and how it has ended.
    change
        What is asked for.
    by
        Who asks for it.

    Raises
    ------
    InvalidRequest
        There is no such step, or it cannot be changed so.
    """
    what = change.what
    steps = Steps.of(journal.written())
    call = steps.call_of(change.span, what)
    place = place_of(call, before.tasks)
    behind = steps.keys_behind(place)
    edits = [edit for edit in before.edits if edit.call not in behind]
    # A prompt that was changed at the place stays, under the one that stands there now.
    edits = [edit for edit in edits if edit.call != call.key or edit.what == "prompt"]
    if what is not None:
        assert call.key is not None, "it is a recorded call"
        edits.append(RunEdit(call=call.key, what=what, text=change.text, by=by))
    given = what in {"answer", "result"}
    live = [each for each in steps.anew(place) if each is not call or not given]
    # One that has failed is made again, and nobody knows what it costs then.
    failed = call.kind == "llm" and not given and not call.answered
    estimate = ForkEstimate(
        calls=len(live) + failed, cost=summed_cost(live), at_least=source.status != "completed"
    )
    return Fork(place, edits, _preview(journal, call, estimate))


def _preview(journal: Journal, call: Step, estimate: ForkEstimate) -> ForkPreview:
    began = journal.event(call.began)
    ended = journal.event(call.ended) if call.ended is not None else {}
    texts: dict[EditKind, str | None] = {}
    if call.kind == "tool":
        texts["result"] = ended.get("given", ended.get("result"))
    else:
        messages = began["messages"]
        texts["prompt"] = _said(messages[prompt_place(messages)]) if messages else None
        texts["answer"] = ended.get("text")
    return ForkPreview(
        span=call.id,
        at=call.began,
        kind="model" if call.kind == "llm" else "tool",
        name=call.name,
        task=call.task,
        agent=call.agent,
        estimate=estimate,
        **{what: text if text is None or len(text) <= MOST_EDITED else None for what, text in texts.items()},
    )


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else orjson.dumps(content).decode()
