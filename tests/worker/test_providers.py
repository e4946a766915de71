"""Crews on each provider's models: CrewAI's own provider, the provider's SDK, a real server on loopback."""

import json

import pytest

from tests.engine import agent, crew, task
from tests.servers.model_server import Reply
from tests.servers.shapes import WRONG
from tests.worker.providers import KEY, PROVIDERS
from tests.worker.test_run import OUTPUT, check_spans

CALL = Reply(calls=(("calculator", {"expression": "2 + 3"}),))
each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


@pytest.fixture
def ask(engine, tmp_path):
    """Run a crew of one agent on a provider's server with these replies; give the record and the server."""

    def run(provider, *replies, tools=(), **settings):
        with provider.server(*replies) as server:
            record = engine.run(
                crew(
                    tmp_path,
                    [agent("Counter", model="model", tools=list(tools), settings=settings)],
                    [task("t", "counter", "Add two and three")],
                    models=provider.spec(server.url),
                )
            )
            left = server.gone.wait(120) if any(reply.hang or reply.drip for reply in replies) else True
        check_spans(record)
        assert left, "the connection was left open"
        return record, server

    return run


# Of servers that speak OpenAI's own API, test_answers.py and test_texts.py show the same.
OTHERS = [provider for provider in PROVIDERS if provider.name not in {"openai", "ollama"}]
each_other = pytest.mark.parametrize("provider", OTHERS, ids=lambda provider: provider.name)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@each_provider
@both_ways
def test_a_crew_calls_a_tool_natively_and_answers(ask, provider, stream):
    record, server = ask(provider, CALL, Reply("It is five."), tools=["calculator"], stream=stream)
    assert record.end["status"] == "completed", record.end
    assert record.end["result"].strip() == "It is five."
    assert len(server.requests) == 2
    first, last = record.of("llm_response")
    (call,) = first["tool_calls"]
    assert (call["name"], call["arguments"]) == ("calculator", '{"expression": "2 + 3"}')
    assert first["text"] is None
    assert record.of("tool_result")[0]["result"] == "5"
    chunks = "".join(event["text"] for event in record.of("llm_chunk"))
    assert chunks.strip() == ("It is five." if stream else "")
    assert last["model"] == "model"
    assert last["usage"] == provider.usage
    assert last["finish_reason"]


@each_provider
def test_the_agents_settings_reach_the_server_in_its_own_spelling(ask, provider):
    _, server = ask(
        provider,
        Reply("Done."),
        temperature=0.25,
        top_p=0.5,
        max_tokens=77,
        seed=11,
        stop=["END"],
        stream=False,
    )
    (request,) = server.requests
    sent = provider.sent(request)
    assert {name: sent.get(name) for name in provider.settings} == provider.settings
    assert "END" in str(request)


@each_provider
def test_the_key_is_sent_and_is_in_no_event(ask, provider):
    secrets = [secret for secret in (provider.key, provider.options.get("aws_secret_access_key")) if secret]
    record, server = ask(provider, Reply(f"It is {' and '.join(secrets)}."))
    if provider.key:
        assert KEY in server.keys[0]
    for hidden in secrets:
        assert not [line for line in record.raw if hidden.encode() in line]


ANSWERS = {
    "openai": (401, 404, None),
    "ollama": (401, 404, None),
    "azure": (401, 404, None),
    "anthropic": (401, 404, None),
    # Google answers a wrong key with 400.
    "gemini": (400, 404, "API_KEY_INVALID"),
    "bedrock": (403, 404, None),
}

TOO_LONG = {
    "openai": (400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
    "ollama": (400, "the input length exceeds the context length", None),
    "azure": (400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
    "anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum", None),
    "gemini": (400, "The input token count (2000000) exceeds the maximum number of tokens allowed.", None),
    "bedrock": (400, "Input is too long for requested model.", None),
}


@each_provider
def test_a_refused_key_and_an_unknown_model_are_told_apart_at_once(ask, provider):
    refused, unknown, code = ANSWERS[provider.name]
    record, server = ask(provider, Reply("API key not valid.", status=refused, code=code))
    assert record.end["error"]["code"] == "MODEL_AUTH"
    assert "refused the API key" in record.end["error"]["message"]
    assert len(server.requests) == 1
    record, server = ask(provider, Reply("There is no such model.", status=unknown))
    assert record.end["error"] == {
        "code": "MODEL_NOT_FOUND",
        "message": "model: the provider has no such model (404): There is no such model.",
    }
    assert len(server.requests) == 1


@each_provider
def test_a_conversation_that_is_too_long_is_summarised(ask, provider):
    status, text, code = TOO_LONG[provider.name]
    record, _ = ask(
        provider, Reply(text, status=status, code=code), Reply("A summary."), Reply("Five."), stream=False
    )
    assert record.end["status"] == "completed", record.end
    assert record.of("llm_failed")[0]["error"] == {
        "code": "CONTEXT_OVERFLOW",
        "message": "model: the prompt is longer than the model takes.",
    }
    assert record.of("llm_retry") == []
    assert record.end["result"].strip() == "Five."


@each_provider
@pytest.mark.parametrize("status", [500, 503])
def test_an_error_of_the_server_passes(ask, provider, status):
    record, server = ask(provider, Reply("Sorry.", status=status), Reply("Done."))
    assert record.end["status"] == "completed"
    assert len(server.requests) == 2
    (again,) = record.of("llm_retry")
    (failed,) = record.of("llm_failed")
    assert (again["model"], again["attempt"]) == ("model", 2)
    assert 0.3 < again["wait"] < 0.7
    assert again["error"] == failed["error"]
    assert again["error"]["code"] == "MODEL_ERROR"
    assert again["span_id"] == failed["span_id"]


@each_provider
def test_a_rate_limit_is_waited_for_as_long_as_the_provider_says(ask, provider):
    busy = Reply("Slow down.", status=429, headers={"retry-after": "0"})
    record, server = ask(provider, busy, Reply("Done."))
    assert record.end["status"] == "completed"
    assert len(server.requests) == 2
    (again,) = record.of("llm_retry")
    assert again["wait"] == 0.0
    assert again["error"] == {
        "code": "RATE_LIMIT",
        "message": "model: the provider's rate limit is used up (429).",
    }


@each_provider
@both_ways
def test_garbage_is_no_answer(ask, provider, stream):
    garbage = Reply(raw=b"data: {<html>\x00\xff garbage\n\n")
    record, server = ask(provider, garbage, stream=stream)
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] in {"MODEL_ERROR", "MODEL_UNREACHABLE"}
    assert record.end["error"]["message"].startswith("model: ")
    assert len(server.requests) == 3


@each_provider
@both_ways
def test_an_answer_that_breaks_off_is_asked_for_again(ask, provider, stream):
    record, server = ask(provider, Reply("Once upon a", cut=True), Reply("The end."), stream=stream)
    assert record.end["status"] == "completed", record.end
    assert record.end["result"].strip() == "The end."
    (failed,) = record.of("llm_failed")
    assert failed["error"]["code"] in {"MODEL_UNREACHABLE", "MODEL_ERROR"}
    assert len(server.requests) == 2


@each_provider
@pytest.mark.parametrize(
    ("hung", "stream"),
    [(Reply(hang=True), False), (Reply("Once upon", hang=True), True), (Reply("Drip", drip=0.02), True)],
    ids=["silent", "stuck", "dripping"],
)
def test_the_timeout_is_for_the_whole_call(ask, provider, hung, stream):
    record, server = ask(provider, hung, timeout=1, stream=stream)
    assert record.end["error"] == {
        "code": "MODEL_TIMEOUT",
        "message": "model: no answer within the time allowed.",
    }
    # Once: nobody waits as long a second time.
    assert len(server.requests) == 1


@each_other
@both_ways
def test_what_is_said_and_thought_beside_a_call_is_kept_and_the_words_are_sent_on(ask, provider, stream):
    beside = Reply("Let me add.", thought="Two and three.", calls=CALL.calls)
    answer = Reply("It is five.", thought="So it is.")
    record, server = ask(provider, beside, answer, tools=["calculator"], stream=stream)
    first, last = record.of("llm_response")
    assert first["text"].strip() == "Let me add."
    assert [each["reasoning"].strip() for each in (first, last)] == ["Two and three.", "So it is."]
    sent = json.dumps(server.requests[1])
    assert "Let me add." in sent
    assert "Two and three." not in sent
    chunks = "".join(event["text"] for event in record.of("llm_chunk"))
    assert chunks.split() == (["Let", "me", "add.", "It", "is", "five."] if stream else [])


WRITTEN = {"title": "Dune", "score": 8, "tags": ["red"], "author": {"name": "Herbert"}}
NO_FORM = {
    **dict.fromkeys(
        ("openai", "ollama", "azure"), "'response_format' of type 'json_schema' is not supported."
    ),
    "anthropic": "output_format: Extra inputs are not permitted",
    "gemini": "JSON mode is not enabled for models/gemini-2.5-flash",
    "bedrock": "This model doesn't support tool use.",
}
"""How they refuse to answer with an object."""


@each_other
@both_ways
def test_an_object_is_asked_for_in_the_providers_way_and_in_words_where_it_is_refused(
    engine, tmp_path, provider, stream
):
    # Amazon's models give an object with a tool.
    called = Reply(calls=(("structured_output", WRITTEN),))
    given = called if provider.name == "bedrock" else Reply(json.dumps(WRITTEN))
    refused = Reply(NO_FORM[provider.name], status=400)
    with provider.server(given, refused, Reply(f"Here it is: {json.dumps(WRITTEN)}")) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent(role, model="model", settings={"stream": stream}) for role in ("First", "Second")],
                [task(role, role, "Rate Dune", output_schema=OUTPUT) for role in ("first", "second")],
                models=provider.spec(server.url),
            )
        )
    check_spans(record)
    assert record.end["status"] == "completed", record.end
    assert [done["structured"] for done in record.of("task_complete")] == [WRITTEN, WRITTEN]
    asked, again, in_words = (json.dumps(request) for request in server.requests)
    assert "author" in asked
    assert "JSON schema" not in asked + again
    assert "JSON schema" in in_words
    assert not in_words.count("structured_output") + in_words.count("output_format")


def test_an_older_model_of_anthropics_gives_an_object_with_a_tool(engine, tmp_path):
    anthropic = next(provider for provider in PROVIDERS if provider.name == "anthropic")
    with anthropic.server(Reply(calls=(("structured_output", WRITTEN),))) as server:
        models = anthropic.spec(server.url)
        models["model"]["model"] = "claude-3-haiku-20240307"
        record = engine.run(
            crew(
                tmp_path,
                [agent("Judge", model="model")],
                [task("t", "judge", "Rate Dune", output_schema=OUTPUT)],
                models=models,
            )
        )
    assert record.of("task_complete")[0]["structured"] == WRITTEN
    (request,) = server.requests
    assert request["tool_choice"] == {"type": "tool", "name": "structured_output"}


ADDRESSES = {name: wrong for name, wrong in WRONG.items() if wrong.requests == 1 and not wrong.shape.pieces}


@each_other
@both_ways
def test_a_wrong_address_is_named_with_what_the_server_there_says(engine, tmp_path, provider, stream):
    with provider.server(*(Reply(shape=wrong.shape) for wrong in ADDRESSES.values())) as server:
        record = engine.run(
            crew(
                tmp_path,
                [
                    agent(f"A{at}", model="model", fallbacks=["sandbox"], settings={"stream": stream})
                    for at in range(len(ADDRESSES))
                ],
                [task(f"t{at}", f"a{at}", "Add two and three") for at in range(len(ADDRESSES))],
                models=provider.spec(server.url),
            )
        )
    check_spans(record)
    assert len(server.requests) == len(ADDRESSES)
    failed = record.of("llm_failed")
    for (name, wrong), path, event in zip(ADDRESSES.items(), server.paths, failed, strict=True):
        assert (name, event["error"]["code"]) == (name, wrong.code)
        assert f"{server.root}{path.partition('?')[0]}" in event["error"]["message"], name
        assert wrong.words in event["error"]["message"], name


@each_other
def test_an_address_of_somebody_elses_is_told_by_what_has_set_it(engine, tmp_path, provider):
    with provider.server(Reply(shape=ADDRESSES["a page"].shape)) as server:
        models = provider.spec(server.url)
        models["model"]["address_set_by"] = "the administrator's setting of here"
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="model")],
                [task("t", "counter", "Add two and three")],
                models=models,
            )
        )
    assert record.end["error"]["message"].startswith(
        "model: the address from the administrator's setting of here sent no model's answer: it is a web page"
    )
    assert str(server.root).encode() not in b"".join(record.raw)
