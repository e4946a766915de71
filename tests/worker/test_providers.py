"""Crews on each provider's models: CrewAI's own provider, the provider's SDK, a real server on loopback.

For each provider one crew goes through all that a server may answer, a task for each, once streamed and once
whole; the tests look at what became of their task.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from kasal_jupyter.executions.backends.zygote import Zygote
from tests.engine import agent, borrowed_zygotes, crew, task, warm_engine
from tests.servers.model_server import Reply
from tests.servers.shapes import WRONG
from tests.worker.faulty_zygote import STUMBLES
from tests.worker.providers import KEY, PROVIDERS
from tests.worker.test_run import OUTPUT, check_spans

CALL = Reply(calls=(("calculator", {"expression": "2 + 3"}),))
# Of servers that speak OpenAI's own API, test_answers.py and test_texts.py show the same.
OTHERS = [provider for provider in PROVIDERS if provider.name not in {"openai", "ollama"}]
each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
each_other = pytest.mark.parametrize("provider", OTHERS, ids=lambda provider: provider.name)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

REFUSALS = {
    "openai": (401, 404, None),
    "ollama": (401, 404, None),
    "azure": (401, 404, None),
    "anthropic": (401, 404, None),
    # Google answers a wrong key with 400.
    "gemini": (400, 404, "API_KEY_INVALID"),
    "bedrock": (403, 404, None),
}
"""The statuses of a refused key and of an unknown model."""

TOO_LONG = {
    "openai": (400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
    "ollama": (400, "the input length exceeds the context length", None),
    "azure": (400, "This model's maximum context length is 8192 tokens.", "context_length_exceeded"),
    "anthropic": (400, "prompt is too long: 210000 tokens > 200000 maximum", None),
    "gemini": (400, "The input token count (2000000) exceeds the maximum number of tokens allowed.", None),
    "bedrock": (400, "Input is too long for requested model.", None),
}

WRITTEN = {"title": "Dune", "score": 8, "tags": ["red"], "author": {"name": "Herbert"}}

NO_FORM = {
    "azure": "'response_format' of type 'json_schema' is not supported.",
    "anthropic": "output_format: Extra inputs are not permitted",
    "gemini": "JSON mode is not enabled for models/gemini-2.5-flash",
    "bedrock": "This model doesn't support tool use.",
}
"""How they refuse to answer with an object."""

ADDRESSES = {name: wrong for name, wrong in WRONG.items() if wrong.requests == 1 and not wrong.shape.pieces}

SETTINGS = {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "seed": 11, "stop": ["END"]}


@dataclass
class Step:
    """A task of the crew: what its model's server answers, and by whom it is done.

    An agent of its own is one that does nothing else, in whose place the sandbox goes on in the end.
    """

    name: str
    replies: tuple[Reply, ...]
    by: str = "plain"
    own: dict[str, Any] = field(default_factory=dict)
    schema: dict[str, Any] | None = None


def own(name: str, *replies: Reply, model: str = "model", **fields: Any) -> Step:
    return Step(name, replies, name, {"model": model, "fallbacks": ["sandbox"], **fields})


def steps_of(provider) -> list[Step]:
    refused, unknown, code = REFUSALS[provider.name]
    status, text, word = TOO_LONG[provider.name]
    steps = [
        Step("tool", (CALL, Reply("It is five.")), "counter"),
        own("settings", Reply("Done."), settings=SETTINGS),
        Step("key", (Reply(f"It is {' and '.join(secrets_of(provider))}."),)),
        own("refused", Reply("API key not valid.", status=refused, code=code)),
        own("unknown", Reply("There is no such model.", status=unknown)),
        Step("long", (Reply(text, status=status, code=word), Reply("A summary."), Reply("Five."))),
        Step("500", (Reply("Sorry.", status=500), Reply("Done."))),
        Step("503", (Reply("Sorry.", status=503), Reply("Done."))),
        Step("busy", (Reply("Slow down.", status=429, headers={"retry-after": "0"}), Reply("Done."))),
        own("garbage", *[Reply(raw=b"data: {<html>\x00\xff garbage\n\n")] * 3),
        Step("cut", (Reply("Once upon a", cut=True), Reply("The end."))),
    ]
    if provider not in OTHERS:
        return steps
    beside = Reply("Let me add.", thought="Two and three.", calls=CALL.calls)
    # Amazon's models give an object with a tool.
    called = Reply(calls=(("structured_output", WRITTEN),))
    given = called if provider.name == "bedrock" else Reply(json.dumps(WRITTEN))
    in_words = Reply(f"Here it is: {json.dumps(WRITTEN)}")
    steps += [
        Step("beside", (beside, Reply("It is five.", thought="So it is.")), "counter"),
        # That it gives no object is remembered of a model: it is another.
        Step("object", (given,), "judge", {"model": "judging"}, OUTPUT),
        Step("no object", (Reply(NO_FORM[provider.name], status=400), in_words), "judge", {}, OUTPUT),
        *(own(name, Reply(shape=wrong.shape)) for name, wrong in ADDRESSES.items()),
        own("somebody else's", Reply(shape=ADDRESSES["a page"].shape), model="theirs"),
    ]
    if provider.name == "anthropic":
        steps.append(Step("older", (called,), "older", {"model": "older"}, OUTPUT))
    return steps


def secrets_of(provider) -> list[str]:
    return [secret for secret in (provider.key, provider.options.get("aws_secret_access_key")) if secret]


class Walk:
    """What became of the steps: their events, and what the server was asked."""

    def __init__(self, record, server, steps):
        self.record, self.root, self.keys = record, server.root, server.keys
        self._server = server
        self._spans = {event["span_id"]: event.get("task_id") for event in record.of("llm_call")}
        self._tasks = {f"t{at}": step.name for at, step in enumerate(steps)}

    def of(self, step, kind=None):
        """Give a step's events, of a type."""
        return [
            event
            for event in self.record.events
            if kind in {None, event["type"]}
            and self._tasks.get(event.get("task_id") or self._spans.get(event.get("span_id"))) == step
        ]

    def asked(self, step):
        """Give what was asked, and at which path, for a step: its task says its name."""
        return [
            (request, path)
            for request, path in zip(self._server.requests, self._server.paths, strict=True)
            if f"({step})" in json.dumps(request)
        ]

    def requests(self, step):
        return [request for request, _ in self.asked(step)]

    def result(self, step):
        (done,) = self.of(step, "task_complete")
        return done["result"].strip()

    def error(self, step):
        """Give why the model of a step was given up."""
        return self.of(step, "llm_failed")[-1]["error"]


@pytest.fixture(scope="module")
def walk(engine, tmp_path_factory):
    """Have a provider's crew go through all steps, once."""

    @cache
    def walked(name, stream):
        (provider,) = (each for each in PROVIDERS if each.name == name)
        steps = steps_of(provider)
        agents = {
            "counter": agent("counter", model="model", tools=["calculator"]),
            "plain": agent("plain", model="model"),
        }
        for step in steps:
            agents.setdefault(step.by, agent(step.by, **step.own))
        for each in agents.values():
            each["settings"] = {**each.get("settings", {}), "stream": stream}
        tasks = [
            {
                **task(
                    f"t{at}", step.by.lower(), f"Add two and three ({step.name})", output_schema=step.schema
                ),
                "context_tasks": [],
            }
            for at, step in enumerate(steps)
        ]
        with provider.server(*(reply for step in steps for reply in step.replies)) as server:
            names = ("model", "judging", "theirs", "older")
            models = {name: provider.spec(server.url, name)[name] for name in names}
            models["theirs"]["address_set_by"] = "the administrator's setting of here"
            models["older"]["model"] = "claude-3-haiku-20240307"
            folder = tmp_path_factory.mktemp(provider.name)
            record = engine.run(crew(folder, list(agents.values()), tasks, models=models))
        check_spans(record)
        assert record.end["status"] == "completed", record.end
        assert len(server.requests) == sum(len(step.replies) for step in steps)
        return Walk(record, server, steps)

    return lambda provider, stream: walked(provider.name, stream)


@each_provider
@both_ways
def test_a_crew_calls_a_tool_natively_and_answers(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.result("tool") == "It is five."
    assert len(walked.requests("tool")) == 2
    first, last = walked.of("tool", "llm_response")
    (call,) = first["tool_calls"]
    assert (call["name"], call["arguments"]) == ("calculator", '{"expression": "2 + 3"}')
    assert first["text"] is None
    assert walked.of("tool", "tool_result")[0]["result"] == "5"
    chunks = "".join(event["text"] for event in walked.of("tool", "llm_chunk"))
    assert chunks.strip() == ("It is five." if stream else "")
    assert last["model"] == "model"
    assert last["usage"] == provider.usage
    assert last["finish_reason"]


@each_provider
@both_ways
def test_the_agents_settings_reach_the_server_in_its_own_spelling(walk, provider, stream):
    (request,) = walk(provider, stream).requests("settings")
    sent = provider.sent(request)
    assert {name: sent.get(name) for name in provider.settings} == provider.settings
    assert "END" in str(request)


@each_provider
@both_ways
def test_the_key_is_sent_and_is_in_no_event(walk, provider, stream):
    walked = walk(provider, stream)
    if provider.key:
        assert KEY in walked.keys[0]
    for hidden in secrets_of(provider):
        assert not [line for line in walked.record.raw if hidden.encode() in line]


@each_provider
@both_ways
def test_a_refused_key_and_an_unknown_model_are_told_apart_at_once(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.error("refused")["code"] == "MODEL_AUTH"
    assert "refused the API key" in walked.error("refused")["message"]
    assert walked.error("unknown") == {
        "code": "MODEL_NOT_FOUND",
        "message": "model: the provider has no such model (404): There is no such model.",
    }
    assert len(walked.requests("refused")) == len(walked.requests("unknown")) == 1


@each_provider
@both_ways
def test_a_conversation_that_is_too_long_is_summarised(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.of("long", "llm_failed")[0]["error"] == {
        "code": "CONTEXT_OVERFLOW",
        "message": "model: the prompt is longer than the model takes.",
    }
    assert walked.of("long", "llm_retry") == []
    assert walked.result("long") == "Five."


@each_provider
@both_ways
@pytest.mark.parametrize("status", ["500", "503"])
def test_an_error_of_the_server_passes(walk, provider, stream, status):
    walked = walk(provider, stream)
    assert walked.result(status) == "Done."
    assert len(walked.requests(status)) == 2
    (again,) = walked.of(status, "llm_retry")
    (failed,) = walked.of(status, "llm_failed")
    assert (again["model"], again["attempt"]) == ("model", 2)
    assert 0.3 < again["wait"] < 0.7
    assert again["error"] == failed["error"]
    assert again["error"]["code"] == "MODEL_ERROR"
    assert again["span_id"] == failed["span_id"]


@each_provider
@both_ways
def test_a_rate_limit_is_waited_for_as_long_as_the_provider_says(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.result("busy") == "Done."
    assert len(walked.requests("busy")) == 2
    (again,) = walked.of("busy", "llm_retry")
    assert again["wait"] == 0.0
    assert again["error"] == {
        "code": "RATE_LIMIT",
        "message": "model: the provider's rate limit is used up (429).",
    }


@each_provider
@both_ways
def test_garbage_is_no_answer(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.error("garbage")["code"] in {"MODEL_ERROR", "MODEL_UNREACHABLE"}
    assert walked.error("garbage")["message"].startswith("model: ")
    assert len(walked.requests("garbage")) == 3


@each_provider
@both_ways
def test_an_answer_that_breaks_off_is_asked_for_again(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.result("cut") == "The end."
    (failed,) = walked.of("cut", "llm_failed")
    assert failed["error"]["code"] in {"MODEL_UNREACHABLE", "MODEL_ERROR"}
    assert len(walked.requests("cut")) == 2


@each_provider
def test_the_timeout_is_for_the_whole_call(engine, tmp_path, provider):
    """Whether the server is silent, is stuck in the middle, or drips."""
    hung = [(Reply(hang=True), False), (Reply("Once upon", hang=True), True), (Reply("Drip", drip=0.1), True)]
    with provider.server(*(reply for reply, _ in hung)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [
                    agent(
                        f"A{at}",
                        model="model",
                        fallbacks=["sandbox"],
                        settings={"timeout": 1, "stream": stream},
                    )
                    for at, (_, stream) in enumerate(hung)
                ],
                [task(f"t{at}", f"a{at}", "Add two and three") for at in range(len(hung))],
                models=provider.spec(server.url),
            )
        )
        for _ in hung:
            assert server.departed.acquire(timeout=20), "a connection was left open"
    check_spans(record)
    assert [event["error"] for event in record.of("llm_failed")] == [
        {"code": "MODEL_TIMEOUT", "message": "model: no answer within the time allowed."}
    ] * len(hung)
    # Once each: nobody waits as long a second time.
    assert len(server.requests) == len(hung)


@each_other
@both_ways
def test_what_is_said_and_thought_beside_a_call_is_kept_and_the_words_are_sent_on(walk, provider, stream):
    walked = walk(provider, stream)
    first, last = walked.of("beside", "llm_response")
    assert first["text"].strip() == "Let me add."
    assert [each["reasoning"].strip() for each in (first, last)] == ["Two and three.", "So it is."]
    sent = json.dumps(walked.requests("beside")[1])
    assert "Let me add." in sent
    assert "Two and three." not in sent
    chunks = "".join(event["text"] for event in walked.of("beside", "llm_chunk"))
    assert chunks.split() == (["Let", "me", "add.", "It", "is", "five."] if stream else [])


@each_other
@both_ways
def test_an_object_is_asked_for_in_the_providers_way_and_in_words_where_it_is_refused(walk, provider, stream):
    walked = walk(provider, stream)
    for step in ("object", "no object"):
        assert walked.of(step, "task_complete")[0]["structured"] == WRITTEN
    asked, again, in_words = (
        json.dumps(request) for step in ("object", "no object") for request in walked.requests(step)
    )
    assert "author" in asked
    assert "JSON schema" not in asked + again
    assert "JSON schema" in in_words
    assert not in_words.count("structured_output") + in_words.count("output_format")


@both_ways
def test_an_older_model_of_anthropics_gives_an_object_with_a_tool(walk, stream):
    (anthropic,) = (provider for provider in PROVIDERS if provider.name == "anthropic")
    walked = walk(anthropic, stream)
    assert walked.of("older", "task_complete")[0]["structured"] == WRITTEN
    (request,) = walked.requests("older")
    assert request["tool_choice"] == {"type": "tool", "name": "structured_output"}


@each_other
@both_ways
def test_a_wrong_address_is_named_with_what_the_server_there_says(walk, provider, stream):
    walked = walk(provider, stream)
    for name, wrong in ADDRESSES.items():
        ((_, path),) = walked.asked(name)
        error = walked.error(name)
        assert (name, error["code"]) == (name, wrong.code)
        assert f"{walked.root}{path.partition('?')[0]}" in error["message"], name
        assert wrong.words in error["message"], name


@each_other
@both_ways
def test_an_address_of_somebody_elses_is_told_by_what_has_set_it(walk, provider, stream):
    walked = walk(provider, stream)
    assert walked.error("somebody else's")["message"].startswith(
        "theirs: the address from the administrator's setting of here sent no model's answer: it is a web "
    )
    assert str(walked.root) not in json.dumps(walked.of("somebody else's"))


@pytest.fixture(scope="module")
def faulty_engine(tmp_path_factory):
    """A backend whose runs fail in our own code, as their topic says."""
    with pytest.MonkeyPatch.context() as patch, borrowed_zygotes():
        patch.setattr(Zygote, "program", "tests.worker.faulty_zygote")
        with warm_engine(tmp_path_factory.mktemp("faulty")) as running:
            yield running


@each_provider
@both_ways
def test_an_error_of_our_own_is_not_blamed_on_the_provider(faulty_engine, tmp_path, provider, stream):
    number = (PROVIDERS.index(provider) * 2 + stream) % len(STUMBLES)
    with provider.server(Reply("It is five.")) as server:
        record = faulty_engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="model", settings={"stream": stream})],
                [task("t", "counter", "Add two and three")],
                models=provider.spec(server.url),
                inputs={"topic": f"stumble {number}"},
            )
        )
    assert record.end["error"]["code"] == "INTERNAL_ERROR", (STUMBLES[number], record.end)
    assert record.end["error"]["message"].startswith("The call of model could not be made: ")
    # Nobody pays a second time for what no second answer mends.
    assert len(server.requests) == 1
