"""Conditional tasks: done or skipped by what the result before them is like."""

import json

import pytest

from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.schemas.tasks import TaskCondition
from kasal_jupyter.worker.crew.condition import unmet
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def triage(tmp_path, server, **first):
    """A classifier, then a task for each of two cases, then one that gets whatever was done."""
    return crew(
        tmp_path,
        [agent("Clerk", model="gpt"), agent("Helper")],
        [
            task("classify", "clerk", "Classify the message", **first),
            task("urgent", "helper", "Handle it at once", condition={"contains": "URGENT"}),
            task("calm", "helper", "Answer it politely", condition={"lacks": "urgent"}),
            task("close", "helper", "Close the ticket", ("urgent", "calm")),
        ],
        models=openai_model(server.url),
    )


def test_of_two_cases_the_one_that_holds_is_done(engine, tmp_path):
    with OpenAIServer(Reply("This is urgent.")) as server:
        record = engine.run(triage(tmp_path, server))
    assert record.end["status"] == "completed", record.end
    assert [event["task_id"] for event in record.of("task_complete")] == ["classify", "urgent", "close"]
    # Both look at what was done last, which for the second case is the first one's answer.
    (skipped,) = record.of("task_skipped")
    assert skipped["task_id"] == "calm"


def test_a_skipped_task_says_why_counts_as_done_and_gives_nothing_to_others(engine, tmp_path):
    with OpenAIServer(Reply("Just saying hello.")) as server:
        record = engine.run(triage(tmp_path, server))
    (skipped,) = record.of("task_skipped")
    assert (skipped["task_id"], skipped["task"]) == ("urgent", "Handle it at once")
    assert (skipped["agent"], skipped["parent_id"]) == ("Helper", None)
    assert skipped["reason"] == 'Classify the message: the result does not contain "URGENT"'
    calm, close = (event for event in record.of("task_complete") if event["task_id"] != "classify")
    assert record.of("agent_start")[-1]["prompt"].count(calm["result"]) == 1
    assert "----------" not in record.of("agent_start")[-1]["prompt"]
    trace = build_trace(record.events)
    assert trace.summary.tasks_done == 4
    assert trace.summary.task_states["urgent"] == "skipped"
    assert [root.state for root in trace.roots] == ["completed", "skipped", "completed", "completed"]
    assert record.end["result"] == close["result"]


def test_without_a_context_of_its_own_the_next_task_gets_only_what_was_done(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Clerk")],
            [
                task("one", "clerk", "Say one"),
                task("two", "clerk", "Say two", condition={"contains": "no such thing"}),
                task("three", "clerk", "Say three"),
            ],
        )
    )
    first, last = record.of("task_complete")
    prompt = record.of("agent_start")[-1]["prompt"]
    assert first["result"] in prompt
    assert "----------" not in prompt
    assert record.end["result"] == last["result"]


def test_where_the_last_task_is_skipped_the_result_is_that_of_the_last_one_done(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Clerk")],
            [
                task("one", "clerk", "Say one"),
                task("two", "clerk", "Say two", condition={"matches": "^nothing like it$"}),
                task("three", "clerk", "Say three", condition={"equals": "nor like this"}),
            ],
        )
    )
    assert record.end["status"] == "completed", record.end
    (done,) = record.of("task_complete")
    assert record.end["result"] == done["result"]
    assert len(record.of("task_skipped")) == 2


def test_a_field_of_a_structured_result_is_looked_at(engine, tmp_path):
    schema = {
        "type": "object",
        "properties": {
            "report": {
                "type": "object",
                "properties": {
                    "score": {"type": "integer"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["score", "tags"],
            }
        },
        "required": ["report"],
    }
    said = json.dumps({"report": {"score": 3, "tags": ["late", "angry"]}})
    with OpenAIServer(Reply(said)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Clerk", model="gpt"), agent("Helper")],
                [
                    task("rate", "clerk", "Rate it", output_schema=schema),
                    task("a", "helper", "A", condition={"field": "report.score", "equals": 4}),
                    task("b", "helper", "B", condition={"field": "report.tags.1", "contains": "Angry"}),
                ],
                models=openai_model(server.url),
            )
        )
    assert [event["task_id"] for event in record.of("task_complete")] == ["rate", "b"]
    assert record.of("task_skipped")[0]["reason"] == "Rate it: report.score is not 4"


def test_a_task_waits_for_those_that_run_beside_it_before_it_looks(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Clerk"), agent("Helper")],
            [
                task("one", "clerk", "Say one", async_execution=True),
                task("two", "helper", "Say two", condition={"contains": "say one"}),
            ],
        )
    )
    assert [event["task_id"] for event in record.of("task_complete")] == ["one", "two"]


def test_a_hierarchical_crew_skips_too(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Clerk")],
            [task("one", "clerk", "Say one"), task("two", None, "Say two", condition={"equals": "never"})],
            process="hierarchical",
        )
    )
    assert record.end["status"] == "completed", record.end
    assert record.of("task_skipped")[0]["task_id"] == "two"


@pytest.mark.parametrize(
    ("condition", "raw", "structured", "reason"),
    [
        ({"contains": "Straße"}, "in der STRASSE", None, None),
        ({"lacks": "x"}, "X", None, 'the result contains "x"'),
        ({"matches": r"(?i)score:\s*[89]\d"}, "Score: 91", None, None),
        ({"matches": "^91$"}, "Score: 91", None, 'the result does not match "^91$"'),
        ({"equals": "yes"}, " yes\n", None, None),
        ({"equals": 5}, "5.0", None, None),
        ({"equals": True}, "1", None, "the result is not true"),
        ({"equals": [1]}, "none", None, "the result is not [1]"),
        ({"field": "a.b", "equals": {"c": 1}}, "", {"a": {"b": {"c": 1}}}, None),
        ({"field": "a.9", "lacks": "x"}, "", {"a": []}, "the result has no field 'a.9'"),
        ({"field": "a", "contains": "1"}, '{"a": 12}', None, None),
        ({"field": "a", "contains": "1"}, "no JSON", None, "the result has no field 'a'"),
        ({"contains": "a", "lacks": "b"}, "ab", None, 'the result contains "b"'),
    ],
)
def test_what_a_condition_asks(condition, raw, structured, reason):
    assert unmet(TaskCondition.model_validate(condition), raw, structured) == reason


def test_no_expression_takes_longer_than_its_text(engine):
    # Python's own engine would take longer than the universe is old.
    condition = TaskCondition(matches="^(a+)+$")
    assert unmet(condition, "a" * 100_000 + "b") is not None


@pytest.mark.parametrize("field", [None, "a.b"])
def test_a_result_that_is_nested_without_end_meets_no_condition(field):
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    condition = TaskCondition(field=field, equals={"a": 1})
    assert unmet(condition, deep) == "the result is nested too deeply"
