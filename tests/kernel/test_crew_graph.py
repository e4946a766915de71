"""The crew's card and its task graph, in a real browser and without any style."""

import re

import pytest

from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.kernel.crews.card import CrewCard
from kasal_jupyter.kernel.crews.demo import demo_crew
from kasal_jupyter.kernel.crews.graph import graph_html, graph_text
from kasal_jupyter.kernel.crews.plan import inputs_of, plan_of
from kasal_jupyter.schemas.crews import CrewChecked, CrewFault
from kasal_jupyter.schemas.executions import CrewRemark
from kasal_jupyter.schemas.usage import Estimate
from tests.kernel.test_views import HOSTILE

MANAGED = """
process: hierarchical
manager_llm: gpt-4o
description: What customers say about {product}
agents:
  researcher: {role: Senior Researcher, goal: "Read about {product}", llm: gpt-4o-mini, tools: [fetch]}
  analyst: {role: Analyst, goal: Group}
tasks:
  collect: {description: Collect, expected_output: list, agent: researcher, async_execution: true}
  talk: {description: Ask, expected_output: list, agent: researcher, async_execution: true}
  cluster: {description: Cluster, expected_output: list, agent: analyst, context: [collect, talk]}
  report: {description: "Write, {tone}", expected_output: text, context: [cluster, Analysis of Q3]}
"""


def managed():
    return load_crew(MANAGED, "Voice of the customer")


def without_style(html):
    return re.sub(
        r'(?: style="[^"]*"|<span style="font-size:0">)', lambda m: "<span>" if "<" in m[0] else "", html
    )


def test_a_plan_says_what_each_task_builds_on():
    steps = plan_of(managed()).steps
    assert [step.after for step in steps] == [(), (), (0, 1), (2,)]
    assert [step.texts for step in steps] == [(), (), (), ("Analysis of Q3",)]
    assert [step.agent for step in steps] == ["researcher", "researcher", "analyst", None]


def test_a_task_without_context_is_given_what_came_before():
    steps = plan_of(demo_crew()).steps
    assert [step.given for step in steps] == [(), (0,), (), ()]
    # One that runs beside the others does not wait for them.
    assert [step.given for step in plan_of(managed()).steps] == [(), (), (), ()]


def test_the_inputs_are_the_placeholders_in_reading_order():
    assert inputs_of(managed()) == ["tone", "product"]


def test_the_text_has_a_line_a_task():
    assert graph_text(managed()).splitlines() == [
        "◆ manager  gpt-4o, hands out the tasks",
        "├─ 1 collect  researcher · gpt-4o-mini · fetch  ⇉ the next task does not wait",
        "├─ 2 talk     researcher · gpt-4o-mini · fetch  ⇉ the next task does not wait",
        "├─ 3 cluster  analyst · default model  ← collect, talk",
        "└─ 4 report   the manager chooses · default model  ← cluster",
    ]


def test_the_html_is_made_of_what_sanitisers_keep():
    html = CrewCard(managed())._repr_html_()
    assert set(re.findall(r"<([a-z]+)", html)) <= {"div", "span", "details", "summary", "pre"}
    assert not re.search(r"(flex|grid|transform|url\(|javascript|onclick)", html)


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    yield page
    page.close()


def test_without_any_style_it_reads_as_a_list(page):
    page.set_content(without_style(CrewCard(managed(), "created")._repr_html_()))
    lines = [" ".join(line.split()) for line in page.inner_text("body").splitlines() if line.strip()]
    assert lines[0] == "Voice of the customer · created · hierarchical · 2 agents · 4 tasks"
    assert "1. collect · ⇉ the next task does not wait" in lines
    assert "- analyst · default model · ← collect, talk" in lines
    assert lines[-1] == 'inputs tone, product · run it %kasal run "Voice of the customer" tone=… product=…'


def test_the_lines_meet_the_tasks_they_join(page):
    page.set_content(graph_html(demo_crew()))
    rows = page.locator("details")
    assert rows.count() == 4
    arrows = page.locator('span[style*="border-left:7px"]')
    # research and sizing and risks go into briefing, research into risks.
    assert arrows.count() == 4
    for at in range(arrows.count()):
        arrow = arrows.nth(at).bounding_box()
        row = arrows.nth(at).locator("xpath=..").locator("details").bounding_box()
        assert abs(arrow["x"] + arrow["width"] - row["x"]) <= 1
        assert row["y"] < arrow["y"] < row["y"] + row["height"]
    # A line that passes a row reaches over all of it, so that it goes on where a task is opened.
    rows.nth(1).locator("summary").click()
    passing = page.locator('span[style*="top:0;bottom:0"]').first
    height = passing.locator("xpath=..").bounding_box()["height"]
    assert passing.bounding_box()["height"] == height
    assert page.get_by_text("Work out how large the market").is_visible()


def test_states_are_told_in_words(page):
    page.set_content(graph_html(demo_crew(), states={"research": "completed", "sizing": "running"}))
    assert page.get_by_text("✔ completed").is_visible()
    assert page.get_by_text("▶ running").is_visible()


def test_a_crowd_of_tasks_stays_in_the_page(page):
    names = [f"step{number}" for number in range(40)]
    tasks = "".join(
        f"  {name}: {{description: d, expected_output: e, agent: a, context: [{', '.join(names[:at])}]}}\n"
        for at, name in enumerate(names)
    )
    crew = load_crew(f"agents:\n  a: {{role: r, goal: g}}\ntasks:\n{tasks}", "Crowd")
    html = graph_html(crew)
    assert len(html) < 400_000
    page.set_content(html)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert page.get_by_text("more lines are not drawn").is_visible()


def test_an_unfinished_crew_is_drawn():
    crew = load_crew("agents:\n  a: {role: r, goal: g}\n", "Begun")
    assert "No tasks yet" in graph_html(crew)
    assert "✖ It has no tasks" in repr(CrewCard(crew))


def test_what_a_crew_says_of_itself_is_never_executed(page):
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    hostile = HOSTILE.replace("\n", " ")
    agent = (
        managed()
        .agents[0]
        .model_copy(
            update={"name": hostile, "role": hostile, "goal": HOSTILE, "model": hostile, "tools": [hostile]}
        )
    )
    task = (
        managed()
        .tasks[2]
        .model_copy(update={"name": hostile, "agent": hostile, "description": HOSTILE, "context": [HOSTILE]})
    )
    crew = managed().model_copy(
        update={
            "name": hostile,
            "description": HOSTILE,
            "agents": [agent],
            "tasks": [task],
            "manager_model": hostile,
        }
    )
    page.set_content(CrewCard(crew)._repr_html_() + graph_html(crew, states={hostile: HOSTILE}))
    for summary in page.locator("summary").all():
        summary.evaluate("element => element.parentElement.open = true")
    assert page.locator("script, img, a, iframe").count() == 0
    assert said == []
    assert "\x1b" not in repr(CrewCard(crew))


def test_the_card_names_whose_fault_it_is_and_is_not_ready_where_that_is_doubtful():
    estimate = Estimate(runs=0, tokens=None, cost=None, seconds=None)
    fault = CrewFault(field="agents[1].model", reason="nobody serves it")
    checked = CrewChecked(runnable=False, faults=[fault], estimated_duration=1, estimate=estimate)
    text = repr(CrewCard(managed(), "", checked))
    assert "◷ not ready" in text
    assert "✖ agents.analyst.model: nobody serves it" in text
    assert "agents.analyst.model: nobody serves it" in CrewCard(managed(), "", checked)._repr_html_()
    doubt = CrewRemark(field="agents[0].model", remark="nobody is known to", doubt=True)
    known = CrewRemark(field="agents[0].model", remark="a successor answers")
    for remarks, state in (([doubt, known], "◷ perhaps not ready"), ([known], "✔ ready")):
        whole = checked.model_copy(update={"runnable": True, "faults": [], "remarks": remarks})
        assert state in repr(CrewCard(managed(), "", whole))
    assert "✖ agents.researcher.model: nobody is known to" in repr(
        CrewCard(
            managed(), "", checked.model_copy(update={"runnable": True, "faults": [], "remarks": [doubt]})
        )
    )
