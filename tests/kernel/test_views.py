"""The views of a trace: what they show, and that what agents say stays data."""

from html.parser import HTMLParser

import pytest

from kasal_jupyter.kernel.view_html import render_html
from kasal_jupyter.kernel.view_lines import LineView
from kasal_jupyter.kernel.view_text import render_text
from kasal_jupyter.schemas.trace import build_trace

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31mred\x1b[0m \u202egnp.exe"


def events(task="Find the facts", answer="Tea fell 4 %.", tool_result="4", extra_calls=0):
    """A small run: one task, a model call, a tool call that fails once, and the answer."""
    span = {"task_id": "task_1", "task": task, "agent": "Analyst"}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    steps = [
        {
            "type": "execution_status",
            "status": "queued",
            "crew_name": "Market research",
            "tasks": [{"id": "task_1", "title": task, "agent": "Analyst", "context": []}],
            "inputs": {},
        },
        {"type": "execution_status", "status": "running"},
        {"type": "task_start", "span_id": 1, "parent_id": None},
        {"type": "agent_start", "span_id": 2, "parent_id": 1, "prompt": task, "tools": ["calculator"]},
        {"type": "llm_call", "span_id": 3, "parent_id": 2, "model": "gpt-4", "messages": [], "tools": []},
        {
            "type": "llm_response",
            "span_id": 3,
            "parent_id": 2,
            "model": "gpt-4",
            "text": answer,
            "tool_calls": [],
            "usage": usage,
            "finish_reason": "stop",
        },
        {"type": "tool_call", "span_id": 4, "parent_id": 2, "tool": "sql", "arguments": {"query": answer}},
        {
            "type": "tool_failed",
            "span_id": 4,
            "parent_id": 2,
            "tool": "sql",
            "error": {"code": "TOOL_ERROR", "message": "no such table"},
        },
    ]
    for number in range(extra_calls):
        call = {"span_id": 10 + number, "parent_id": 2, "tool": "calculator"}
        steps.append({"type": "tool_call", "arguments": {"expression": str(number)}, **call})
        steps.append({"type": "tool_result", "result": tool_result, **call})
    steps += [
        {"type": "agent_complete", "span_id": 2, "parent_id": 1, "result": answer},
        {"type": "task_complete", "span_id": 1, "parent_id": None, "result": answer},
        {"type": "execution_status", "status": "completed", "result": answer},
    ]
    return [
        {"seq": seq, "job_id": "job_1", "time": f"2026-11-24T12:{seq // 60 % 60:02}:{seq % 60:02}.000000Z"}
        | (span if "span_id" in step else {})
        | step
        for seq, step in enumerate(steps, 1)
    ]


class Tags(HTMLParser):
    """Collects the tags and attributes of a page, and its text in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    tags = Tags()
    tags.feed(html)
    return tags


def test_the_html_is_made_of_what_sanitisers_keep():
    tags = parsed(render_html(build_trace(events())))
    assert tags.tags <= {"details", "summary", "div", "span", "pre"}
    assert not {name for name in tags.attributes if name.startswith("on")}


def test_the_html_reads_in_order_without_any_style():
    text = " ".join(" ".join(parsed(render_html(build_trace(events()))).text).split())
    assert text.index("Market research") < text.index("Tea fell") < text.index("Find the facts")
    assert "completed" in text
    assert "120" in text
    assert "no such table" in text


@pytest.mark.parametrize("render", [render_html, render_text])
def test_hostile_text_is_shown_and_does_nothing(render):
    shown = render(build_trace(events(task=HOSTILE, answer=HOSTILE)))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "alert(1)" in shown
    if render is render_html:
        assert "<script" not in shown
        assert "<img" not in shown


def test_the_text_view_is_a_tree_with_bars_durations_and_tokens():
    lines = render_text(build_trace(events())).splitlines()
    assert lines[0].startswith("Market research  ✔ completed")
    assert lines[1].startswith("└─ ▣ Find the facts")
    assert lines[2].startswith("   ├─ ◆ gpt-4")
    assert lines[3].startswith("   └─ ✖ sql")
    assert "█" in lines[1]
    assert lines[1].endswith("120")
    assert lines[-1] == "Tea fell 4 %."


def test_thousands_of_steps_stay_within_two_megabytes_and_say_what_is_left_out():
    html = render_html(build_trace(events(extra_calls=5_000, tool_result="x" * 1_000)))
    assert len(html.encode()) <= 2_000_000
    assert "more" in html


def test_the_lines_of_a_terminal_come_when_a_step_is_over():
    view = LineView()
    lines = [view.feed(event) for event in events()]
    assert lines[2] == ["├─ ▣ Find the facts Analyst"]
    assert lines[4] == []
    assert lines[5][0].startswith("│  ├─ ◆ gpt-4")
    assert "no such table" in lines[7][0]
    assert lines[-1][0].startswith("└─ Market research  ✔ completed")
