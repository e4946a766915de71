"""What a crew plans, skips and refuses, as the notebook's and the terminal's views say it."""

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.views.rows import Section, build_rows, sections
from kasal_jupyter.kernel.views.view_html import render_html, render_live
from kasal_jupyter.kernel.views.view_text import LineView, render_text
from tests.kernel.test_views import HOSTILE, clock

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def call(number, parent, **about):
    where = {"span_id": number, "parent_id": parent, "model": "gpt-4", **about}
    said = {"text": "Yes", "tool_calls": [], "usage": USAGE, "cost": 0.0, "finish_reason": "stop"}
    return [
        {"type": "llm_call", "messages": [], "tools": [], **where},
        {"type": "llm_response", **said, **where},
    ]


def events(
    feedback="It is too long.", reason='Triage: the result does not contain "urgent"', plan="1. Read."
):
    planner = {"task_id": None, "task": None, "agent": "Planner"}
    one = {"task_id": "t1", "task": "Triage", "agent": "Clerk"}
    two = {"task_id": "t2", "task": "Handle it", "agent": None}
    work = [
        {"type": "agent_start", "span_id": 4, "parent_id": 3, "prompt": "Triage", "tools": [], **one},
        *call(5, 4, **one),
        {"type": "agent_complete", "span_id": 4, "parent_id": 3, "result": "Yes", **one},
        *call(6, 3, **one),
    ]
    checked = {"type": "guardrail", "span_id": 3, "parent_id": None, **one}
    steps = [
        {
            "type": "execution_status",
            "status": "queued",
            "crew_name": "Desk",
            "tasks": [
                {"id": "t1", "title": "Triage", "agent": "Clerk", "context": []},
                {"id": "t2", "title": "Handle it", "agent": "Clerk", "context": ["t1"]},
            ],
            "inputs": {},
        },
        {"type": "execution_status", "status": "running"},
        {"type": "agent_start", "span_id": 1, "parent_id": None, "prompt": "Plan", "tools": [], **planner},
        *call(2, 1, **planner),
        {"type": "agent_complete", "span_id": 1, "parent_id": None, "result": "{}", **planner},
        {"type": "plan", "steps": [{"task_id": "t1", "plan": plan}, {"task_id": "t2", "plan": "1. Act."}]},
        {"type": "task_start", "span_id": 3, "parent_id": None, **one},
        *work,
        {**checked, "accepted": False, "feedback": feedback, "attempt": 1},
        {**checked, "accepted": True, "feedback": "", "attempt": 2},
        {"type": "task_complete", "span_id": 3, "parent_id": None, "result": "Yes", **one},
        {"type": "task_skipped", "span_id": 7, "parent_id": None, "reason": reason, **two},
        {"type": "execution_status", "status": "completed", "result": "Yes"},
    ]
    return [{"seq": seq, "job_id": "job_1", "time": clock(seq), **step} for seq, step in enumerate(steps, 1)]


def test_the_rows_say_what_was_planned_refused_and_skipped():
    planner, triage, handled = build_rows(build_trace(events()))
    assert (planner.mark, planner.title, planner.note) == ("◉", "Planner", "planned 2 tasks")
    assert triage.note == "Clerk · guardrail: refused once, accepted"
    assert [row.note for row in triage.children if row.span.kind == "llm"] == [
        "checks the result · call 1 · 100 in · 20 out"
    ]
    assert handled.mark == "⊘"
    assert handled.note == 'context: Triage · skipped: Triage: the result does not contain "urgent"'


def test_a_task_opens_to_its_plan_and_to_what_its_guardrail_said():
    _, triage, handled = build_rows(build_trace(events()))
    told = {section.label: section for section in sections(triage)}
    assert told["plan"].text == "1. Read."
    refused = told["guardrail, attempt 1: refuses it"]
    assert (refused.text, refused.bad) == ("It is too long.", True)
    assert "guardrail, attempt 2: accepts it" in told
    assert {section.label: section.text for section in sections(handled)} == {
        "plan": "1. Act.",
        "skipped": 'Triage: the result does not contain "urgent"',
    }


def test_all_views_tell_it_and_run_nothing_of_it():
    trace = build_trace(events(HOSTILE, HOSTILE, HOSTILE))
    for drawn in (render_html(trace), render_live(trace), render_text(trace)):
        assert "skipped" in drawn
        assert "guardrail: refused once, accepted" in drawn
        assert "\x1b" not in drawn
    assert "<script" not in render_html(trace) + render_live(trace)


def test_the_terminals_lines():
    view = LineView(120)
    lines = [line for event in events() for line in view.feed(event)]
    assert [line for line in lines if "s · " not in line] == [
        "Desk  job_1",
        "├─ ◉ Planner",
        "│  └─ ✔ planned 2 tasks",
        "├─ ▣ Triage Clerk",
        "│  ├─ guardrail ✖ refused: It is too long.",
        "│  ├─ guardrail ✔ accepted",
        '├─ ⊘ Handle it skipped: Triage: the result does not contain "urgent"',
    ]
    assert sum("gpt-4" in line for line in lines) == 3


def test_the_lines_of_a_delegated_agent_stand_below_its_tool():
    boss = {"task_id": "t1", "task": "Triage", "agent": "Manager"}
    clerk = {**boss, "agent": "Clerk"}
    tool = {"span_id": 3, "parent_id": 2, "tool": "delegate_work_to_coworker", **boss}
    steps = [
        {"type": "task_start", "span_id": 1, "parent_id": None, **boss},
        {"type": "agent_start", "span_id": 2, "parent_id": 1, "prompt": "", "tools": [], **boss},
        {"type": "tool_call", "arguments": {"coworker": "Clerk"}, **tool},
        {"type": "agent_start", "span_id": 4, "parent_id": 3, "prompt": "", "tools": [], **clerk},
        *call(5, 4, **clerk),
        {"type": "agent_complete", "span_id": 4, "parent_id": 3, "result": "Yes", **clerk},
        {"type": "tool_result", "result": "Yes, it is.", **tool},
    ]
    view = LineView()
    lines = [
        line
        for number, step in enumerate(steps, 1)
        for line in view.feed({"seq": number, "job_id": "job_1", "time": clock(number), **step})
    ]
    assert [line.split(" · ")[0] for line in lines] == [
        "├─ ▣ Triage Manager",
        "│  ├─ ● delegate_work_to_coworker coworker=Clerk",
        "│  │  ├─ ◉ Clerk",
        "│  │  │  ├─ ◆ gpt-4 1.0 s",
        "│  │  └─ ✔ 5.0 s → Yes, it is.",
    ]


def test_an_answer_that_is_not_whole_says_so_beside_it_and_below_the_result():
    remark = "The answer is cut off: it reached max_tokens (77)."
    told = events()
    (answered,) = [event for event in told if (event["type"], event.get("span_id")) == ("llm_response", 5)]
    (done,) = [event for event in told if event["type"] == "task_complete"]
    answered |= {"remark": remark, "reasoning": f"Let me see. {HOSTILE}"}
    done |= {"remark": remark}
    trace = build_trace(told)
    assert trace.summary.told_remarks() == [f"Triage: {remark}"]
    text, page = render_text(trace), render_html(trace)
    assert f"Remark: Triage: {remark}" in text
    assert page.count(remark) >= 3
    (call,) = [row for top in build_rows(trace) for row in top.walk() if row.span.id == 5]
    assert remark in call.note
    assert Section("remark", remark, bad=True) in sections(call)
    assert [section.text for section in sections(call) if section.label == "reasoning"] == [
        f"Let me see. {HOSTILE}"
    ]
    assert HOSTILE not in page
