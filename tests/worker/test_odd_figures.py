"""What providers count is theirs to say: where it makes no sense it is unknown, and the answer is good."""

import math

import pytest

from kasal_jupyter.events.summary import summarise
from tests.engine import agent, crew, task
from tests.servers.model_server import Reply
from tests.worker.providers import PROVIDERS
from tests.worker.test_run import check_spans

ODD = {
    "none at all": lambda _counts: None,
    "empty": lambda _counts: {},
    "negative": lambda counts: _each(counts, -7),
    "huge": lambda counts: _each(counts, 10**30),
    "beyond a double": lambda counts: _each(counts, 10**400),
    "words": lambda counts: _each(counts, "many"),
    "fractions": lambda counts: _each(counts, 1.5),
    "not a number": lambda counts: _each(counts, math.nan),
    "infinite": lambda counts: _each(counts, math.inf),
    "true": lambda counts: _each(counts, True),
    "null": lambda counts: _each(counts, None),
    "nested": lambda counts: _each(counts, {"tokens": 3}),
    "lists": lambda counts: _each(counts, [3]),
    "no object": lambda _counts: "many",
}


def _each(counts, value):
    return {name: _each(count, value) if isinstance(count, dict) else value for name, count in counts.items()}


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_an_answer_whose_counts_make_no_sense_is_good_and_is_asked_for_once(engine, tmp_path, provider):
    """Streamed and whole."""
    ways = [(name, by) for by in ("streaming", "whole") for name in ODD]
    with provider.server(*(Reply("Five.", counts=ODD[name]) for name, _ in ways)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [
                    agent(by, model="model", settings={"stream": by == "streaming"})
                    for by in ("streaming", "whole")
                ],
                [task(f"t{at}", by, "Add two and three") for at, (_, by) in enumerate(ways)],
                models=provider.spec(server.url),
            )
        )
    check_spans(record)
    assert record.end["status"] == "completed", record.end
    assert len(server.requests) == len(ways)
    told = dict(zip(ways, (event["usage"] for event in record.of("llm_response")), strict=True))
    # The SDKs make integers of what can be one: 1 of true.
    assert {usage["total_tokens"] for usage in told.values() if usage is not None} <= {1, 4}, told
    for name in ("empty", "negative", "huge"):
        assert told[name, "streaming"] is told[name, "whole"] is None
    assert summarise(record.events).total_tokens <= 16
