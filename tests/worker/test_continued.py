"""What a run's later processes tell: each thing once, in the spans that were open."""

import json

from kasal_jupyter.schemas.spec import RunOwnRecord
from kasal_jupyter.worker.process.continued import Continued


def event(kind, span_id=None, parent_id=None, **fields):
    if span_id is None:
        return {"type": kind, **fields}
    about = {"span_id": span_id, "parent_id": parent_id, "task_id": "t", "agent": "Ada"}
    return {"type": kind, **about, **fields}


def story(start):
    """What a run tells until it waits for two people at once, its spans numbered from ``start`` on."""
    a, b, c, d, e = (start + at for at in (0, 1, 2, 3, 4))
    return [
        event("task_start", a),
        event("llm_call", b, a, key="1:same:1"),
        event("llm_response", b, a, key="1:same:1"),
        event("tool_call", c, a, tool="Delegate"),
        event("agent_start", d, c),
        event("tool_call", e, d, key="1:tool:1"),
        event("input_request", e, d, call_id="call_1"),
    ]


def test_what_the_journal_has_is_not_told_again_and_what_is_new_goes_on_in_its_spans(tmp_path):
    told = [
        event("execution_status", status="queued"),
        event("execution_status", status="running"),
        event("plan", steps=[]),
        *story(1),
        event("input_answer", 5, 4, call_id="call_1"),
    ]
    path = tmp_path / "job_1.jsonl"
    later = event("tool_result", 5, 4)
    lines = [json.dumps({"seq": at, **each}) for at, each in enumerate([*told, later], 1)]
    path.write_text("\n".join(lines))
    passing = Continued(RunOwnRecord(journal=str(path), until=len(told)))
    assert passing(event("execution_status", status="running")) is not None
    assert passing(event("plan", steps=[])) is None
    # Whatever goes on beside it, so that its spans have other numbers.
    assert [passing(each) for each in story(11)] == [None] * 7
    assert passing(event("tool_result", 15, 14)) == event("tool_result", 5, 4)
    assert passing(event("llm_call", 16, 14, key="1:new:1")) == event("llm_call", 6, 4, key="1:new:1")
    assert passing(event("llm_response", 16, 14)) == event("llm_response", 6, 4)
    # Asked once more, the same is something new.
    assert passing(event("llm_call", 17, 11, key="1:same:1")) == event("llm_call", 7, 1, key="1:same:1")
    assert passing(event("execution_status", status="completed")) is not None
