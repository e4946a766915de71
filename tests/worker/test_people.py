"""People in the loop, with real CrewAI: reviews of results, and leave for calls of tools."""

import os
import time

import orjson
import pytest

from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.spec import RunMessage, RunOwnRecord, RunToolAnswer
from tests.engine import TIMEOUT, agent, crew, openai_model, task
from tests.replaying import following, journal, live_calls, told
from tests.servers.openai_server import OpenAIServer, Reply

KEPT = ("span_id", "parent_id", "task_id", "task", "agent", "key", "call_id", "time")
"""What an answer's event has of its question's."""


def decide(engine, record, nth, **said):
    """Answer the nth question of a run as the server does: the journal has it, and the process is told."""
    with record.seen:
        assert record.seen.wait_for(lambda: len(record.of("input_request")) >= nth, TIMEOUT), record.events
        asked = record.of("input_request")[nth - 1]
        about = {name: asked[name] for name in KEPT}
        record.take([orjson.dumps({**about, "type": "input_answer", **said, "by": "ada"})])
    engine.send(
        record, RunMessage(type="tool_answer", answer=RunToolAnswer(call_id=asked["call_id"], **said))
    )
    return asked


def calling(tmp_path, url, rules, style="native", tool="calculator"):
    return crew(
        tmp_path / "job_1",
        [agent("Counter", model="gpt", tools=[tool], needs_approval=rules)],
        [task("a", "counter", "Add")],
        models=openai_model(url),
    )


def test_a_result_is_reviewed_until_it_will_do_and_a_replay_asks_nobody(engine, tmp_path):
    with OpenAIServer(Reply("Too long."), Reply("Short."), Reply("Done.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Writer", model="gpt")],
            [task("a", "writer", "Write", human_input=True), task("b", "writer", "Publish")],
            models=openai_model(server.url),
        )
        record = engine.launch(spec)
        first = decide(engine, record, 1, result="Make it shorter")
        second = decide(engine, record, 2, result="approve")
        record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed", record.end
    assert [first["kind"], first["output"].strip(), second["output"].strip()] == [
        "review",
        "Too long.",
        "Short.",
    ]
    assert first["choices"] == ["approve", "reject"]
    # It belongs to the agent's work, and the model is told what it had said and what is to be different.
    assert first["span_id"] == record.of("agent_start")[0]["span_id"]
    said = str(server.requests[1]["messages"])
    assert "Too long." in said
    assert "Make it shorter" in said
    assert record.of("task_complete")[0]["result"].strip() == "Short."
    again = engine.run(following(spec, journal(record, spec)))
    assert (told(again.events), live_calls(again)) == (told(record.events), [])
    assert [(event["result"], event["recorded"]) for event in again.of("input_answer")] == [
        ("Make it shorter", True),
        ("approve", True),
    ]


def test_a_rejected_result_ends_the_run_and_an_unanswered_review_is_a_miss(engine, tmp_path):
    spec = crew(tmp_path / "job_1", [agent("Writer")], [task("a", "writer", "Write", human_input=True)])
    record = engine.launch(spec)
    record.wait_for("input_request")
    unanswered = journal(record, spec)
    second = engine.run(following(spec, unanswered))
    assert (second.end["status"], second.end["error"]["code"]) == ("failed", "REPLAY_MISS")
    assert "asks a person" in second.end["error"]["message"]
    decide(engine, record, 1, result="reject")
    record.exited.result(TIMEOUT)
    assert (record.end["status"], record.end["error"]["code"]) == ("failed", "REJECTED")


SUM = Reply(calls=(("calculator", {"expression": "2 + 3"}),))


@pytest.mark.parametrize(
    ("said", "told_agent", "made"),
    [
        ({"result": "approve"}, "5", {"expression": "2 + 3"}),
        ({"result": "approve", "arguments": {"expression": "2 + 4"}}, "6", {"expression": "2 + 4"}),
        ({"result": "approve", "arguments": {"expr": 1}}, "do not fit", {"expr": 1}),
        ({"result": "Not on Sundays"}, "nobody has allowed it: Not on Sundays", None),
        ({"error": "Nobody is here to answer"}, "nobody has allowed it: Nobody is here", None),
    ],
)
def test_a_call_is_made_with_a_persons_leave_alone(engine, tmp_path, said, told_agent, made):
    with OpenAIServer(SUM, Reply("Done.")) as server:
        spec = calling(tmp_path, server.url, ["calc*(expression=*+*)"])
        record = engine.launch(spec)
        asked = decide(engine, record, 1, **said)
        record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed", record.end
    assert (asked["kind"], asked["tool"], asked["arguments"]) == (
        "approval",
        "calculator",
        {"expression": "2 + 3"},
    )
    assert asked["crew_version"] == 1
    assert asked["span_id"] == record.of("tool_call")[0]["span_id"]
    assert told_agent in str(server.requests[1]["messages"][-1]["content"])
    assert [event["arguments"] for event in record.of("tool_approved")] == ([made] if made else [])
    again = engine.run(following(spec, journal(record, spec)))
    assert (told(again.events), live_calls(again)) == (told(record.events), [])
    # What a tool has given is known, so nobody is asked for leave.
    assert again.of("input_request") == []


@pytest.mark.parametrize("style", ["native", "react"])
def test_rules_of_the_crew_are_everybodys_and_other_calls_need_no_leave(engine, tmp_path, style):
    def spec(rule):
        worker = agent("Worker", tools=["calculator"], sandbox={"tool_calls": style})
        tasks = [task("t", "worker", "Do it")]
        return crew(tmp_path / "run", [worker], tasks, needs_approval=[rule], inputs={"expression": "1+1"})

    record = engine.launch(spec("calculator"))
    decide(engine, record, 1, result="approve")
    record.exited.result(TIMEOUT)
    assert "calculator says: 2" in record.end["result"]
    assert engine.run(spec("calculator(expression=2*)")).of("input_request") == []


def test_a_call_that_waited_for_leave_was_not_made_and_one_that_had_it_may_have_been(engine, tmp_path):
    with OpenAIServer(SUM, Reply("Done."), SUM) as server:
        spec = calling(tmp_path, server.url, ["calculator"])
        record = engine.launch(spec)
        record.wait_for("input_request")
        engine.stop(record)
        # Resumed, it is not asked whether to call it again, but for leave.
        second = engine.launch(following(spec, journal(record, spec), "resume"))
        asked = decide(engine, second, 1, result="approve")
        second.exited.result(TIMEOUT)
    assert asked["kind"] == "approval"
    assert second.of("tool_result")[0]["result"] == "5"


def test_an_answer_that_was_given_before_the_run_was_cut_off_counts(engine, tmp_path):
    with OpenAIServer(Reply("Draft."), Reply("Done.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Writer", model="gpt")],
            [task("a", "writer", "Write", human_input=True), task("b", "writer", "Publish")],
            models=openai_model(server.url),
        )
        record = engine.launch(spec)
        record.wait_for("input_request")
        engine.stop(record)
        cut = len(record.of("input_request"))
        asked = record.of("input_request")[0]
        said = {"type": "input_answer", "result": "approve", "by": "ada"}
        record.take([orjson.dumps({**{name: asked[name] for name in KEPT}, **said})])
        second = engine.run(following(spec, journal(record, spec), "resume"))
    assert cut == 1
    assert second.end["status"] == "completed", second.end
    assert len(server.requests) == 2


def test_the_seconds_of_a_budget_stand_still_while_people_are_waited_for(engine, tmp_path):
    spec = crew(tmp_path / "job_1", [agent("Writer")], [task("a", "writer", "Write", human_input=True)])
    # Without standing still it would be over as soon as it is answered.
    spent = RunOwnRecord(journal=os.devnull, until=0, seconds=-1.0)
    seconds = 1.0
    spec = spec.model_copy(update={"budget": Budget(max_seconds=seconds), "own": spent})
    record = engine.launch(spec)
    asked = record.wait_for("input_request")
    begun = time.monotonic()
    while time.monotonic() - begun < 2.5 * seconds:
        with record.seen:
            record.seen.wait_for(lambda: len(record.of("execution_status")) > 1, 0.1)
        assert len(record.of("execution_status")) == 1, record.end
    given = RunToolAnswer(call_id=asked["call_id"], result="approve")
    engine.send(record, RunMessage(type="tool_answer", answer=given))
    record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed", record.end
