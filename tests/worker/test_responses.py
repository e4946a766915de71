"""Models that answer OpenAI's Responses API alone: asked there, and read by the same rules."""

import json

import pytest

from kasal_jupyter.events.summary import summarise
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.responses_server import ResponsesServer
from tests.worker.test_run import OUTPUT, check_spans

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
CALL = ("calculator", {"expression": "2 + 3"})
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "cached_tokens": 8,
    "reasoning_tokens": 2,
}


@pytest.fixture
def ask(engine, tmp_path):
    """Run a crew with a task for each list of replies; give the record and the server."""

    def run(*turns, stream, tools=(), schema=None, server_class=ResponsesServer, **settings):
        with server_class(*(reply for turn in turns for reply in turn)) as server:
            record = engine.run(
                crew(
                    tmp_path,
                    [
                        agent(
                            f"A{at}",
                            model="gpt",
                            tools=list(tools),
                            fallbacks=["sandbox"],
                            settings={"stream": stream, **settings},
                        )
                        for at in range(len(turns))
                    ],
                    [
                        task(f"t{at}", f"a{at}", "Add two and three", output_schema=schema)
                        for at in range(len(turns))
                    ],
                    models=openai_model(server.url),
                )
            )
        check_spans(record)
        assert record.end["status"] == "completed", record.end
        return record, server

    return run


def of_task(record, kind, at):
    return [event for event in record.of(kind) if event["task_id"] == f"t{at}"]


@both_ways
def test_such_a_model_is_asked_there_from_its_refusal_on(ask, stream):
    said = Reply("Let me add.", thought="Two and three.", calls=(CALL,))
    record, server = ask(
        [said, Reply("It is five.")], stream=stream, tools=["calculator"], seed=7, max_tokens=77
    )
    assert [path.rpartition("/v1")[2] for path in server.paths] == [
        "/chat/completions",
        "/responses",
        "/responses",
    ]
    (failed,) = record.of("llm_failed")
    assert (failed["cost"], failed["usage"]) == (0.0, None)
    (retry,) = record.of("llm_retry")
    assert "v1/responses" in retry["error"]["message"]
    called, answered = record.of("llm_response")
    assert called["text"].strip() == "Let me add."
    assert called["reasoning"].strip() == "Two and three."
    assert called["tool_calls"] == [
        {"id": "call_0", "name": "calculator", "arguments": '{"expression": "2 + 3"}'}
    ]
    assert record.of("tool_result")[0]["result"] == "5"
    assert called["usage"] == answered["usage"] == USAGE
    assert record.end["result"].strip() == "It is five."
    chunks = "".join(event["text"] for event in record.of("llm_chunk")).split()
    assert chunks == (["Let", "me", "add.", "It", "is", "five."] if stream else [])
    last = server.requests[-1]
    assert (last["max_output_tokens"], last.get("stream", False)) == (77, stream)
    assert "seed" not in last
    assert "Let me add." in json.dumps(last["input"])
    assert {"type": "function_call_output", "call_id": "call_0", "output": "5"} in last["input"]


@both_ways
def test_what_is_empty_cut_off_or_no_answer_is_said_to_be_so(ask, stream):
    turns = [
        [Reply("It is", reason="max_output_tokens")],
        [Reply("", thought="Hm.", reason="max_output_tokens")],
        [Reply(code="I cannot add.")],
        [Reply("", reason="content_filter")],
        [Reply("")] * 2,
        [Reply("It", reason="failed")] * 3,
        [Reply("Done.", usage=None)],
        [Reply("Done.", counts=lambda _: "many")],
    ]
    record, server = ask(*turns, stream=stream, max_tokens=77)
    told = [of_task(record, "llm_failed", at)[-1:] for at in range(len(turns))]
    messages = [failed[0]["error"]["message"] if failed else None for failed in told]
    refused = "only supported in v1/responses"
    (cut,) = of_task(record, "llm_response", 0)
    assert cut["remark"] == "The answer is cut off: it reached max_tokens (77)."
    assert messages[1] == (
        "gpt: the answer is empty: all of max_tokens (77) went into reasoning (max_output_tokens)."
    )
    assert messages[2].strip(".") == "gpt: the model refuses: I cannot add"
    assert "content filter held it back" in messages[3]
    assert messages[4].startswith("gpt: the answer is empty")
    assert "It broke down" in messages[5]
    assert [of_task(record, "llm_response", at)[0]["usage"] for at in (6, 7)] == [None, None]
    # Each agent's model finds out for itself; all that was sent is booked.
    assert sum(refused in event["error"]["message"] for event in record.of("llm_failed")) == len(turns)
    assert len(server.requests) == len(record.of("llm_call")) - sum(
        event["model"] == "sandbox" for event in record.of("llm_call")
    )
    assert summarise(record.events).cost is None


@both_ways
def test_arguments_that_cannot_be_read_are_told_the_model_and_two_calls_are_two(ask, stream):
    broken = Reply(calls=(("calculator", '{"expression": "2 +'),))
    twice = Reply(calls=(("calculator", {"expression": "1 + 1"}), ("calculator", '"2 + 2"')))
    record, server = ask([broken, twice, Reply("So.")], stream=stream, tools=["calculator"])
    (failed,) = record.of("tool_failed")
    assert "not a JSON object" in failed["error"]["message"]
    assert "not a JSON object" in json.dumps(server.requests[2]["input"])
    assert sorted(event["result"] for event in record.of("tool_result")) == ["2", "4"]


@both_ways
def test_an_object_is_asked_for_and_in_words_where_that_is_refused(ask, stream):
    text = '{"title": "Dune", "score": 8, "tags": ["red"], "author": {"name": "Herbert"}}'
    refused = Reply("Invalid parameter: text.format is not supported with this model.", status=400)
    record, server = ask([refused, Reply(f"Here: {text}")], stream=stream, schema=OUTPUT)
    assert record.of("task_complete")[0]["structured"]["title"] == "Dune"
    _, first, second = server.requests
    assert first["text"]["format"]["type"] == "json_schema"
    assert "text" not in second
    assert "JSON schema" in json.dumps(second["input"])


def test_a_model_that_takes_no_tools_while_it_reasons_is_told_not_to(ask):
    error = {
        "message": "Function tools with reasoning_effort are not supported for gpt-5.6-sol in "
        "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
        "type": "invalid_request_error",
        "param": "reasoning_effort",
        "code": None,
    }
    refused = Reply(status=400, raw=json.dumps({"error": error}).encode())
    turn = [refused, Reply(calls=(CALL,)), Reply("It is five.")]
    record, server = ask(turn, stream=True, tools=["calculator"], server_class=OpenAIServer)
    assert [request.get("reasoning_effort") for request in server.requests] == [None, "none", "none"]
    (failed,) = record.of("llm_failed")
    assert failed["cost"] == 0.0
    assert record.end["result"].strip() == "It is five."
