"""Crews on an OpenAI-compatible server: a real HTTP server, OpenAI's own client, CrewAI's own provider."""

import pytest

from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply
from tests.worker.test_run import OUTPUT, check_spans

KEY = "sk-test-1234567890abcdef"
CALL = Reply(calls=(("calculator", {"expression": "2 + 3"}),))


@pytest.fixture
def ask(engine, tmp_path):
    """Run a crew of one agent against a server with these replies; give the record and the server."""

    def run(*replies, schema=None, tools=("calculator",), **settings):
        with OpenAIServer(*replies) as server:
            record = engine.run(
                crew(
                    tmp_path,
                    [agent("Counter", model="gpt", tools=list(tools), settings=settings)],
                    [task("t", "counter", "Add two and three", output_schema=schema)],
                    models=openai_model(server.url, KEY),
                )
            )
        check_spans(record)
        return record, server

    return run


@pytest.mark.parametrize("stream", [True, False])
def test_tools_are_called_natively_and_the_answer_comes_back(ask, stream):
    record, server = ask(CALL, Reply("It is five."), stream=stream)
    assert record.end["status"] == "completed"
    assert record.end["result"].strip() == "It is five."
    assert server.keys[0] == f"Bearer {KEY}"
    asked, answered = server.requests
    assert asked["model"] == "gpt-4o-mini"
    assert asked.get("stream", False) is stream
    assert asked["tools"][0]["function"]["name"] == "calculator"
    assert answered["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "call_0",
        "name": "calculator",
        "content": "5",
    }
    first, last = record.of("llm_response")
    assert first["tool_calls"] == [
        {"id": "call_0", "name": "calculator", "arguments": '{"expression": "2 + 3"}'}
    ]
    assert (first["finish_reason"], last["finish_reason"]) == ("tool_calls", "stop")
    assert last["model"] == "gpt"
    assert last["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 5,
        "total_tokens": 25,
        "cached_tokens": 8,
        "reasoning_tokens": 2,
    }
    # What a model of this name costs on a server of one's own, nobody knows.
    assert last["cost"] is None
    chunks = "".join(event["text"] for event in record.of("llm_chunk"))
    assert chunks.strip() == ("It is five." if stream else "")
    reported = record.of("llm_call")[1]["messages"]
    assert reported[-2]["tool_calls"][0]["function"]["arguments"] == '{"expression": "2 + 3"}'


def test_the_agents_settings_reach_the_server(ask):
    _, server = ask(
        Reply("Done."), temperature=0.25, top_p=0.5, max_tokens=77, seed=11, stop=["END"], stream=False
    )
    (request,) = server.requests
    assert {name: request[name] for name in ("temperature", "top_p", "max_tokens", "seed")} == {
        "temperature": 0.25,
        "top_p": 0.5,
        "max_tokens": 77,
        "seed": 11,
    }


def test_two_tool_calls_at_once_are_both_children_of_their_agent(ask):
    twice = Reply(calls=(("calculator", {"expression": "1 + 1"}), ("calculator", {"expression": "2 + 2"})))
    record, _ = ask(twice, Reply("Two and four."))
    (started,) = record.of("agent_start")
    assert [event["parent_id"] for event in record.of("tool_call")] == [started["span_id"]] * 2
    assert sorted(event["result"] for event in record.of("tool_result")) == ["2", "4"]


def test_a_server_that_counts_no_tokens_is_unknown_not_zero(ask):
    for stream in (True, False):
        record, _ = ask(Reply("Done.", usage=None), stream=stream)
        assert record.of("llm_response")[0]["usage"] is None


@pytest.mark.parametrize("stream", [True, False])
def test_a_structured_answer_is_asked_for_and_read(ask, stream):
    text = '{"title": "Dune", "score": 8, "tags": ["red"], "author": {"name": "Herbert"}}'
    record, server = ask(Reply(text), schema=OUTPUT, tools=(), stream=stream)
    assert server.requests[0]["response_format"]["type"] == "json_schema"
    assert record.of("task_complete")[0]["structured"] == {
        "title": "Dune",
        "score": 8,
        "tags": ["red"],
        "author": {"name": "Herbert"},
    }


def test_an_answer_that_misses_its_schema_is_mended_by_the_model(ask):
    text = '{"title": "Dune", "score": 8, "tags": ["red"], "author": {"name": "Herbert"}}'
    record, server = ask(Reply("It is called Dune."), Reply(text), schema=OUTPUT, stream=False)
    assert len(server.requests) == 2
    assert record.of("task_complete")[0]["structured"]["title"] == "Dune"
    assert record.of("llm_call")[1]["parent_id"] == record.of("task_start")[0]["span_id"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "MODEL_AUTH", "gpt: the provider refused the API key (401)."),
        (404, "MODEL_NOT_FOUND", "gpt: the provider has no such model (404): No [secret]."),
        (400, "MODEL_ERROR", "gpt: No [secret] (400)."),
    ],
)
def test_a_permanent_error_is_asked_for_once_and_said_in_one_sentence(ask, stream, status, code, message):
    record, server = ask(Reply(f"No {KEY}", status=status), stream=stream)
    assert len(server.requests) == 1
    assert len(record.of("llm_call")) == 1
    assert record.end["status"] == "failed"
    assert record.end["error"] == {"code": code, "message": message}
    assert record.of("llm_failed")[0]["error"]["code"] == code


def test_a_server_that_is_not_there_is_called_unreachable(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", model="gpt")],
            [task("t", "counter", "Count")],
            models=openai_model("http://127.0.0.1:9/v1"),
        )
    )
    assert record.end["error"]["code"] == "MODEL_UNREACHABLE"


def test_a_prompt_that_is_too_long_is_told_apart(ask):
    text = "This model's maximum context length is 10 tokens. context_length_exceeded"
    record, _ = ask(Reply(text, status=400), tools=())
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "CONTEXT_OVERFLOW"


def test_a_tool_that_does_not_exist_is_a_failed_call_that_the_model_is_told(ask):
    record, server = ask(Reply(calls=(("abacus", {}),)), Reply("Then not."))
    assert record.end["status"] == "completed"
    (failed,) = record.of("tool_failed")
    assert (failed["tool"], failed["error"]["code"]) == ("abacus", "TOOL_ERROR")
    assert server.requests[1]["messages"][-1]["role"] == "tool"


def test_wrong_arguments_are_a_failed_call_that_the_model_is_told(ask):
    record, _ = ask(Reply(calls=(("calculator", {"sum": 1}),)), Reply("Sorry."))
    assert record.end["status"] == "completed"
    assert record.of("tool_failed")[0]["error"]["code"] == "TOOL_ERROR"


def test_a_stream_that_breaks_off_fails_its_call(engine, tmp_path):
    with OpenAIServer(Reply("Once upon a", hang=True)) as server:
        record = engine.launch(
            crew(
                tmp_path,
                [agent("Teller", model="gpt")],
                [task("t", "teller", "Tell")],
                models=openai_model(server.url),
            )
        )
        record.wait_for("llm_chunk")
        server.released.set()
        record.exited.result(60)
    check_spans(record)
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "MODEL_UNREACHABLE"


def test_the_key_is_in_no_event(ask):
    record, _ = ask(
        Reply(calls=(("file_reader", {"path": KEY}),)), Reply(f"The key is {KEY}."), tools=("file_reader",)
    )
    assert not [line for line in record.raw if KEY.encode() in line]
    assert "[secret]" in record.end["result"]
