"""The views of a trace: what they show, and that what agents say stays data."""

import re
from html import unescape
from html.parser import HTMLParser

import bleach
import nbformat
import pytest

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.html_parts import drawn_bytes
from kasal_jupyter.kernel.views.html_rows import axis_ticks
from kasal_jupyter.kernel.views.view_html import render_html, render_live
from kasal_jupyter.kernel.views.view_text import LineView, render_text

MARKDOWN = {
    *("p", "strong", "em", "s", "br", "hr", "code", "blockquote"),
    *("ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td"),
}
"""What answers may have besides, and GitHub keeps."""

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
            "cost": 0.0012,
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
    assert parsed(render_live(build_trace(events()[:-1]))).tags <= {"div", "span"}
    assert not {name for name in tags.attributes if name.startswith("on")}


def test_the_html_reads_in_order_without_any_style():
    text = " ".join(" ".join(parsed(render_html(build_trace(events()))).text).split())
    assert text.index("Market research") < text.index("Tea fell") < text.index("Find the facts")
    assert "completed" in text
    assert "120" in text
    assert "no such table" in text


def without_styles(html):
    """Give what a sanitiser such as GitHub's leaves of a page, as the lines that a reader then sees."""
    kept = bleach.clean(
        html,
        tags={"a", "details", "summary", "div", "span", "pre", *MARKDOWN},
        attributes={"*": ["dir", "title", "open", "role", "aria-label"], "a": ["href"]},
        strip=True,
    )
    assert "style" not in kept
    text = re.sub(r"<(?:div|details|summary|pre)\b[^>]*>", "\n", kept)
    return [line for line in unescape(re.sub(r"<[^>]*>", "", text)).split("\n") if line.strip()]


def test_without_styles_each_row_is_a_sentence_and_the_tree_is_indented():
    lines = without_styles(render_html(build_trace(events())))
    assert lines[0].startswith("Market research · ✔ completed · 9.0 s · 120 tokens · $0.0012 · 1 task")
    assert (
        "▣ task Find the facts: Analyst · 1 error recovered · at 1.0 s, completed in 7.0 s"
        " · 120 tokens · $0.0012"
    ) in lines
    indent = "\u00a0" * 4
    assert f"{indent}✖ tool call sql: failed: no such table · at 5.0 s, failed after 1.0 s" in lines
    assert lines[lines.index("error") + 1] == "no such table"


def test_what_follows_the_theme_has_a_plain_value_before_it():
    styles = re.findall(r'style="([^"]*)"', render_html(build_trace(events())))
    themed = [style for style in styles if "var(" in style]
    assert themed
    for style in themed:
        declared = [declaration.split(":", 1) for declaration in style.split(";") if declaration]
        for place, (name, value) in enumerate(declared):
            if "var(" in value and name not in {"color", "background"}:
                assert name in {earlier for earlier, _ in declared[:place]}


def priced(cost):
    """A run whose one model call cost so much."""
    steps = events()
    steps[5]["cost"] = cost
    return build_trace(steps)


@pytest.mark.parametrize("render", [render_html, render_text])
def test_an_unknown_cost_is_not_shown_as_nothing(render):
    assert "cost unknown" in render(priced(None))
    assert "$0" not in render(priced(None))
    assert "$0" in render(priced(0.0))
    assert "$1.50" in render(priced(1.5))
    assert "&lt;$0.0001" in render_html(priced(0.00001))


def test_a_live_view_is_true_for_ever():
    trace = build_trace(events()[:5])
    for later, drawn in ((0.4, "12:00:05"), (3.6, "12:00:08"), (125, "12:02:10")):
        html = render_live(trace, trace.last_time + later)
        assert "as it stood at " in html
        assert f"{drawn} UTC · last event at 12:00:05 UTC" in html
        assert "`%kasal status job_1` picks the run up" in html
        assert "ago" not in html
        assert "just now" not in html
    assert "as it stood" not in render_html(trace)
    assert "Lost &lt;it&gt;" in render_live(trace, remark="Lost <it>")


def announced(*titles):
    """The first event of a run of these tasks."""
    tasks = [
        {"id": f"task_{place}", "title": title, "agent": "Analyst", "context": []}
        for place, title in enumerate(titles, 1)
    ]
    return events()[0] | {"tasks": tasks}


def test_tasks_that_have_not_begun_stand_in_the_live_view_from_the_start():
    first, *steps = events()
    first = announced("Find the facts", "Write <it>", *(f"More {number}" for number in range(40)))
    waiting = render_live(build_trace([first]))
    assert waiting.count("not begun") == 10
    assert "… 32 more tasks" in waiting
    assert "starting the engine" in waiting
    begun = render_live(build_trace([first, steps[0]]))
    assert "The engine is there" in begun
    html = render_live(build_trace([first, *steps[:3]]))
    assert "Find the facts</span> · Analyst · not begun" not in html
    assert "Write &lt;it&gt;</span> · Analyst · not begun" in html
    assert html.index("Find the facts") < html.index("Write &lt;it&gt;")
    over = steps[-1] | {"status": "stopped"}
    assert "not begun" not in render_live(build_trace([first, *steps[:3], over]))


def ended(status):
    """A run of two tasks that ended when the first was done."""
    steps = events()[1:]
    last = {name: value for name, value in steps[-1].items() if name != "result"} | {"status": status}
    return build_trace([announced("Find the facts", "Write"), *steps[:-1], last])


@pytest.mark.parametrize("status", ["stopped", "failed", "interrupted"])
def test_a_run_that_ended_early_shows_what_there_is_and_says_that_it_is_not_all(status):
    html, text = render_html(ended(status)), render_text(ended(status))
    assert "So far, 1 of 2 tasks done: Find the facts" in html
    assert ">Tea fell 4 %.</div>" in html
    assert text.endswith("So far:\nTea fell 4 %.")
    assert "So far" not in render_html(build_trace(events()))


def test_a_failed_step_is_open_and_so_is_what_is_around_it():
    html = render_html(build_trace(events(extra_calls=60)))
    opened = re.findall(r"<details open><summary[^>]*>.*?</summary>", html)
    assert ["Find the facts" in opened[0], "sql" in opened[1], len(opened)] == [True, True, 2]


def test_of_a_long_run_some_of_every_task_and_all_that_failed_is_drawn():
    steps = events()[:2]
    for number in range(100):
        task = {"task_id": f"task_{number}", "task": f"Task {number}", "agent": "Clerk"}
        parent = 1_000 + number
        steps.append(steps[1] | task | {"type": "task_start", "span_id": parent, "parent_id": None})
        for call in range(50):
            span = task | {"span_id": 10_000 + 100 * number + call, "parent_id": parent, "tool": "sql"}
            steps.append(steps[1] | span | {"type": "tool_call", "arguments": {"number": call}})
            failed = {"type": "tool_failed", "error": {"code": "TOOL_ERROR", "message": "no such table"}}
            closed = failed if (number, call) == (77, 25) else {"type": "tool_result", "result": "ok"}
            steps.append(steps[1] | span | closed)
    html = render_html(build_trace(steps))
    assert all(f">Task {number}</span>" in html for number in range(100))
    assert html.count("no such table") > 1
    assert html.count("number=49 → ok") == 100
    folds = html.count(" more steps</summary>")
    told = sum(int(steps) for steps in re.findall(r"… (\d+) more step", html))
    assert told + html.count("<summary style") - html.count("prompt") - folds == 5_100
    assert all(f"number={call} " in html for call in range(50))


def many(steps):
    """A run of one task with so many tool calls, which tell their number."""
    first, second, task, agent, *_ = events()
    calls = [first, second, task, agent]
    for number in range(steps):
        span = {"span_id": 10 + number, "parent_id": 2, "tool": "sql", "task_id": "task_1", "task": "t"}
        at = {"seq": 2 * number + 5, "job_id": "job_1", "time": clock(9), "agent": "Analyst"}
        calls.append(at | span | {"type": "tool_call", "arguments": {"n": f"<{number}>"}})
        calls.append(at | span | {"type": "tool_result", "result": "ok"})
    return build_trace(calls)


@pytest.mark.parametrize("steps", [1_500, 6_000, 12_000])
def test_in_a_kept_view_every_step_has_a_row_or_a_line(steps):
    html = render_html(many(steps))
    assert len(html.encode()) < 1_750_000
    assert html.count("● ") + html.count("●</span>") == steps
    # With so many, a line has room for the beginning of what was asked.
    told = {int(number) for number in re.findall(r"n=&lt;(\d+)&gt;", html)}
    assert told == set(range(steps)) or steps > 10_000
    assert "steps 1 to 200</summary>" in html


def test_steps_that_are_too_many_for_lines_are_pages_that_say_how_they_are_shown():
    html = render_html(many(60_000))
    assert len(html.encode()) < 1_750_000
    pages = re.findall(r"%kasal traces job_1 --after (\d+) --limit (\d+)", html)
    assert len(pages) <= 401
    rows = {int(number) for number in re.findall(r"n=&lt;(\d+)&gt;", html)}
    paged = set()
    for after, limit in pages:
        first = (int(after) + 1 - 5) // 2
        paged |= set(range(first, first + int(limit)))
    assert rows | paged >= set(range(60_000))


@pytest.mark.parametrize("render", [render_html, render_live, render_text])
def test_hostile_text_is_shown_and_does_nothing(render):
    shown = render(build_trace(events(task=HOSTILE, answer=HOSTILE)))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "alert(1)" in shown
    if render is not render_text:
        assert "<script" not in shown
        assert "<img" not in shown


def test_the_text_view_is_a_tree_with_bars_durations_and_tokens():
    lines = render_text(build_trace(events())).splitlines()
    assert lines[0].startswith("Market research  ✔ completed")
    assert lines[1].startswith("└─ ▣ Find the facts")
    assert lines[2].startswith("   ├─ ◆ gpt-4")
    assert lines[3].startswith("   └─ ✖ sql")
    assert "█" in lines[1]
    assert lines[1].split()[-2:] == ["120", "$0.0012"]
    assert lines[-1] == "Tea fell 4 %."


def test_thousands_of_steps_stay_within_two_megabytes_and_say_what_is_left_out():
    result = RunResult("job_1")
    for event in events(extra_calls=5_000, tool_result='"<\n' * 300):
        result.feed(event)
    output = {"output_type": "display_data", "metadata": {}, "data": result.bundle()}
    cell = {
        "cell_type": "code",
        "id": "1",
        "execution_count": 1,
        "metadata": {},
        "source": "",
        "outputs": [output],
    }
    saved = nbformat.from_dict({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    assert len(nbformat.writes(saved).encode()) <= 2_000_000
    html = result.bundle()["text/html"]
    assert "expression=0 →" in html
    assert "expression=4999 →" in html
    assert html.count("<summary") > 900
    assert "more steps and the whole texts are in the result, .spans()" in html
    assert "/v1/executions/job_1/events" in html


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
    assert render_html(trace, whole=True).count("<summary") == 1_499 - 1  # the task and its agent are one row
    assert 900 < render_html(trace).count("<summary") < 1_499
    assert "1,199 steps not drawn" in render_text(trace)
    assert len(render_live(trace)) < 100_000


def conversation(*texts):
    """A run of one model call that was asked with these messages."""
    steps = events()
    steps[4]["messages"] = [{"role": "user", "content": text} for text in texts]
    return steps


def test_one_step_with_an_endless_conversation_stays_within_two_megabytes():
    html = render_html(build_trace(conversation(*["<" * 20_000] * 500)))
    assert len(html.encode()) <= 2_000_000
    assert html.count("… 20 kB more, not kept in this view") == 500


def test_a_long_text_is_folded_behind_its_size():
    html = render_html(build_trace(conversation("word " * 5_000)))
    assert "… 25 kB more</summary>" in html
    assert "".join(parsed(html).text).count("word") == 5_000


def test_the_size_of_a_long_text_is_estimated_by_its_beginning():
    # At the end of a run, all its texts are looked at, hundreds of megabytes of them.
    assert drawn_bytes("a" * 10_000 + "<" * 990_000) == 1_000_000
    assert drawn_bytes("<" * 1_000) == 5_000


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
    assert [span.cost for span in trace.roots] == [0.0024]
    assert render_text(trace).splitlines()[1].split()[-2:] == ["240", "$0.0024"]


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
    html = render_live(build_trace(running))
    assert len(html) < 60_000
    assert "expression=1999" in html
    assert "expression=3 " not in html
    assert "<details" not in html
    assert "earlier steps" in html


def test_the_end_of_a_growing_answer_is_shown_while_it_grows():
    steps = events()[:5]
    chunk = steps[4] | {"type": "llm_chunk", "text": "Tea prices fell"}
    assert "Tea prices fell" in render_live(build_trace([*steps, chunk]))


@pytest.mark.parametrize(
    ("dirty", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("bell\x07", "bell␇"),
        ("a\u202eb", "a<U+202E>b"),
        ("\ud800", "�"),
        ("a\u200bb", "a<U+200B>b"),
        ("a\U000e0041b", "a<U+E0041>b"),
        ("calc\u200dulator", "calc<U+200D>ulator"),
        ("👩\u200d🔬 क्\u200dष", "👩\u200d🔬 क्\u200dष"),
        ("one\u2028two\u2029three\x85four\x0bfive", "one\ntwo\nthree�four␋five"),
        ("C1\x9b31m", "C1�31m"),
        ("two\r\nlines", "two\nlines"),
    ],
)
def test_controls_are_removed_or_made_visible(dirty, shown):
    assert clean(dirty) == shown


def test_endless_openings_of_escape_sequences_are_cleaned_in_no_time():
    # Each opening that looked for its end through the whole rest would take hours.
    assert clean("\x1b]" * 200_000) == "␛]" * 200_000


@pytest.mark.parametrize("seconds", [0.014, 0.14, 0.19, 1.04, 14.2, 119, 7300])
def test_the_axis_has_each_time_once(seconds):
    texts = [text for _, text in axis_ticks(seconds)]
    assert len(texts) == len(set(texts)) >= 3
    assert texts[0] == "0"
