"""What ends an agent that would go on for ever, and what becomes of its work."""

import pytest

from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply

LOOP = Reply(calls=(("calculator", {"expression": "6 * 7"}),))


@pytest.mark.parametrize("most", [1, 3])
def test_max_iter_ends_an_endless_loop_of_tool_calls(engine, tmp_path, most):
    with OpenAIServer(LOOP) as server:
        # The server has nothing but tool calls to say until it is asked without tools.
        server.without_tools = Reply("It is 42, as far as I can tell.")
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="gpt", tools=["calculator"], max_iter=most)],
                [task("count", "counter", "Count")],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed", record.end
    assert record.end["result"].strip() == "It is 42, as far as I can tell."
    assert len(record.of("tool_call")) <= most
    assert len(server.requests) <= most + 1


def test_a_task_that_takes_too_long_fails_and_asks_no_model_any_more(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Sloth", sandbox={"latency": 600}, max_execution_time=1), agent("Writer")],
            [task("sleep", "sloth", "Sleep"), task("write", "writer", "Write")],
        )
    )
    assert record.end["error"] == {
        "code": "TASK_TIMEOUT",
        "message": "It was not done within the 1 second that its agent may take.",
    }
    assert record.of("task_failed")[0]["error"]["code"] == "TASK_TIMEOUT"
    assert record.of("error")[0]["task_id"] == "sleep"
    trace = build_trace(record.events)
    assert all(span.end is not None for span in trace.spans.values())
    assert [span.state for span in trace.spans.values()] == ["failed", "failed", "failed"]
    assert len(record.of("llm_call")) == 1


def test_a_server_that_hangs_is_not_waited_for(engine, tmp_path):
    with OpenAIServer(Reply("Never", hang=True)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Sloth", model="gpt", max_execution_time=1)],
                [task("sleep", "sloth", "Sleep")],
                models=openai_model(server.url),
            )
        )
        assert record.end["error"]["code"] == "TASK_TIMEOUT"
        assert server.gone.wait(120)
    assert len(server.requests) == 1


def test_what_was_left_behind_says_and_does_nothing_more(engine, tmp_path):
    # The coworker's time runs out while its tool is at work; the manager hears of it and goes on for long
    # enough that the tool ends, and the coworker would ask its model again.
    slow = agent("Sloth", tools=["wait"], model="gpt", max_execution_time=1)
    with OpenAIServer(Reply(calls=(("wait", {"seconds": 2}),))) as server:
        record = engine.run(
            crew(
                tmp_path,
                [slow, agent("Clerk", sandbox={"latency": 3})],
                [task("sleep", "sloth", "Sleep"), task("tidy", "clerk", "Tidy up")],
                models=openai_model(server.url),
                process="hierarchical",
            )
        )
    assert record.end["status"] == "completed", record.end
    assert len(server.requests) == 1
    assert [event["agent"] for event in record.of("agent_failed")] == ["Sloth"]
    (failed,) = record.of("agent_failed")
    later = record.events[record.events.index(failed) + 1 :]
    assert not [event for event in later if event.get("agent") == "Sloth"]


def test_a_task_that_is_done_in_time_is_as_without_a_limit(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", tools=["calculator"], max_execution_time=600)],
            [task("count", "counter", "Count")],
        )
    )
    assert record.end["status"] == "completed", record.end
    (done,) = build_trace(record.events).roots
    (worker,) = done.children
    assert [span.kind for span in worker.children] == ["llm", "tool", "llm"]


def test_a_model_that_fails_within_its_time_is_described_as_ever(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", sandbox={"fail_at": 1}, max_execution_time=600)],
            [task("count", "counter", "Count")],
        )
    )
    assert record.end["error"]["code"] == "MODEL_ERROR"
