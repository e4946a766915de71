"""What else an agent, a task and a crew can be, as Python objects and on a crew's card."""

import pytest

from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.kernel.crews.card import CrewCard
from kasal_jupyter.kernel.crews.crew import Agent, Crew, Task
from kasal_jupyter.kernel.crews.graph import graph_html, graph_text
from kasal_jupyter.kernel.crews.plan import inputs_of
from kasal_jupyter.kernel.failure import CellError


def desk():
    chief = Agent("Chief", "Have it done", llm="gpt-4o", fallbacks=["sandbox"], max_execution_time=60)
    clerk = Agent("Clerk", "Do it", llm="sandbox")
    triage = Task("Classify {message}", "One word", clerk, name="triage", guardrail="It is {length}.")
    handle = Task(
        "Handle it",
        "A note",
        clerk,
        name="handle",
        guardrail_max_retries=0,
        output_file="notes/{topic}.md",
        condition={"contains": "urgent"},
    )
    return Crew(
        "Desk",
        tasks=[triage, handle],
        process="hierarchical",
        manager_agent=chief,
        planning=True,
        planning_llm="gpt-4o-mini",
        memory=True,
        webhook="https://example.com/hook",
    )


def test_a_crew_of_objects_is_the_crew_of_the_yaml():
    crew = desk()
    assert [agent.role for agent in crew.agents] == ["Clerk", "Chief"]
    body = crew.definition()
    assert (body.manager_agent, body.planning, body.planning_model) == ("Chief", True, "gpt-4o-mini")
    assert body.webhook.events == ["task_complete", "task_failed", "execution_status"]
    again = Crew.from_yaml(crew.to_yaml())
    assert again == crew
    assert again.manager_agent is again.agents[1]
    assert again.tasks[1].condition.contains == "urgent"
    assert (again.agents[1].fallbacks, again.agents[1].max_execution_time) == (["sandbox"], 60)


def test_a_field_that_is_wrong_is_named_where_it_is_written():
    with pytest.raises(CellError, match=r"task 'a': condition: .*Give at least one of"):
        Task("D", "E", name="a", condition={"field": "x"})
    with pytest.raises(CellError, match=r"task 'a': output_file: "):
        Task("D", "E", name="a", output_file="../a")
    with pytest.raises(CellError, match=r"fallbacks='gpt-4': write a list, \['gpt-4'\]"):
        Agent("R", "G", fallbacks="gpt-4")
    with pytest.raises(CellError, match="planning_llm='a' and planning_model='b' are two names of one"):
        Crew("C", planning_llm="a", planning_model="b")
    with pytest.raises(CellError, match=r"crew 'C': webhook\.url"):
        Crew("C", webhook="ftp://example.com").definition()


def test_its_inputs_are_those_of_guardrails_and_files_as_well():
    assert inputs_of(desk().definition()) == ["message", "length", "topic"]


def test_the_text_marks_what_is_special_about_a_task():
    assert graph_text(desk().definition()).splitlines() == [
        "◆ planner  gpt-4o-mini, plans before the tasks",
        "◆ manager  Chief · gpt-4o, hands out the tasks",
        "├─ 1 triage  Clerk · sandbox  ⛨ guardrail",
        '└─ 2 handle  Clerk · sandbox  ← triage  ◇ only if the result contains "urgent"  → notes/{topic}.md',
    ]


def test_the_card_tells_it_and_escapes_it():
    card = repr(CrewCard(desk().definition()))
    assert "remembers · reports to https://example.com/hook" in card
    hostile = load_crew(
        "agents: {a: {role: R, goal: G}}\n"
        "tasks:\n"
        "  t: {description: D, expected_output: E, agent: a}\n"
        "  u: {description: D, expected_output: E, agent: a, guardrail: <script>g</script>,"
        " output_file: <script>f, condition: {field: <script>c, equals: [<b>]}}\n",
        "C",
    )
    html = graph_html(hostile)
    assert "<script" not in html
    assert "only if &lt;script&gt;c equals [&quot;&lt;b&gt;&quot;]" in html
    assert "⛨ guardrail" in html
