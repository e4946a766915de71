"""Answers as OpenAI-compatible servers really send them: real sockets, OpenAI's client, CrewAI's crews."""

import json

import pytest

from kasal_jupyter.events.summary import summarise
from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.worker.models.chat_answer import ChatReader
from kasal_jupyter.worker.models.chat_body import NotAnAnswer
from kasal_jupyter.worker.models.provider_errors import Place, failure_of
from tests.engine import agent, crew, openai_model, task
from tests.servers.ollama_chat_server import OllamaChatServer
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.shapes import (
    ARGUMENTS,
    BROKEN,
    EMPTY,
    PARALLEL,
    TEXTS,
    USAGES,
    WRONG,
    Shape,
    called,
    calling,
    piece,
)
from tests.worker.providers import PROVIDERS
from tests.worker.test_run import OUTPUT, check_spans

both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
def ask(engine, tmp_path):
    """Run a crew whose agent does a task for each list of replies; give the record and the server."""

    def run(*turns, stream, tools=(), **settings):
        replies = [
            reply if isinstance(reply, Reply) else Reply(shape=reply) for turn in turns for reply in turn
        ]
        with OpenAIServer(*replies) as server:
            record = engine.run(
                crew(
                    tmp_path,
                    [
                        agent(
                            "Counter", model="gpt", tools=list(tools), settings={"stream": stream, **settings}
                        )
                    ],
                    [task(f"t{at}", "counter", "Add two and three") for at in range(len(turns))],
                    models=openai_model(server.url),
                )
            )
        check_spans(record)
        assert record.end["status"] == "completed", record.end
        assert len(server.requests) == len(replies)
        return record, server

    return run


@pytest.fixture
def ask_each(engine, tmp_path):
    """Run a crew with an agent for each list of replies, in whose place the sandbox answers in the end."""

    def run(*turns, stream, server_class=OpenAIServer, **settings):
        with server_class(*(Reply(shape=shape) for turn in turns for shape in turn)) as server:
            record = engine.run(
                crew(
                    tmp_path,
                    [
                        agent(
                            f"A{at}",
                            model="gpt",
                            fallbacks=["sandbox"],
                            settings={"stream": stream, **settings},
                        )
                        for at in range(len(turns))
                    ],
                    [task(f"t{at}", f"a{at}", "Add two and three") for at in range(len(turns))],
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
def test_nothing_is_lost_of_an_answer_that_counts_its_tokens_anywhere(ask, stream):
    record, _ = ask(*([shape] for shape, _ in USAGES.values()), stream=stream)
    assert [event["result"] for event in record.of("task_complete")] == ["It is five."] * len(USAGES)
    told = {name: event["usage"] for name, event in zip(USAGES, record.of("llm_response"), strict=True)}
    # "in the choice" and "null behind a count" are ways of streams.
    assert told == {name: usage for name, (_, usage) in USAGES.items()}
    chunks = "".join(event["text"] for event in record.of("llm_chunk"))
    assert chunks == ("It is five." * len(USAGES) if stream else "")


@both_ways
def test_a_text_is_read_in_whatever_form_it_comes(ask, stream):
    record, _ = ask(*([shape] for shape, _ in TEXTS.values()), stream=stream)
    for at, (name, (shape, told)) in enumerate(TEXTS.items()):
        (answer,) = of_task(record, "llm_response", at)
        (done,) = of_task(record, "task_complete", at)
        assert (name, answer["text"], done["result"]) == (name, told.text, told.text)
        assert (name, answer.get("reasoning")) == (name, told.reasoning)
        streamed = stream and shape.pieces is not None
        remark = told.remark if streamed or "stream" not in (told.remark or "") else None
        if remark is None:
            assert "remark" not in answer, name
            assert "remark" not in done, name
        else:
            assert remark in answer["remark"], name
            assert done["remark"] == answer["remark"]


@both_ways
def test_parallel_calls_are_told_apart(ask, stream):
    turns = [[shape, Reply("Two and four.")] for shape in PARALLEL.values()]
    record, server = ask(*turns, stream=stream, tools=["calculator"])
    for at, name in enumerate(PARALLEL):
        called, _last = of_task(record, "llm_response", at)
        asked = [(call["name"], json.loads(call["arguments"])["expression"]) for call in called["tool_calls"]]
        assert (name, asked) == (name, [("calculator", "1 + 1"), ("calculator", "2 + 2")])
        assert sorted(event["result"] for event in of_task(record, "tool_result", at)) == ["2", "4"], name
        assert called["usage"] is not None
        *_, said, first, second = server.requests[2 * at + 1]["messages"]
        ids = [call["id"] for call in said["tool_calls"]]
        assert len(set(ids)) == 2, name
        assert all(ids), name
        assert [first["tool_call_id"], second["tool_call_id"]] == ids
    beside = list(PARALLEL).index("beside a text")
    if not stream:
        assert of_task(record, "llm_response", beside)[0]["text"] == "So:"
        assert server.requests[2 * beside + 1]["messages"][-3]["content"] == "So:"


@both_ways
def test_arguments_are_decoded_where_their_meaning_is_clear(ask, stream):
    shapes = [calling(arguments) for arguments in ARGUMENTS.values()]
    record, server = ask(*([shape, Reply("Four.")] for shape in shapes), stream=stream, tools=["calculator"])
    for at, name in enumerate(ARGUMENTS):
        (result,) = of_task(record, "tool_result", at)
        assert (name, result["result"]) == (name, "4")
        *_, said, _ = server.requests[2 * at + 1]["messages"]
        assert isinstance(json.loads(said["tool_calls"][0]["function"]["arguments"]), dict), name


@both_ways
def test_the_model_is_told_of_arguments_that_mean_nothing_and_its_history_is_sound(ask, stream):
    shapes = [calling(arguments) for arguments in BROKEN.values()]
    record, server = ask(*([shape, Reply("Sorry.")] for shape in shapes), stream=stream, tools=["calculator"])
    for at, name in enumerate(BROKEN):
        (call,) = of_task(record, "tool_call", at)
        (failed,) = of_task(record, "tool_failed", at)
        assert call["tool"] == failed["tool"] == "calculator"
        assert failed["error"]["code"] == "TOOL_ERROR"
        assert "not a JSON object" in failed["error"]["message"], name
        *_, said, told = server.requests[2 * at + 1]["messages"]
        assert said["tool_calls"][0]["function"]["arguments"] == "{}"
        assert "not a JSON object" in told["content"]
        assert told["tool_call_id"] == said["tool_calls"][0]["id"]
        assert of_task(record, "llm_response", at)[0]["tool_calls"][0]["arguments"] != "{}"


@both_ways
def test_an_empty_answer_says_why_is_asked_for_once_more_where_that_helps_and_then_another_model_is(
    ask_each, stream
):
    turns = [[shape] * times for shape, _, times in EMPTY.values()]
    record, server = ask_each(*turns, stream=stream, max_tokens=77)
    assert len(server.requests) == sum(times for *_, times in EMPTY.values())
    for at, (name, (_, words, times)) in enumerate(EMPTY.items()):
        failed = of_task(record, "llm_failed", at)
        assert (name, [event["error"]["message"] for event in failed]) == (name, [f"gpt: {words}"] * times)
        # It was an answer: its tokens were counted, and have to be paid for.
        assert failed[0]["usage"]["total_tokens"] == 25
        assert failed[0]["cost"] is None
        assert of_task(record, "llm_retry", at)[-1]["model"] == "sandbox"
    assert summarise(record.events).tally.unknown_costs == len(server.requests)


def test_a_stream_that_ends_without_a_word_is_told_from_one_that_says_why(ask_each):
    silent = Shape(None, [piece(role="assistant")], done=False)
    record, server = ask_each([silent, silent], stream=True)
    assert len(server.requests) == 2
    assert record.of("llm_failed")[0]["error"]["message"] == (
        "gpt: the answer is empty: the stream ended without a word and without a finish."
    )


ONCE = {name: wrong for name, wrong in WRONG.items() if wrong.requests == 1}


@both_ways
def test_a_wrong_address_is_named_with_what_the_server_there_says(ask_each, stream):
    record, server = ask_each(*([wrong.shape] for wrong in ONCE.values()), stream=stream)
    assert len(server.requests) == len(ONCE)
    for at, (name, wrong) in enumerate(ONCE.items()):
        (failed,) = of_task(record, "llm_failed", at)
        assert (name, failed["error"]["code"]) == (name, wrong.code)
        assert f"{server.root}/v1/chat/completions" in failed["error"]["message"], name
        assert wrong.words in failed["error"]["message"], name


@both_ways
# Of another status, OpenAI's client makes an error by itself.
@pytest.mark.parametrize("name", [name for name, wrong in WRONG.items() if wrong.shape.status == 200])
def test_what_is_no_answer_is_said_to_be_none(name, stream):
    wrong = WRONG[name]
    body, _ = wrong.shape.body(stream=stream)
    with pytest.raises(NotAnAnswer) as caught:
        list(ChatReader((), 1).pieces([body[:7], body[7:]]))
    caught.value.address = "http://user:password@host/v1/chat/completions?key=1"
    found = failure_of([caught.value])
    assert wrong.words in found.message
    assert found.message.startswith("http://host/v1/chat/completions ")
    assert found.passing == (wrong.requests > 1)
    hidden = failure_of([caught.value], Place(set_by="OPENAI_BASE_URL in the server's environment"))
    assert "host" not in hidden.message
    assert "the address from OPENAI_BASE_URL in the server's environment" in hidden.message


def test_an_address_without_v1_is_told_what_is_usual(engine, tmp_path):
    with OpenAIServer(Reply(shape=ONCE["a detail"].shape)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="gpt")],
                [task("t", "counter", "Count")],
                models=openai_model(server.root),
            )
        )
    assert record.end["error"] == {
        "code": "MODEL_NOT_FOUND",
        "message": f"gpt: nothing answers at {server.root}/chat/completions (404): Not Found. "
        "The address of an OpenAI-compatible server ends in /v1 as a rule.",
    }
    assert record.of("llm_failed")[0]["cost"] == 0.0


def test_ollamas_own_words_stay(engine, tmp_path):
    words = 'model "llama9" not found, try pulling it first'
    with OllamaChatServer(Reply(words, status=404)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="llama")],
                [task("t", "counter", "Count")],
                models={
                    "llama": {
                        "name": "llama",
                        "provider": "ollama",
                        "model": "llama9",
                        # As other servers are given; Ollama's own is the root.
                        "base_url": f"{server.root}/v1/",
                    }
                },
            )
        )
    assert record.end["error"]["message"] == f"llama: the provider has no such model (404): {words}."


# -- the books -------------------------------------------------------------------------------------------


def test_what_was_sent_and_not_read_is_of_unknown_cost_and_counts_in_the_budget(engine, tmp_path):
    spec = crew(
        tmp_path,
        [agent("Counter", model="gpt", settings={"stream": False, "max_tokens": 1000})],
        [task("t", "counter", "Count")],
        models={},
    )
    with OpenAIServer(Reply(raw=b"garbage")) as server:
        spec = spec.model_validate(
            {
                **spec.model_dump(),
                "models": {**spec.model_dump()["models"], **openai_model(server.url)},
                "budget": {"max_tokens": 2500},
            }
        )
        record = engine.run(spec)
    check_spans(record)
    assert record.end["error"]["code"] == "BUDGET_EXCEEDED"
    assert len(server.requests) == len(record.of("llm_call")) == 2
    assert [event["cost"] for event in record.of("llm_failed")] == [None, None]
    summary = summarise(record.events)
    assert (summary.cost, summary.tally.unknown_costs, summary.llm_calls) == (None, 2, 2)


def test_a_call_that_was_under_way_when_its_run_was_stopped_may_have_to_be_paid_for(engine, tmp_path):
    with OpenAIServer(Reply(hang=True)) as server:
        record = engine.launch(
            crew(
                tmp_path,
                [agent("Counter", model="gpt")],
                [task("t", "counter", "Count")],
                models=openai_model(server.url),
            )
        )
        assert server.asked.wait(60)
        engine.stop(record)
        assert record.exited.result(60) == 1
    # As a server ends a run whose process was stopped.
    ended = {**record.events[-1], "type": "execution_status", "status": "stopped"}
    summary = summarise([*record.events, ended])
    assert (summary.cost, summary.tally.unknown_costs) == (None, 1)
    (model,) = summary.usage_by().models
    assert (model.name, model.cost) == ("gpt", None)
    (root,) = build_trace([*record.events, ended]).roots
    assert root.cost is None


@both_ways
def test_an_answer_that_is_asked_for_in_a_form_is_one_request(engine, tmp_path, stream):
    with OpenAIServer(Reply(shape=EMPTY["refusal"][0])) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Critic", model="gpt", settings={"stream": stream})],
                [task("t", "critic", "Review", output_schema=OUTPUT)],
                models=openai_model(server.url),
            )
        )
    # CrewAI asks a second time, without the form, and tells nobody.
    assert len(server.requests) == len(record.of("llm_call")) == 1
    assert record.end["error"]["message"] == "gpt: the model refuses: I can't help with sums."


# -- the other providers -----------------------------------------------------------------------------------

WORDS = {
    "azure": {"length": "length", "filter": "content_filter", "stop": "stop"},
    "anthropic": {"length": "max_tokens", "refusal": "refusal", "stop": "end_turn"},
    "gemini": {"length": "MAX_TOKENS", "filter": "SAFETY", "stop": "STOP"},
    "bedrock": {"length": "max_tokens", "filter": "content_filtered", "stop": "end_turn"},
}
"""Why an answer ends, in each provider's own words."""

SAID = {
    "length": "the answer is empty: it was cut off before its first word",
    "filter": "the answer is empty: the provider's content filter held it back",
    "refusal": "the model refuses to answer, and says no more",
    "stop": "the answer is empty",
}


@both_ways
@pytest.mark.parametrize(
    "provider",
    [provider for provider in PROVIDERS if provider.name in WORDS],
    ids=lambda provider: provider.name,
)
def test_each_provider_says_why_its_answer_is_empty_or_not_whole(engine, tmp_path, provider, stream):
    words = WORDS[provider.name]
    turns = [("length", "It is"), *((kind, "") for kind in words)]
    again = {"stop": 2}
    replies = [Reply(text, reason=words[kind]) for kind, text in turns for _ in range(again.get(kind, 1))]
    with provider.server(*replies) as server:
        record = engine.run(
            crew(
                tmp_path,
                [
                    agent(
                        f"A{at}",
                        model="model",
                        fallbacks=["sandbox"],
                        settings={"stream": stream, "max_tokens": 77},
                    )
                    for at in range(len(turns))
                ],
                [task(f"t{at}", f"a{at}", "Add two and three") for at in range(len(turns))],
                models=provider.spec(server.url),
            )
        )
    check_spans(record)
    assert record.end["status"] == "completed", record.end
    assert len(server.requests) == len(replies)
    (cut,) = of_task(record, "llm_response", 0)
    assert cut["text"].strip() == "It is"
    assert cut["remark"] == "The answer is cut off: it reached max_tokens (77)."
    assert of_task(record, "task_complete", 0)[0]["remark"] == cut["remark"]
    for at, (kind, _) in enumerate(turns[1:], 1):
        failed = of_task(record, "llm_failed", at)
        assert len(failed) == again.get(kind, 1)
        message = failed[0]["error"]["message"]
        reasoned = provider.usage.get("reasoning_tokens")
        if not (reasoned and kind in {"length", "stop"}):
            assert message == f"model: {SAID[kind]} ({words[kind]})."
        else:
            assert "reasoning" in message
        assert failed[0]["usage"] == provider.usage


def test_a_tool_call_that_was_cut_off_is_not_made(engine, tmp_path):
    anthropic = next(provider for provider in PROVIDERS if provider.name == "anthropic")
    called = Reply(calls=(("calculator", {"expression": "2 + 2"}),), reason="max_tokens")
    with anthropic.server(called, Reply("Four.")) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="model", tools=["calculator"])],
                [task("t0", "counter", "Add")],
                models=anthropic.spec(server.url),
            )
        )
    check_spans(record)
    assert record.end["status"] == "completed", record.end
    (failed,) = record.of("tool_failed")
    assert "cut off" in failed["error"]["message"]
    assert "cut off" in str(server.requests[1]["messages"][-1])


def test_a_name_that_never_ends_is_not_put_together():
    pieces = [piece(tool_calls=[called(f"{at} ", "", index=0)]) for at in range(2000)]
    reader = ChatReader((), 1)
    list(reader.pieces(b"data: " + json.dumps(each).encode() + b"\n\n" for each in pieces))
    (call,) = reader.answer().calls
    assert len(call.name) < 1100
