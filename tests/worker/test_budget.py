"""A run ends before the call that would pass its budget, and keeps what it has."""

import pytest

from kasal_jupyter.events.summary import summarise
from kasal_jupyter.schemas.executions import Budget
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply
from tests.worker.providers import PROVIDERS
from tests.worker.test_run import check_spans

AZURE = next(provider for provider in PROVIDERS if provider.name == "azure")
CHEAP = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}


def spec(folder, budget, *, model="gpt", models=None, tasks=3, **fields):
    """Describe a run of one agent with so many tasks, of two calls each."""
    made = crew(
        folder,
        [agent("Counter", model=model, tools=["calculator"], **fields)],
        [task(f"t{at}", "counter", f"Add {at} and one") for at in range(tasks)],
        models=models,
    )
    return made.model_copy(update={"budget": Budget.model_validate(budget)})


def code(record):
    assert record.end["status"] == "failed", record.end
    return record.end["error"]["code"]


def test_tokens_are_bounded_before_the_call_that_would_pass_them(engine, tmp_path):
    with OpenAIServer(Reply("One.", usage=CHEAP), Reply("Two.", usage=CHEAP), Reply("Three.")) as server:
        record = engine.run(spec(tmp_path, {"max_tokens": 390}, models=openai_model(server.url)))
    check_spans(record)
    assert code(record) == "BUDGET_EXCEEDED"
    # The third call's prompt alone would take as much as the provider has counted for those before.
    assert len(server.requests) == len(record.of("llm_call")) == 2
    assert "and 300 of the budget's 390 are used." in record.end["error"]["message"]
    assert record.end["result"].strip() == "Two."
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("t2", "Counter")
    summary = summarise(record.events)
    assert summary.result.strip() == "Two."
    assert summary.error.code == "BUDGET_EXCEEDED"
    assert (summary.total_tokens, summary.tasks_done) == (300, 2)


def test_the_longest_answer_that_is_allowed_counts_beforehand(engine, tmp_path):
    with OpenAIServer(Reply("One.", usage=CHEAP)) as server:
        models = openai_model(server.url)
        record = engine.run(
            spec(tmp_path, {"max_tokens": 5_000}, models=models, settings={"max_tokens": 6_000})
        )
    assert code(record) == "BUDGET_EXCEEDED"
    assert server.requests == []
    assert "result" not in record.end


def test_what_a_provider_does_not_count_is_estimated(engine, tmp_path):
    with OpenAIServer(Reply("One.", usage=None)) as server:
        record = engine.run(spec(tmp_path, {"max_tokens": 700}, models=openai_model(server.url), tasks=9))
    assert code(record) == "BUDGET_EXCEEDED"
    assert 0 < len(server.requests) < 9
    assert record.of("llm_response")[0]["usage"] is None


def test_dollars_are_bounded(engine, tmp_path):
    # Of gpt-4o-mini, such a call costs $0.000045.
    with AZURE.server(Reply("One.", usage=CHEAP)) as server:
        record = engine.run(
            spec(tmp_path, {"max_cost": 0.0001}, model="model", models=AZURE.spec(server.url))
        )
    check_spans(record)
    assert code(record) == "BUDGET_EXCEEDED"
    assert len(server.requests) == 2
    assert "$9e-05 of the budget's $0.0001 is spent" in record.end["error"]["message"]


def test_a_price_that_nobody_knows_is_no_free_call(engine, tmp_path):
    with OpenAIServer(Reply("One.")) as server:
        record = engine.run(spec(tmp_path, {"max_cost": 100}, models=openai_model(server.url)))
    assert code(record) == "BUDGET_EXCEEDED"
    assert record.end["error"]["message"] == "What gpt costs is unknown, and the budget is $100; $0 is spent."
    assert server.requests == []


def test_what_others_share_is_reserved_before_each_call_and_let_go_behind_it(engine, tmp_path):
    shared = {"allowances": ["batch_1"], "budget": None}
    with AZURE.server(Reply("One.", usage=CHEAP), Reply(status=401), Reply("Two.", usage=CHEAP)) as server:
        made = spec(tmp_path, {}, model="model", models=AZURE.spec(server.url))
        record = engine.run(
            made.model_copy(update=shared),
            refuses=lambda wish: "The batch has no more." if wish.reserve == 2 else None,
        )
    check_spans(record)
    assert record.end["error"] == {"code": "BUDGET_EXCEEDED", "message": "The batch has no more."}
    assert len(server.requests) == 1
    asked, used, refused, left = record.wishes
    # What a prompt may cost is reserved; behind the call stands what it has cost.
    assert (asked.reserve, asked.model, asked.priced) == (1, "model", True)
    assert asked.reserved == asked.expected
    assert asked.expected.cost > 0 == asked.used.cost
    assert (used.reserve, used.used.tokens, used.reserved.tokens) == (0, 150, 0)
    assert round(used.used.cost, 9) == 0.000045
    assert (refused.reserve, refused.used, left.used, left.reserved.tokens) == (2, used.used, used.used, 0)


def test_a_run_within_its_budget_is_not_touched(engine, tmp_path):
    budget = {"max_tokens": 100_000, "max_cost": 1.0, "max_seconds": 300}
    record = engine.run(spec(tmp_path, budget, model="sandbox"))
    check_spans(record)
    assert record.end["status"] == "completed"


@pytest.mark.parametrize(
    "replies",
    [
        (Reply("One."), Reply(hang=True)),
        (Reply("One."), Reply(status=429, headers={"retry-after": "100"})),
    ],
    ids=["in a call", "in a wait"],
)
def test_seconds_end_a_call_and_a_wait_at_once(engine, tmp_path, replies):
    with OpenAIServer(*replies) as server:
        models = openai_model(server.url)
        record = engine.run(spec(tmp_path, {"max_seconds": 1.5}, models=models, settings={"stream": False}))
    check_spans(record)
    assert record.end["error"] == {
        "code": "BUDGET_EXCEEDED",
        "message": "The 1.5 seconds of the budget are over.",
    }
    assert record.end["result"].strip() == "One."
    assert record.exited.result(0) == 0


def test_seconds_end_a_tool_that_is_at_work(engine, tmp_path):
    wait = Reply(calls=(("wait", {"seconds": 60}),))
    with OpenAIServer(wait) as server:
        made = spec(tmp_path, {"max_seconds": 1}, models=openai_model(server.url))
        waiter = made.agents[0].model_copy(update={"tools": ["wait"]})
        record = engine.run(made.model_copy(update={"agents": [waiter, *made.agents[1:]]}))
    check_spans(record)
    assert code(record) == "BUDGET_EXCEEDED"
    assert record.of("tool_failed")
