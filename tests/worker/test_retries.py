"""What is asked again, how long later, who answers instead, and that a stop ends all of it."""

import signal
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from kasal_jupyter.events.summary import summarise
from kasal_jupyter.schemas.spec import RunMessage
from tests.engine import Record, agent, crew, openai_model, task
from tests.servers.anthropic_server import AnthropicServer
from tests.servers.gemini_server import GeminiServer
from tests.servers.openai_server import OpenAIServer, Reply
from tests.worker.providers import PROVIDERS
from tests.worker.test_run import check_spans

ANTHROPIC = next(provider for provider in PROVIDERS if provider.name == "anthropic")
GEMINI = next(provider for provider in PROVIDERS if provider.name == "gemini")
BUSY = Reply("Slow down.", status=429, headers={"retry-after-ms": "1"})


def counting(folder, models, *, name="gpt", fallbacks=(), tasks=1, **fields):
    """Describe a crew of one agent."""
    return crew(
        folder,
        [agent("Counter", model=name, fallbacks=list(fallbacks), **fields)],
        [task(f"t{at}", "counter", "Add two and three") for at in range(tasks)],
        models=models,
    )


@pytest.fixture
def ask(engine, tmp_path):
    def run(*replies, **settings):
        with OpenAIServer(*replies) as server:
            record = engine.run(counting(tmp_path, openai_model(server.url), settings=settings))
        check_spans(record)
        return record, server

    return run


def test_a_rate_limit_is_tried_five_times_and_an_error_three(ask):
    record, server = ask(BUSY)
    assert len(server.requests) == 5
    assert record.end["error"] == {
        "code": "RATE_LIMIT",
        "message": "gpt: the provider's rate limit is used up (429). It was asked 5 times.",
    }
    assert [event["attempt"] for event in record.of("llm_retry")] == [2, 3, 4, 5]
    record, server = ask(Reply("Sorry.", status=500, headers={"retry-after-ms": "1"}))
    assert len(server.requests) == 3
    assert record.end["error"] == {
        "code": "MODEL_ERROR",
        "message": "gpt: Sorry (500). It was asked 3 times.",
    }


def test_each_try_is_a_call_of_its_own_and_only_the_last_ones_count(ask):
    record, _ = ask(BUSY, BUSY, Reply("Five."))
    kinds = [event["type"] for event in record.events if event["type"].startswith("llm_")]
    assert [kind for kind in kinds if kind != "llm_chunk"] == [
        *("llm_call", "llm_failed", "llm_retry") * 2,
        *("llm_call", "llm_response"),
    ]
    summary = summarise(record.events)
    assert (summary.llm_calls, summary.total_tokens) == (3, 25)
    assert record.end["status"] == "completed"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "temperature",
            0.25,
            "Unsupported value: 'temperature' does not support 0.25 with this model.",
        ),
        ("top_p", 0.5, "Unsupported parameter: 'top_p' is not supported with this model."),
        ("stop", ["END"], "Unsupported parameter: 'stop' is not supported with this model."),
        (
            "max_tokens",
            77,
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'.",
        ),
        ("seed", 7, "`seed` is deprecated for this model."),
    ],
)
def test_a_setting_that_a_model_does_not_take_is_left_out(engine, tmp_path, setting, value, message):
    with OpenAIServer(Reply(message, status=400), Reply("Five.")) as server:
        models = openai_model(server.url)
        record = engine.run(counting(tmp_path, models, tasks=2, settings={setting: value}))
    check_spans(record)
    assert record.end["status"] == "completed", record.end
    # Once is enough: the second task's call is made without it, too.
    first, *later = server.requests
    assert len(later) == 2
    assert first[setting] == value
    assert all(setting not in request for request in later)
    assert [request.get("max_completion_tokens") for request in later] == [
        77 if setting == "max_tokens" else None
    ] * 2
    (retry,) = record.of("llm_retry")
    assert retry["attempt"] == 2
    assert setting in retry["error"]["message"]


def test_a_setting_that_is_wrong_is_told(ask):
    record, server = ask(Reply("temperature must be between 0 and 1", status=400), temperature=1.5)
    assert len(server.requests) == 1
    assert record.end["error"] == {
        "code": "MODEL_ERROR",
        "message": "gpt: temperature must be between 0 and 1 (400).",
    }


def test_retry_after_is_honoured_in_each_of_its_spellings(ask):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=-5), usegmt=True)
    for headers, wait in (
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "125"}, 0.125),
        ({"retry-after": soon}, 0.0),
    ):
        record, _ = ask(Reply(status=429, headers=headers), Reply("Five."))
        assert record.of("llm_retry")[0]["wait"] == wait
        assert record.end["status"] == "completed"


def test_googles_own_word_for_the_wait_is_honoured(engine, tmp_path):
    with GeminiServer(Reply(status=429, headers={"retryDelay": "0.2s"}), Reply("Five.")) as server:
        record = engine.run(counting(tmp_path, GEMINI.spec(server.url), name="model"))
    assert record.of("llm_retry")[0]["wait"] == 0.2
    assert record.end["status"] == "completed"


def test_a_wait_that_is_too_long_is_not_waited_for(ask):
    record, server = ask(Reply(status=429, headers={"retry-after": "3600"}))
    assert len(server.requests) == 1
    assert record.end["error"] == {
        "code": "RATE_LIMIT",
        "message": "gpt: the provider's rate limit is used up (429). It asks to wait 60 minutes, longer than "
        "a run waits.",
    }


def test_a_quota_that_no_wait_lifts_is_not_waited_for(ask):
    record, server = ask(Reply("Buy more credits.", status=429, code="insufficient_quota"))
    assert len(server.requests) == 1
    assert record.end["error"] == {
        "code": "RATE_LIMIT",
        "message": "gpt: the quota at the provider is used up: Buy more credits.",
    }


def test_an_overloaded_anthropic_is_asked_again_also_where_it_breaks_down_in_a_stream(engine, tmp_path):
    replies = (
        Reply("Overloaded", status=529, headers={"retry-after": "0"}),
        Reply("It is", code="overloaded_error"),
        Reply("It is five."),
    )
    with AnthropicServer(*replies) as server:
        record = engine.run(counting(tmp_path, ANTHROPIC.spec(server.url), name="model"))
    check_spans(record)
    assert record.end["result"].strip() == "It is five."
    assert [event["error"]["code"] for event in record.of("llm_retry")] == ["MODEL_ERROR"] * 2


def test_a_stop_ends_the_wait_at_once(engine, tmp_path):
    with OpenAIServer(Reply(status=429, headers={"retry-after": "100"})) as server:
        record = engine.launch(counting(tmp_path, openai_model(server.url)))
        record.wait_for("llm_retry")
        engine.stop(record)
        # It ends by itself: a run that has to be killed has no status of its own.
        assert record.exited.result(60) == 1
    assert len(server.requests) == 1


def test_a_model_is_not_asked_before_its_provider_lets_other_runs_of_the_key_ask(engine, tmp_path):
    async def begin(spec, record):
        record.handle = await engine.backend.launch(spec, record.take, record.end_with)
        record.handle.send(RunMessage(type="hold", hold={"gpt": 1.0, "another": 3_600.0}))

    with OpenAIServer(Reply("Five.")) as server:
        record, before = Record(), datetime.now(UTC)
        engine.call(begin(counting(tmp_path, openai_model(server.url)), record))
        record.exited.result(60)
    assert record.end["status"] == "completed"
    assert datetime.fromisoformat(record.of("llm_call")[0]["time"]) - before >= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("reply", "stream"),
    [(Reply(hang=True), False), (Reply("Once", hang=True), True)],
    ids=["whole", "stream"],
)
def test_a_stop_ends_a_call_that_hangs_at_once(engine, tmp_path, reply, stream):
    with OpenAIServer(reply) as server:
        record = engine.launch(counting(tmp_path, openai_model(server.url), settings={"stream": stream}))
        assert server.asked.wait(60)
        engine.stop(record)
        # By itself, or by force where there is no processor for it within 300 ms.
        assert record.exited.result(60) in {1, -signal.SIGKILL}
        assert server.gone.wait(60)


# -- fallbacks -------------------------------------------------------------------------------------------


def test_the_next_model_answers_where_the_first_cannot_and_stays(engine, tmp_path):
    with (
        OpenAIServer(Reply("No.", status=401)) as first,
        AnthropicServer(Reply(calls=(("calculator", {"expression": "2 + 3"}),)), Reply("Five.")) as second,
    ):
        models = {**openai_model(first.url), **ANTHROPIC.spec(second.url, "claude")}
        record = engine.run(counting(tmp_path, models, fallbacks=["claude"], tools=["calculator"], tasks=2))
    check_spans(record)
    assert record.end["status"] == "completed"
    assert record.end["result"].strip() == "Five."
    # The second task's agent does not ask the first model again.
    assert (len(first.requests), len(second.requests)) == (1, 3)
    (moved,) = record.of("llm_retry")
    assert (moved["model"], moved["attempt"], moved["wait"]) == ("claude", 1, 0.0)
    assert moved["error"] == {"code": "MODEL_AUTH", "message": "gpt: the provider refused the API key (401)."}
    assert [event["model"] for event in record.of("llm_response")] == ["claude"] * 3
    assert record.of("llm_response")[0]["tool_calls"][0]["name"] == "calculator"


@pytest.mark.parametrize(
    "reply",
    [
        Reply("No such model.", status=404),
        Reply("Sorry.", status=500, headers={"retry-after-ms": "1"}),
        BUSY,
        Reply("Cannot do.", status=400),
        Reply(raw=b"garbage", headers={"retry-after-ms": "1"}),
    ],
    ids=["unknown", "error", "busy", "refused", "garbage"],
)
def test_every_failure_moves_on_to_the_next_model(engine, tmp_path, reply):
    with OpenAIServer(reply) as server:
        record = engine.run(counting(tmp_path, openai_model(server.url), fallbacks=["sandbox"]))
    check_spans(record)
    assert record.end["status"] == "completed"
    assert record.of("llm_retry")[-1]["model"] == "sandbox"
    assert record.of("llm_response")[0]["model"] == "sandbox"


def test_where_no_model_can_all_of_them_say_why(engine, tmp_path):
    with OpenAIServer(Reply("No.", status=404)) as first, AnthropicServer(Reply("No.", status=401)) as second:
        models = {**openai_model(first.url), **ANTHROPIC.spec(second.url, "claude")}
        record = engine.run(counting(tmp_path, models, fallbacks=["claude"]))
    check_spans(record)
    assert record.end["error"] == {
        "code": "MODEL_AUTH",
        "message": "gpt: the provider has no such model (404): No. "
        "claude: the provider refused the API key (401).",
    }
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("t0", "Counter")


def test_a_model_that_has_no_native_tools_is_offered_them_in_words(engine, tmp_path):
    """The model is not given up for it: CrewAI describes the tools in the prompt instead."""
    refusal = Reply("llama3.2 does not support tools", status=400)
    called = Reply('Thought: add\nAction: calculator\nAction Input: {"expression": "2 + 3"}')
    done = Reply("Thought: done\nFinal Answer: Five.")
    with OpenAIServer(refusal, called, done) as server:
        record = engine.run(
            counting(tmp_path, openai_model(server.url), fallbacks=["sandbox"], tools=["calculator"])
        )
    assert record.end["status"] == "completed"
    assert record.end["result"].strip() == "Five."
    # What it was asked first is a call that failed, and is told like any other.
    assert [event["model"] for event in record.of("llm_retry")] == ["gpt"]
    assert record.of("tool_result")[0]["result"] == "5"
