"""Tasks that nobody waits for, and agents that hand work to others."""

from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def test_two_tasks_at_once_on_one_agent(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Twin", sandbox={"latency": 0.3}), agent("Writer")],
            [
                task("one", "twin", "Say one", async_execution=True),
                task("two", "twin", "Say two", async_execution=True),
                task("join", "writer", "Join", ("one", "two")),
            ],
        )
    )
    assert record.end["status"] == "completed", record.end
    one, two, join = build_trace(record.events).roots
    # Each began before the other had ended; the third waited for both.
    assert max(one.start, two.start) < min(one.end, two.end)
    assert join.start >= max(one.end, two.end)
    for span in (one, two):
        (worker,) = span.children
        assert [inner.kind for inner in worker.children] == ["llm"]
    prompt = record.of("agent_start")[-1]["prompt"]
    assert all(done["result"] in prompt for done in record.of("task_complete")[:2])


def test_a_failing_task_that_nobody_waits_for_fails_the_run_under_its_own_name(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Broken", sandbox={"fail_at": 1}), agent("Writer")],
            [
                task("one", "broken", "Fail", async_execution=True),
                task("two", "writer", "Write"),
            ],
        )
    )
    assert record.end["error"]["code"] == "MODEL_ERROR"
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("one", "Broken")
    assert all(span.end is not None for span in build_trace(record.events).spans.values())


def test_an_agent_delegates_a_part_of_its_task(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Lead", allow_delegation=True), agent("Researcher", tools=["calculator"])],
            [task("do", "lead", "Research tea")],
        )
    )
    assert record.end["status"] == "completed", record.end
    (done,) = build_trace(record.events).roots
    (lead,) = done.children
    asked, delegated, answered = lead.children
    assert (asked.kind, delegated.name, answered.kind) == ("llm", "delegate_work_to_coworker", "llm")
    (helper,) = delegated.children
    assert (helper.kind, helper.name) == ("agent", "Researcher")
    assert [span.kind for span in helper.children] == ["llm", "tool", "llm"]


def test_an_agent_asks_a_coworker_a_question(engine, tmp_path):
    question = {"question": "Which tea?", "context": "We buy tea.", "coworker": "Researcher"}
    replies = (Reply(calls=(("ask_question_to_coworker", question),)), Reply("Green tea it is."))
    with OpenAIServer(*replies) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Lead", model="gpt", allow_delegation=True), agent("Researcher")],
                [task("do", "lead", "Choose a tea")],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed", record.end
    _, helper = record.of("agent_start")
    assert helper["agent"] == "Researcher"
    assert "Which tea?" in helper["prompt"]
    (told,) = (message for message in server.requests[1]["messages"] if message["role"] == "tool")
    assert told["content"] == record.of("tool_result")[0]["result"]
