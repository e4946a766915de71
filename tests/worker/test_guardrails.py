"""Guardrails in words: a task's result is checked by its agent's model, and the task is done again."""

import json

import pytest

from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def verdict(valid, feedback=None):
    return Reply(json.dumps({"valid": valid, "feedback": feedback}))


def guarded(tmp_path, *replies, retries=3, **fields):
    server = OpenAIServer(*replies)
    spec = crew(
        tmp_path,
        [agent("Poet", model="gpt")],
        [
            task(
                "rhyme",
                "poet",
                "Rhyme on {topic}",
                guardrail="It is about {topic} and has no more than ten words.",
                guardrail_max_retries=retries,
                **fields,
            )
        ],
        inputs={"topic": "tea"},
        models=openai_model(server.url),
    )
    return server, spec


def test_a_refused_result_is_done_again_with_the_feedback(engine, tmp_path):
    server, spec = guarded(
        tmp_path,
        Reply("Roses are red, violets are blue, and so on and on."),
        verdict(False, "It is not about tea."),
        Reply("Tea sets me free."),
        verdict(True),
    )
    with server:
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    assert record.end["result"].strip() == "Tea sets me free."
    first, second = record.of("guardrail")
    assert (first["accepted"], first["feedback"], first["attempt"]) == (False, "It is not about tea.", 1)
    assert (second["accepted"], second["feedback"], second["attempt"]) == (True, "", 2)
    question = server.requests[1]["messages"][-1]["content"]
    assert "It is about tea and has no more than ten words." in question
    assert "violets are blue" in question
    assert "It is not about tea." in server.requests[2]["messages"][-1]["content"]


def test_its_calls_are_in_the_trace_in_the_tasks_span_and_are_counted(engine, tmp_path):
    server, spec = guarded(tmp_path, Reply("Tea."), verdict(True))
    with server:
        record = engine.run(spec)
    trace = build_trace(record.events)
    (done,) = trace.roots
    worker, checking = done.children
    assert (worker.kind, checking.kind) == ("agent", "llm")
    assert checking.opened["model"] == "gpt"
    assert checking.agent == "Poet"
    assert [(check.accepted, check.attempt) for check in done.checks] == [(True, 1)]
    assert trace.summary.usage().llm_calls == 2
    assert done.total_tokens == 2 * 25


def test_a_result_that_is_refused_for_good_fails_the_task_with_the_feedback(engine, tmp_path):
    server, spec = guarded(
        tmp_path,
        Reply("One."),
        verdict(False, "Too short."),
        Reply("Two."),
        verdict(False, "Still too short."),
        retries=1,
    )
    with server:
        record = engine.run(spec)
    assert record.end["status"] == "failed"
    assert record.end["error"] == {
        "code": "GUARDRAIL_REFUSED",
        "message": "The guardrail refused each of its 2 results: Still too short.",
    }
    (failed,) = record.of("task_failed")
    assert failed["error"]["code"] == "GUARDRAIL_REFUSED"
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("rhyme", "Poet")
    assert len(server.requests) == 4


def test_without_retries_one_refusal_is_enough(engine, tmp_path):
    server, spec = guarded(tmp_path, Reply("One."), verdict(False), retries=0)
    with server:
        record = engine.run(spec)
    assert record.end["error"]["code"] == "GUARDRAIL_REFUSED"
    assert record.end["error"]["message"].startswith("The guardrail refused its result: ")


def test_a_model_that_fails_is_no_refusal(engine, tmp_path):
    server, spec = guarded(tmp_path, Reply("Tea."), Reply("No such key.", status=401))
    with server:
        record = engine.run(spec)
    assert record.end["error"]["code"] == "MODEL_AUTH"
    assert not record.of("guardrail")


def test_a_verdict_may_come_in_a_fence_and_none_at_all_is_told(engine, tmp_path):
    server, spec = guarded(
        tmp_path,
        Reply("Tea."),
        Reply("Well."),
        Reply('```json\n{"valid": true, "feedback": null}\n```'),
    )
    with server:
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    server, spec = guarded(tmp_path, Reply("Tea."), Reply("It is fine."))
    with server:
        record = engine.run(spec)
    assert record.end["error"]["message"].startswith("The guardrail's model answered with no verdict: gpt: ")


def test_a_structured_result_stays_structured(engine, tmp_path):
    schema = {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]}
    server, spec = guarded(
        tmp_path,
        Reply('{"line": "a"}'),
        verdict(False, "Longer."),
        Reply('{"line": "tea, at sea"}'),
        verdict(True),
        output_schema=schema,
    )
    with server:
        record = engine.run(spec)
    assert record.of("task_complete")[0]["structured"] == {"line": "tea, at sea"}


@pytest.mark.parametrize("tool_calls", ["native", "react"])
def test_the_sandbox_accepts_unless_its_settings_say_otherwise(engine, tmp_path, tool_calls):
    sandbox = {"refusals": 1, "tool_calls": tool_calls}
    record = engine.run(
        crew(
            tmp_path,
            [agent("Poet", sandbox=sandbox, tools=["calculator"])],
            [
                task("a", "poet", "Rhyme", guardrail="It rhymes."),
                task("b", "poet", "Rhyme again", guardrail="It rhymes."),
            ],
        )
    )
    assert record.end["status"] == "completed", record.end
    checks = [(check["task_id"], check["accepted"], check["attempt"]) for check in record.of("guardrail")]
    assert checks == [("a", False, 1), ("a", True, 2), ("b", False, 1), ("b", True, 2)]


def test_in_a_hierarchical_crew_the_one_who_did_the_work_checks_it(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Poet", sandbox={"refusals": 1})],
            [task("a", "poet", "Rhyme", guardrail="It rhymes.")],
            process="hierarchical",
        )
    )
    assert record.end["status"] == "completed", record.end
    assert [check["accepted"] for check in record.of("guardrail")] == [False, True]


def test_a_verdict_that_is_nested_without_end_is_none(engine, tmp_path):
    deep = '{"valid":' * 50_000 + "1" + "}" * 50_000
    server, spec = guarded(tmp_path, Reply("Tea."), Reply(deep), verdict(True))
    with server:
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    assert [check["accepted"] for check in record.of("guardrail")] == [True]
