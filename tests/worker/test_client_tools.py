"""Tools that the run's client answers for: what the run's process asks, and what it makes of the answers."""

import pytest

from kasal_jupyter.executions.backends import local
from kasal_jupyter.schemas.spec import RunMessage, RunToolAnswer
from tests.engine import TIMEOUT, agent, crew, task

LOOKUP = {
    "name": "price_of",
    "description": "Tells the price of something",
    "parameters": {
        "type": "object",
        "properties": {
            "what": {"type": "string", "examples": ["tea"]},
            "days": {"type": "integer", "default": 3},
        },
        "required": ["what"],
    },
    "timeout": 30,
}


def spec(folder, *, tool=None, sandbox=None, agents=None, tasks=None):
    buyer = agent("Buyer", tools=["price_of"], sandbox=sandbox or {})
    return crew(
        folder / "run",
        agents or [buyer],
        tasks or [task("t", "buyer", "Find the price")],
        client_tools=[LOOKUP | (tool or {})],
    )


def requests(record, count=1):
    """Wait for so many requests."""
    with record.seen:
        assert record.seen.wait_for(lambda: len(record.of("tool_request")) >= count, TIMEOUT), record.events
        return record.of("tool_request")


def answer(engine, record, call_id, **said):
    engine.send(record, RunMessage(type="tool_answer", answer=RunToolAnswer(call_id=call_id, **said)))


@pytest.mark.parametrize("style", ["native", "react"])
def test_the_client_is_asked_within_the_tools_span_and_its_answer_reaches_the_agent(engine, tmp_path, style):
    record = engine.launch(spec(tmp_path, sandbox={"tool_calls": style}))
    (request,) = requests(record)
    (call,) = record.of("tool_call")
    assert request["span_id"] == call["span_id"]
    assert (request["tool"], request["task"], request["agent"]) == ("price_of", call["task"], "Buyer")
    assert request["arguments"] == {"what": "tea", "days": 3}
    answer(engine, record, request["call_id"], result="17.50")
    record.exited.result(TIMEOUT)
    assert record.of("tool_result")[0]["result"] == "17.50"
    assert "price_of says: 17.50" in record.end["result"]


@pytest.mark.parametrize("style", ["native", "react"])
def test_an_error_is_the_agents_to_deal_with_and_the_call_is_not_made_again(engine, tmp_path, style):
    record = engine.launch(spec(tmp_path, sandbox={"tool_calls": style}))
    answer(engine, record, requests(record)[0]["call_id"], error="KeyError: 'tea'")
    record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed"
    assert "KeyError: 'tea'" in record.end["result"]
    (failed,) = record.of("tool_failed")
    assert failed["error"] == {"code": "TOOL_ERROR", "message": "KeyError: 'tea'"}
    assert len(record.of("tool_request")) == 1


def test_an_answer_that_does_not_come_is_an_error_and_one_that_comes_late_changes_nothing(engine, tmp_path):
    record = engine.launch(spec(tmp_path, tool={"timeout": 0.2}))
    (request,) = requests(record)
    record.wait_for("tool_failed")
    answer(engine, record, request["call_id"], result="17.50")
    answer(engine, record, "call_of_nobody", result="17.50")
    record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed"
    assert record.of("tool_failed")[0]["error"]["message"] == "price_of did not answer within 0.2 seconds"
    assert "17.50" not in record.end["result"]


def test_a_stop_ends_the_waiting_at_once(engine, tmp_path, monkeypatch):
    # On a machine that does much else, its last words may take longer than it is given.
    monkeypatch.setattr(local, "STOP_GRACE", TIMEOUT)
    record = engine.launch(spec(tmp_path))
    requests(record)
    engine.stop(record)
    # It left by itself, and was not killed.
    assert record.exited.result(TIMEOUT) == 1


def test_a_model_that_fails_for_good_ends_the_waiting_of_the_others(engine, tmp_path):
    agents = [
        agent("Buyer", tools=["price_of"]),
        agent("Broken", sandbox={"fail_at": 1, "latency": 0.5}),
    ]
    tasks = [
        task("a", "buyer", "Find the price", async_execution=True),
        task("b", "broken", "Fail", async_execution=True),
        task("c", "broken", "Sum it up", ("a", "b")),
    ]
    record = engine.launch(spec(tmp_path, tool={"timeout": 3000}, agents=agents, tasks=tasks))
    record.exited.result(TIMEOUT)
    assert record.end["status"] == "failed"


def test_parallel_tasks_have_several_calls_open_and_each_gets_its_own_answer(engine, tmp_path):
    agents = [*(agent(name, tools=["price_of"]) for name in ("Buyer", "Seller")), agent("Idler")]
    tasks = [
        task("a", "buyer", "Find the price", async_execution=True),
        task("b", "seller", "Find the price", async_execution=True),
        task("c", "idler", "Sum it up", ("a", "b")),
    ]
    record = engine.launch(spec(tmp_path, agents=agents, tasks=tasks))
    for request in reversed(requests(record, 2)):
        answer(engine, record, request["call_id"], result=f"for the {request['agent']}")
    record.exited.result(TIMEOUT)
    assert {(each["agent"], each["result"]) for each in record.of("tool_result")} == {
        ("Buyer", "for the Buyer"),
        ("Seller", "for the Seller"),
    }


def test_a_tool_for_all_is_every_agents(engine, tmp_path):
    agents = [agent("Buyer"), agent("Seller", tools=["price_of"])]
    tasks = [task("a", "buyer", "Find the price"), task("b", "seller", "Find the price")]
    record = engine.launch(spec(tmp_path, tool={"for_all": True}, agents=agents, tasks=tasks))
    for count in (1, 2):
        answer(engine, record, requests(record, count)[-1]["call_id"], result="1")
    record.exited.result(TIMEOUT)
    assert [each["agent"] for each in record.of("tool_result")] == ["Buyer", "Seller"]
    assert [each["tools"] for each in record.of("agent_start")] == [["price_of"], ["price_of"]]
