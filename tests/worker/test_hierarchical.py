"""Crews with a manager: CrewAI's own, or one of the crew's agents."""

import pytest

from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def managed(tmp_path, boss, **more):
    return crew(
        tmp_path,
        [boss, agent("Researcher", tools=["calculator"]), agent("Writer")],
        [
            task("research", None, "Research {topic}", output_file="notes/{topic}.md"),
            task("report", "writer", "Report on {topic}", ("research",)),
        ],
        inputs={"topic": "tea"},
        process="hierarchical",
        **more,
    )


@pytest.mark.parametrize("called", ["boss", "Chief", "Boss of {topic}"])
def test_an_agent_of_the_crew_manages_it(engine, tmp_path, called):
    boss = agent("Boss of {topic}", id="boss", name="Chief", goal="Have {topic} done")
    record = engine.run(managed(tmp_path, boss, manager_agent=called))
    assert record.end["status"] == "completed", record.end
    # The manager hands each task out, and does none of the work itself.
    assert [(event["agent"], event["tools"][:1]) for event in record.of("agent_start")] == [
        ("Chief", ["Delegate work to coworker"]),
        ("Researcher", ["calculator"]),
        ("Chief", ["Delegate work to coworker"]),
        ("Writer", []),
    ]
    first = record.of("llm_call")[0]
    assert (first["agent"], first["task_id"]) == ("Chief", "research")
    assert "You are Boss of tea" in first["messages"][0]["content"]
    assert [event["agent"] for event in record.of("task_start")] == ["Chief", "Chief"]
    assert {share.name for share in build_trace(record.events).summary.usage_by().agents} == {
        "Chief",
        "Researcher",
        "Writer",
    }
    assert (tmp_path / "notes" / "tea.md").read_text() == record.of("task_complete")[0]["result"]


def test_a_manager_is_asked_by_its_own_model_and_within_its_own_limits(engine, tmp_path):
    boss = agent("Boss", model="gpt", max_execution_time=1)
    with OpenAIServer(Reply("Never", hang=True)) as server:
        record = engine.run(managed(tmp_path, boss, manager_agent="boss", models=openai_model(server.url)))
    assert record.end["error"]["code"] == "TASK_TIMEOUT"
    assert record.of("error")[0]["agent"] == "Boss"


def test_a_managers_tools_from_the_client_stay_with_those_who_work(engine, tmp_path):
    look = {"name": "look", "description": "Look it up", "parameters": {"type": "object"}, "for_all": True}
    spec = managed(tmp_path, agent("Boss"), manager_agent="boss", client_tools=[look])
    record = engine.launch(spec)
    asked = record.wait_for("tool_request")
    engine.stop(record)
    first, second = record.of("agent_start")
    assert first["agent"] == "Boss"
    assert "look" not in first["tools"]
    assert (second["agent"], asked["agent"]) == ("Researcher", "Researcher")
    assert "look" in second["tools"]
