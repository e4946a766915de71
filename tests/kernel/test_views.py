"""The views of a trace: what they show, and that what agents say stays data."""

from html.parser import HTMLParser

import pytest

from kasal_jupyter.kernel.clean import clean
from kasal_jupyter.kernel.view_html import render_html
from kasal_jupyter.kernel.view_lines import LineView
from kasal_jupyter.kernel.view_text import render_text
from kasal_jupyter.schemas.trace import build_trace

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31mred\x1b[0m \u202egnp.exe"


def clock(seconds):
    """Give an event's time, so many seconds into the run."""
    return f"2026-11-24T{12 + seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.000000Z"


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
        {"seq": seq, "job_id": "job_1", "time": clock(seq)} | (span if "span_id" in step else {}) | step
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


def test_lines_of_tasks_that_run_together_stand_under_their_own_heading():
    view = LineView()
    for event in events()[:8]:
        view.feed(event)
    other = {"span_id": 50, "parent_id": None, "task_id": "task_2", "task": "Other", "agent": "Clerk"}
    late = {"seq": 90, "job_id": "job_1", "time": clock(60)}
    view.feed(late | other | {"type": "task_start"})
    call = {"span_id": 60, "parent_id": 2, "tool": "sql", "task_id": "task_1", "task": "-", "agent": "-"}
    view.feed(late | call | {"type": "tool_call", "arguments": {}})
    lines = view.feed(late | call | {"type": "tool_result", "result": "3 rows"})
    assert lines[0] == "├─ ▣ Find the facts Analyst (continued)"
    assert "3 rows" in lines[1]


def test_the_tail_of_a_run_has_lines_without_its_beginning():
    view = LineView()
    lines = [line for event in events(extra_calls=1)[5:] for line in view.feed(event)]
    assert any("calculator" in line and "→ 4" in line for line in lines)


def deep(levels):
    """A run in which each agent delegates to the next."""
    steps = events()[:2]
    for level in range(1, levels):
        span = {"span_id": level, "parent_id": level - 1 or None, "task_id": "t", "task": "t", "agent": "a"}
        steps.append(
            steps[1]
            | span
            | {"type": "agent_start" if level > 1 else "task_start", "prompt": "", "tools": []}
        )
    return steps


def test_agents_may_delegate_as_deep_as_they_like():
    trace = build_trace(deep(1_500))
    assert render_html(trace).count("<summary") == 1_499 - 1  # the task and its agent are one row
    assert "… and 1,098 more steps" in render_text(trace)


def conversation(*texts):
    """A run of one model call that was asked with these messages."""
    steps = events()
    steps[4]["messages"] = [{"role": "user", "content": text} for text in texts]
    return steps


def test_one_step_with_an_endless_conversation_stays_within_two_megabytes():
    html = render_html(build_trace(conversation(*["<" * 20_000] * 500)))
    assert len(html.encode()) <= 2_000_000
    assert "more texts in the run&#x27;s events" in html


def test_a_long_text_is_folded_behind_its_size():
    html = render_html(build_trace(conversation("word " * 5_000)))
    assert "user, 25,000 characters" in html
    assert "… 5,000 more characters" in html


def test_a_later_call_shows_only_what_is_new():
    steps = conversation("first", "second")
    again = [dict(steps[4], span_id=9), dict(steps[5], span_id=9)]
    again[0]["messages"] = [*steps[4]["messages"], {"role": "tool", "content": "third"}]
    html = render_html(build_trace([*steps[:8], *again, *steps[8:]]))
    assert "2 messages as in the call before" in html
    assert html.count(">second</pre>") == 1
    assert ">third</pre>" in html


def test_a_task_has_the_tokens_of_all_its_calls():
    steps = events()
    again = [dict(steps[4], span_id=9), dict(steps[5], span_id=9)]
    trace = build_trace([*steps[:8], *again, *steps[8:]])
    assert [span.total_tokens for span in trace.roots] == [240]
    assert render_text(trace).splitlines()[1].endswith("240")


def test_a_failure_counts_once_whatever_it_took_down():
    steps = events()[:7]
    at = {"seq": 8, "job_id": "job_1", "time": steps[-1]["time"]}
    error = {"code": "RATE_LIMIT", "message": "Rate limit exceeded"}
    task = {"task_id": "task_1", "task": "Find the facts", "agent": "Analyst", "error": error}
    steps += [
        at | task | {"type": "tool_failed", "span_id": 4, "parent_id": 2, "tool": "sql"},
        at | task | {"type": "task_failed", "span_id": 1, "parent_id": None},
        at | error | {"type": "error", "task_id": "task_1"},
        at | {"type": "execution_status", "status": "failed", "error": error},
    ]
    for shown in (render_html(build_trace(steps)), render_text(build_trace(steps))):
        assert "1 error" in shown
        assert "recovered" not in shown
        assert "Rate limit exceeded" in shown


def test_wide_letters_do_not_shift_the_columns():
    narrow, wide = (
        render_text(build_trace(events(task=task))).splitlines()[1] for task in ("tea", "茶の価格")
    )
    assert narrow.index("▕") - wide.index("▕") == 4


@pytest.mark.parametrize("width", [20, 40, 72, 200])
def test_no_row_is_longer_than_the_line(width):
    rows = render_text(build_trace(events(task="t" * 150)), width=width).splitlines()[1:4]
    assert all(len(row) <= max(width, 40) for row in rows)


def test_a_redrawn_view_is_small_and_has_the_latest_steps():
    running = events(extra_calls=2_000, tool_result="x" * 1_000)[:-3]
    html = render_html(build_trace(running), live=True)
    assert len(html) < 60_000
    assert "expression=1999" in html
    assert "expression=3 " not in html
    assert "<details" not in html


def test_the_end_of_a_growing_answer_is_shown_while_it_grows():
    steps = events()[:5]
    chunk = steps[4] | {"type": "llm_chunk", "text": "Tea prices fell"}
    assert "Tea prices fell" in render_html(build_trace([*steps, chunk]), live=True)


@pytest.mark.parametrize(
    ("dirty", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("bell\x07", "bell␇"),
        ("a\u202eb", "a<U+202E>b"),
        ("\ud800", "?"),
        ("C1\x9b31m", "C1�31m"),
        ("two\r\nlines", "two\nlines"),
    ],
)
def test_controls_are_removed_or_made_visible(dirty, shown):
    assert clean(dirty) == shown


def test_endless_openings_of_escape_sequences_are_cleaned_in_no_time():
    # Each opening that looked for its end through the whole rest would take hours.
    assert clean("\x1b]" * 200_000) == "␛]" * 200_000
