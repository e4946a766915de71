"""Crews that plan before their tasks, by CrewAI's own planner."""

import json

from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply

PLAN = {
    "list_of_plans_per_task": [
        {"task_number": 1, "task": "Find facts", "plan": "1. Look at {mess}.\n2. List."},
        {"task_number": 1, "task": "Find facts", "plan": "A second plan for the same task."},
        {"task_number": 7, "task": "None of the crew's", "plan": "Dance."},
    ]
}


def tasks():
    return [
        task("facts", "researcher", "Find facts about {topic}"),
        task("write", "writer", "Write", ("facts",)),
    ]


def test_each_task_is_given_its_part_of_the_plan_offline(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Researcher", tools=["calculator"]), agent("Writer")],
            tasks(),
            inputs={"topic": "tea"},
            planning=True,
        )
    )
    assert record.end["status"] == "completed", record.end
    (plan,) = record.of("plan")
    assert [step["task_id"] for step in plan["steps"]] == ["facts", "write"]
    asked, *others = record.of("llm_call")
    assert "Task Number 1 - Find facts about tea" in asked["messages"][-1]["content"]
    assert "Tools: calculator" in asked["messages"][-1]["content"]
    for step in plan["steps"]:
        prompts = [call["messages"][-1]["content"] for call in others if call["task_id"] == step["task_id"]]
        assert step["plan"] in prompts[0]


def test_the_planners_call_is_in_the_trace_and_is_no_task(engine, tmp_path):
    record = engine.run(crew(tmp_path, [agent("Researcher"), agent("Writer")], tasks(), planning=True))
    trace = build_trace(record.events)
    planner, *done = trace.roots
    assert (planner.kind, planner.name, planner.task) == ("agent", "Planner", None)
    (call,) = planner.children
    assert (call.kind, call.name, call.state) == ("llm", "sandbox", "completed")
    assert planner.total_tokens > 0
    assert [root.kind for root in done] == ["task", "task"]
    assert trace.summary.tasks_done == 2
    assert len(record.of("task_start")) == 2
    usage = trace.summary.usage_by()
    assert [share.name for share in usage.agents] == ["Planner", "Researcher", "Writer"]
    assert sum(share.llm_calls for share in usage.agents) == trace.summary.usage().llm_calls == 3


def test_another_model_plans_and_what_it_says_of_no_task_is_left_out(engine, tmp_path):
    with OpenAIServer(Reply(json.dumps(PLAN))) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Researcher"), agent("Writer")],
                tasks(),
                inputs={"topic": "tea"},
                models=openai_model(server.url),
                planning=True,
                planning_model="gpt",
            )
        )
        assert record.end["status"] == "completed", record.end
        (asked,) = server.requests
    assert asked["model"] == "gpt-4o-mini"
    (plan,) = record.of("plan")
    assert plan["steps"] == [{"task_id": "facts", "plan": "1. Look at {mess}.\n2. List."}]
    first = record.of("agent_start")[1]
    assert first["prompt"].count("1. Look at {mess}.") == 1
    assert "second plan" not in first["prompt"]


def test_an_answer_that_is_no_plan_ends_the_run_before_its_first_task(engine, tmp_path):
    with OpenAIServer(Reply("I would rather not.")) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Researcher")],
                [task("facts", "researcher", "Find facts")],
                models=openai_model(server.url),
                planning=True,
                planning_model="gpt",
            )
        )
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "PLANNING_FAILED"
    assert not record.of("task_start")
    assert all(span.end is not None for span in build_trace(record.events).spans.values())


def test_a_planner_whose_model_fails_says_why(engine, tmp_path):
    with OpenAIServer(Reply("No such key.", status=401)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Researcher")],
                [task("facts", "researcher", "Find facts")],
                models=openai_model(server.url),
                planning=True,
                planning_model="gpt",
            )
        )
    assert record.end["error"]["code"] == "MODEL_AUTH"
    assert record.of("llm_failed")[0]["agent"] == "Planner"


def test_a_crew_that_is_managed_plans_too(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Researcher"), agent("Writer")],
            [task("facts", None, "Research tea")],
            process="hierarchical",
            planning=True,
        )
    )
    assert record.end["status"] == "completed", record.end
    assert record.of("plan")[0]["steps"][0]["task_id"] == "facts"
