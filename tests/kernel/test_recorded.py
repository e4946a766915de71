"""What a record has answered, as views, lists and lines tell it."""

import pytest

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.views.difference import RunDifference
from kasal_jupyter.kernel.views.figures import answered_text, calls_text, lineage_text
from kasal_jupyter.kernel.views.html_parts import saved_bytes
from kasal_jupyter.kernel.views.view_html import render_html
from kasal_jupyter.kernel.views.view_text import LineView, render_text
from kasal_jupyter.schemas.difference import ExecutionDiff
from kasal_jupyter.schemas.executions import Calls

PARENT = "job_4t9k2m0x7q1z"


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        (Calls(), ""),
        (Calls(live=3), ""),
        (Calls(recorded=4), "4 recorded"),
        (Calls(recorded=1_041, live=3, saved=0.42), "1,041 recorded, 3 live, $0.4200 saved"),
        (Calls(recorded=2, saved=None), "2 recorded, cost saved is unknown"),
    ],
)
def test_how_calls_were_answered(calls, told):
    assert calls_text(calls) == told


@pytest.mark.parametrize(
    ("age", "saved", "told"),
    [
        (0, 0.0, "0 s ago"),
        (59, 0.0, "59 s ago"),
        (60, 0.42, "1 min ago, $0.4200 saved"),
        (7_300, None, "2 h ago, cost saved is unknown"),
        (86_400, 0.0, "1 day ago"),
        (200_000, 1.5, "2 days ago, $1.50 saved"),
    ],
)
def test_which_run_answers(age, saved, told):
    recorded = {"from": PARENT, "age_seconds": age, "saved": saved}
    assert answered_text(recorded) == f"from {PARENT}, {told}"


def test_whose_record_a_run_uses():
    assert lineage_text("run", None) == ""
    assert lineage_text("replay", PARENT) == f"replay of {PARENT}"


def line(second, kind, **fields):
    return {"time": f"2026-11-30T10:00:{second:02}.000000Z", "type": kind, "job_id": "job_new", **fields}


def span(second, kind, number, parent, **fields):
    of_task = {"task_id": "t", "task": "Taste", "agent": "Ada"}
    return line(second, kind, span_id=number, parent_id=parent, **of_task, **fields)


def resumed():
    """Give the events of a run of which a model's first call and a tool's were recorded."""
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    asked = {"model": "m", "messages": [], "tools": []}
    answer = {"model": "m", "tool_calls": [], "finish_reason": "stop", "usage": usage}
    tasks = [{"id": "t", "title": "Taste", "agent": "Ada", "context": []}]
    return [
        line(
            0, "execution_status", status="queued", crew_name="Tea", tasks=tasks, verb="resume", parent=PARENT
        ),
        line(0, "execution_status", status="running"),
        span(1, "task_start", 1, None),
        span(1, "agent_start", 2, 1, prompt="", tools=[]),
        span(2, "llm_call", 3, 2, key="1:a:1", **asked),
        span(2, "llm_response", 3, 2, text=None, cost=0.4, recorded=True, **answer),
        span(3, "tool_call", 4, 2, tool="look", arguments={"at": "tea"}, key="1:b:1"),
        span(3, "tool_result", 4, 2, tool="look", result="Green", recorded=True),
        span(4, "llm_call", 5, 2, key="1:c:1", **asked),
        span(5, "llm_response", 5, 2, text="Good", cost=0.1, **answer),
        span(5, "agent_complete", 2, 1, result="Good"),
        span(5, "task_complete", 1, None, result="Good"),
        line(6, "execution_status", status="completed", result="Good"),
    ]


def test_recorded_calls_are_marked_and_cost_nothing():
    trace = build_trace(resumed())
    text = render_text(trace, width=140)
    head, _, first, tool, second = text.splitlines()[:5]
    assert "25 tokens  $0.1000  1 task · 1 model call · 2 recorded, 1 live, $0.4000 saved" in head
    assert head.endswith(f"job_new  resume of {PARENT}")
    assert "recorded · call 1 · 20 in · 5 out" in first
    assert "recorded · at='tea'" in tool or "recorded · at=tea" in tool
    assert "recorded" not in second
    assert second.rstrip().endswith("$0.1000")
    assert "$0.4" not in first
    html = render_html(trace)
    assert f"resume of {PARENT}" in html
    assert "2 recorded, 1 live, $0.4000 saved" in html
    assert html.count("recorded · ") == 2


def test_in_a_file_of_lines_they_are_marked_as_well():
    view = LineView(140)
    lines = [each for event in resumed() for each in view.feed(event)]
    assert lines[0] == f"Tea  job_new  resume of {PARENT}"
    assert sum(" recorded · " in each for each in lines[1:-1]) == 2


def apart(line, other, lines=60):
    """Give a difference of as much as there may be."""
    run = {"crew_id": "c", "crew_name": "Tea", "crew_version": 1, "status": "completed", "verb": "run"}
    run |= {"parent": None, "models": ["m"], "total_tokens": 9, "cost": 0.1, "llm_calls": 1, "tool_calls": 0}
    run |= {"recorded": 0, "duration": 1.0}
    text = {"label": "answer", "rows": [{"a": line, "b": other}] * lines}
    step = {
        "span": 1,
        "seq": 1,
        "tokens": 9,
        "cost": 0.1,
        "recorded": False,
        "edited": False,
        "failed": False,
    }
    pair = {
        "kind": "model",
        "name": "m",
        "task": "Taste",
        "agent": "Ada",
        "differs": "answer",
        "a": step,
        "b": step,
    }
    found = {
        "a": {**run, "job_id": "job_a"},
        "b": {**run, "job_id": "job_b", "crew_version": 2},
        "same": False,
    }
    found |= {"words": "They part.", "inputs": [text] * 6, "first": pair, "texts": [text] * 6, "result": text}
    return RunDifference(ExecutionDiff.model_validate({**found, "steps": [pair] * 300}))


def test_a_difference_marks_the_words_and_stays_small_whatever_differs():
    html = apart("Tea is green", "Tea is black", 1)._repr_html_()
    assert html.count(">green</b>") == html.count(">black</b>") == 13
    assert "%kasal history &quot;Tea&quot; --diff" in html
    assert "<script" not in apart("<script>", "\x1b[31m<img>", 1)._repr_html_()
    assert "\x1b" not in repr(apart("a", "\x1b[31mb", 1))
    for line, other in (('<"&' * 200, '>"&' * 200), ("a b " * 150, "c b " * 150)):
        assert saved_bytes(apart(line, other)._repr_html_()) < 1_750_000
