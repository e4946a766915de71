"""Answers as models really give them: thoughts, objects in prose, tools refused, text that is no UTF-8."""

import json

import httpx
import pytest
from openai import APIStatusError

from kasal_jupyter.worker.models.provider_errors import failure_of
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.picky_server import without_schemas, without_tools
from tests.servers.shapes import Shape, counted, piece
from tests.worker.test_run import check_spans

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["title", "score"],
}
OBJECT = {"title": "Tea", "score": 5}
WRITTEN = json.dumps(OBJECT)
IN_PROSE = f"<think>A title {{and}} a score.</think>Here {{as asked}} it is:\n```json\n{WRITTEN}\n```\nEnjoy!"
THOUGHT = "<think>Let me see: tea is hot. Observation: it is.</think>\n\nTea is hot."
CALL = Reply(calls=(("calculator", {"expression": "2 + 3"}),))


def run(engine, tmp_path, server, *tasks, agents=None, **more):
    """Run a crew of one agent, whom a model of a server answers for."""
    with server:
        record = engine.run(
            crew(
                tmp_path,
                agents or [agent("Judge", model="gpt", **more.pop("fields", {}))],
                [*tasks] or [task("t", "judge", "Say something about tea")],
                models=openai_model(server.url),
                **more,
            )
        )
    if not more.get("planning"):
        check_spans(record)
    return record


def said(request):
    """Give all that a request says."""
    return json.dumps(request["messages"], ensure_ascii=False)


# -- thoughts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", [THOUGHT, THOUGHT.removeprefix("<think>")])
def test_thoughts_are_in_the_trace_and_in_nothing_that_follows(engine, tmp_path, stream, text):
    server = OpenAIServer(Reply(text), Reply("Drink it."))
    record = run(
        engine,
        tmp_path,
        server,
        task("first", "judge", "Say something about tea"),
        task("second", "judge", "Advise", ("first",)),
        fields={"settings": {"stream": stream}},
    )
    assert record.end["status"] == "completed", record.end
    first, second = record.of("task_complete")
    assert (first["result"].strip(), second["result"].strip()) == ("Tea is hot.", "Drink it.")
    answer = record.of("llm_response")[0]
    assert answer["text"].strip() == "Tea is hot."
    assert answer["reasoning"].split() == [
        "Let",
        "me",
        "see:",
        "tea",
        "is",
        "hot.",
        "Observation:",
        "it",
        "is.",
    ]
    assert "reasoning" not in record.of("llm_response")[1]
    assert "Tea is hot." in said(server.requests[1])
    assert "Let me see" not in said(server.requests[1])


def test_what_streams_is_no_thought_however_it_is_cut(engine, tmp_path):
    pieces = ["<th", "ink>Let me", " see.</thi", "nk>\n\nTea ", "is hot."]
    bare = ["Let me see.", "</think>\n", "Tea is hot."]
    shapes = [
        Shape(None, [*(piece(content=each) for each in answer), piece("stop"), counted()])
        for answer in (pieces, bare, bare)
    ]
    server = OpenAIServer(*(Reply(shape=shape) for shape in shapes))
    tasks = [task(f"t{at}", "judge", "Say something about tea") for at in range(3)]
    record = run(engine, tmp_path, server, *tasks)
    streamed = [
        "".join(each["text"] for each in record.of("llm_chunk") if each["task_id"] == f"t{at}")
        for at in range(3)
    ]
    # That a model's answers begin within a thought is known once one of them has shown it.
    assert streamed == ["Tea is hot.", "Let me see.Tea is hot.", "Tea is hot."]
    assert {each["text"] for each in record.of("llm_response")} == {"Tea is hot."}


def test_thoughts_before_calls_and_verdicts_are_left_out_too(engine, tmp_path):
    server = OpenAIServer(
        Reply("<think>Short.</think>Tea."),
        Reply('Is it {short}? </think>\n{"valid": false, "feedback": "<longer>"}'),
        Reply("<think>Longer then.</think>Tea is hot."),
        Reply('<think>{"valid": false}</think>```json\n{"valid": true}\n```'),
    )
    record = run(engine, tmp_path, server, task("t", "judge", "Tea", guardrail="It is a sentence."))
    assert record.end["result"].strip() == "Tea is hot."
    assert [each["accepted"] for each in record.of("guardrail")] == [False, True]
    assert "Short." not in said(server.requests[1])
    assert "Longer then." not in said(server.requests[3])


# -- objects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tools", [[], ["calculator"]])
def test_an_object_is_taken_out_of_an_answer_without_asking_again(engine, tmp_path, stream, tools):
    server = OpenAIServer(Reply(IN_PROSE))
    fields = {"settings": {"stream": stream}, "tools": tools}
    record = run(
        engine, tmp_path, server, task("t", "judge", "Rate tea", output_schema=SCHEMA), fields=fields
    )
    assert record.of("task_complete")[0]["structured"] == OBJECT
    assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_without_json_schemas_is_asked_in_words_from_then_on(engine, tmp_path, stream):
    server = without_schemas(Reply(IN_PROSE))
    agents = [agent(role, model="gpt", settings={"stream": stream}) for role in ("Judge", "Other")]
    tasks = [task(f"by_{each['id']}", each["id"], "Rate tea", output_schema=SCHEMA) for each in agents]
    record = run(engine, tmp_path, server, *tasks, agents=agents)
    assert record.end["status"] == "completed", record.end
    assert [done["structured"] for done in record.of("task_complete")] == [OBJECT, OBJECT]
    # It is refused once in a run, whoever asks.
    assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert '\\"score\\"' in said(server.requests[1])
    (retry,) = record.of("llm_retry")
    assert "response_format" in retry["error"]["message"]


def test_what_is_no_such_object_is_asked_for_once_more_and_then_of_the_fallback(engine, tmp_path):
    with (
        OpenAIServer(Reply("Well."), Reply('{"title": "Tea"}')) as first,
        OpenAIServer(Reply(WRITTEN)) as second,
    ):
        models = openai_model(first.url)
        models["other"] = models["gpt"] | {"name": "other", "base_url": second.url}
        record = engine.run(
            crew(
                tmp_path,
                [agent("Judge", model="gpt", fallbacks=["other"])],
                [task("t", "judge", "Rate tea", output_schema=SCHEMA)],
                models=models,
            )
        )
    assert record.of("task_complete")[0]["structured"] == OBJECT
    assert (len(first.requests), len(second.requests)) == (2, 1)
    assert "Well." in said(first.requests[1])
    assert "no JSON object" in said(first.requests[1])


def test_without_a_fallback_it_is_told_what_is_wrong(engine, tmp_path):
    server = OpenAIServer(Reply('{"title": "Tea"}'))
    record = run(engine, tmp_path, server, task("t", "judge", "Rate tea", output_schema=SCHEMA))
    assert record.end["error"]["code"] == "MODEL_ERROR"
    assert "score: Field required" in record.end["error"]["message"]
    assert len(server.requests) == 2


def test_a_plan_and_a_verdict_are_asked_for_in_words_likewise(engine, tmp_path):
    plan = {"list_of_plans_per_task": [{"task_number": 1, "task": "Tea", "plan": "1. Boil. 2. Wait."}]}
    server = without_schemas(
        Reply(f"<think>A plan.</think>My plan:\n```json\n{json.dumps(plan)}\n```"),
        Reply("Tea."),
        Reply('The verdict: {"valid": true, "feedback": null}.'),
    )
    record = run(
        engine,
        tmp_path,
        server,
        task("t", "judge", "Make tea", guardrail="It is tea."),
        planning=True,
        planning_model="gpt",
    )
    assert record.end["status"] == "completed", record.end
    assert record.of("plan")[0]["steps"] == [{"task_id": "t", "plan": "1. Boil. 2. Wait."}]
    assert record.of("guardrail")[0]["accepted"]


# -- tools ------------------------------------------------------------------------------------------------

REACT = Reply('Thought: I add.\nAction: calculator\nAction Input: {"expression": "2 + 3"}')
FINAL = Reply("Thought: I know it.\nFinal Answer: It is five.")


def test_a_server_without_tools_is_asked_in_words_from_then_on(engine, tmp_path):
    server = without_tools(REACT, FINAL, REACT, FINAL)
    agents = [agent(role, model="gpt", tools=["calculator"]) for role in ("Judge", "Other")]
    tasks = [task(f"by_{each['id']}", each["id"], "Add two and three") for each in agents]
    record = run(engine, tmp_path, server, *tasks, agents=agents)
    assert record.end["status"] == "completed", record.end
    assert [done["result"].strip() for done in record.of("task_complete")] == ["It is five."] * 2
    assert [each["result"] for each in record.of("tool_result")] == ["5", "5"]
    # It is refused once in a run, whoever asks.
    assert ["tools" in request for request in server.requests] == [True, False, False, False, False]


def refused(status, text):
    """Give what OpenAI's SDK raises where the provider answers with a status and a text."""
    response = httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1/v1/chat/completions"))
    return APIStatusError(text, response=response, body={"message": text})


@pytest.mark.parametrize(
    ("status", "text", "lacks"),
    [
        (
            400,
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
            "tools",
        ),
        (400, "registry.ollama.ai/library/gemma:latest does not support tools", "tools"),
        (500, "tools param requires --jinja flag", "tools"),
        (404, "No endpoints found that support tool use. To learn more, visit …", "tools"),
        (400, "Unrecognized request argument supplied: tools", "tools"),
        (422, "`tool_choice` is not supported by this model", "tools"),
        (400, "Function calling is not enabled for models/gemma-3", "tools"),
        (422, "body -> tools: Extra inputs are not permitted", "tools"),
        (400, "This response_format type is unavailable now", "response_format"),
        (400, "'response_format.type' must be 'json_object' or 'text'", "response_format"),
        (400, "json_schema is not supported by this model", "response_format"),
        (400, "Structured outputs are not supported with this model", "response_format"),
        (500, "Failed to parse grammar", "response_format"),
        (400, "Unsupported parameter: 'temperature' is not supported with this model.", "temperature"),
        (400, "The message is too rude", None),
        (401, "Your key does not support tools", None),
        (500, "The tools of the trade are down", None),
        (429, "Too many response_format requests", None),
    ],
)
def test_what_a_server_lacks_is_read_from_its_own_words(status, text, lacks):
    failure = failure_of([refused(status, text)])
    assert failure is not None
    assert failure.setting == lacks


# -- the last turn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_without_turns_left_is_asked_for_text_and_that_is_the_result(engine, tmp_path, stream):
    server = OpenAIServer(CALL)
    server.without_tools = Reply("<think>No more tools.</think>About five.")
    fields = {"tools": ["calculator"], "max_iter": 2, "settings": {"stream": stream}}
    record = run(engine, tmp_path, server, fields=fields)
    assert record.end["status"] == "completed", record.end
    assert record.end["result"].strip() == "About five."
    assert ["tools" in request for request in server.requests] == [True, True, False]


def test_one_that_calls_tools_nevertheless_is_asked_once_more(engine, tmp_path):
    server = OpenAIServer(CALL, CALL, CALL, Reply("About five."))
    record = run(engine, tmp_path, server, fields={"tools": ["calculator"], "max_iter": 2})
    assert record.end["result"].strip() == "About five."
    assert "Tools cannot be called any more" in said(server.requests[-1])


def test_one_that_goes_on_calling_tools_fails_with_what_to_do(engine, tmp_path):
    record = run(engine, tmp_path, OpenAIServer(CALL), fields={"tools": ["calculator"], "max_iter": 2})
    assert record.end["status"] == "failed"
    assert "max_iter" in record.end["error"]["message"]
    assert "call_0" not in json.dumps(record.end)


# -- text that is no UTF-8 --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_half_a_pair_of_surrogates_in_an_answer_ends_nothing(engine, tmp_path, stream):
    server = OpenAIServer(Reply("Tea \ud83d is \udc00hot."), Reply("Drink it."))
    record = run(
        engine,
        tmp_path,
        server,
        task("first", "judge", "Say something"),
        task("second", "judge", "Advise", ("first",)),
        fields={"settings": {"stream": stream}},
    )
    assert record.end["status"] == "completed", record.end
    assert record.of("task_complete")[0]["result"].strip() == "Tea \ufffd is \ufffdhot."
    assert "Tea \ufffd is" in said(server.requests[1])


def test_half_a_pair_in_a_call_of_a_tool_and_in_its_result_ends_nothing(engine, tmp_path):
    call = Reply(calls=(("file_writer", {"path": "a.txt", "content": "tea \ud800"}),))
    read = Reply(calls=(("file_reader", {"path": "a.txt \udfff"}),))
    server = OpenAIServer(call, read, Reply("Done."))
    record = run(engine, tmp_path, server, fields={"tools": ["file_writer", "file_reader"]})
    assert record.end["status"] == "completed", record.end
    assert (tmp_path / "a.txt").read_text("utf-8") == "tea \ufffd"
    assert "a.txt \ufffd" in record.of("tool_failed")[0]["error"]["message"]


def test_half_a_pair_in_an_error_of_the_server_ends_nothing_but_the_run(engine, tmp_path):
    record = run(engine, tmp_path, OpenAIServer(Reply("No \ud800 such thing.", status=400)))
    assert record.end["error"] == {"code": "MODEL_ERROR", "message": "gpt: No \ufffd such thing (400)."}
