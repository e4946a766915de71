"""Runs that take their answers from earlier ones: journals as the server keeps them, and what runs tell."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kasal_jupyter.schemas.spec import RunSource, RunSpec
from tests.engine import Record

_NUMBERS = itertools.count(2)

_WHEN = frozenset({"time", "seq", "job_id", "span_id", "parent_id", "duration_ms", "recorded"})
"""What of an event says when it was, or in which run."""

_MOMENTS = frozenset(
    {"llm_chunk", "tool_request", "memory_stored", "input_request", "input_answer", "tool_approved"}
)
"""What belongs to a live run alone: pieces of answers, questions to others, and what is remembered of it."""


def journal(record: Record, spec: RunSpec) -> Path:
    """Write a run's journal where a server has it: beside the run's folder."""
    path = Path(spec.folder).with_suffix(".jsonl")
    lines = [
        b'{"seq":%d,"job_id":"%b",%b\n' % (number, spec.job_id.encode(), line[1:])
        for number, line in enumerate(record.raw, 1)
    ]
    path.write_bytes(b"".join(lines))
    return path


def following(spec: RunSpec, path: Path, verb: str = "replay", **changes: Any) -> RunSpec:
    """Give a run that takes its answers from a journal; of a replay, without any key."""
    number = next(_NUMBERS)
    folder = Path(spec.folder).with_name(f"job_{number}")
    folder.mkdir()
    models = {
        name: model.model_copy(update={"api_key": None} if verb == "replay" else {})
        for name, model in spec.models.items()
    }
    source = RunSource(verb=verb, job_id=spec.job_id, journal=str(path))
    known = {"job_id": f"job_{number}", "folder": str(folder), "source": source, "models": models}
    return spec.model_copy(update={**known, **changes})


def told(events: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Give what a run has told: its spans within each other, without times and ids, in an order of their own.

    Two runs that tell the same had the same trace and the same result.
    """
    spans: dict[int, dict[str, Any]] = {}
    roots: list[Any] = []
    for event in _until_end(events):
        if event["type"] in _MOMENTS:
            continue
        kept = {name: value for name, value in event.items() if name not in _WHEN}
        span_id = event.get("span_id")
        if span_id is None:
            roots.append(kept)
        elif span_id in spans:
            spans[span_id]["events"].append(kept)
        else:
            spans[span_id] = {"events": [kept], "within": []}
            parent = spans.get(event["parent_id"] or 0)
            (roots if parent is None else parent["within"]).append(spans[span_id])
    for span in spans.values():
        span["within"].sort(key=_written)
    return sorted(roots, key=_written)


def _until_end(events: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for event in events:
        yield event
        if event["type"] == "execution_status" and event["status"] not in {"queued", "running"}:
            return


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def live_calls(record: Record) -> list[str]:
    """Give the types of the events that answer a call which was not recorded."""
    ends = {"llm_response", "llm_failed", "tool_result", "tool_failed", "memory_recalled"}
    return [
        event["type"]
        for event in record.events
        if event["type"] in ends and "key" in event and not event.get("recorded")
    ]
