"""What model calls cost, from the tokens that a provider counts to the events of the run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kasal_jupyter.events.summary import summarise
from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, task
from tests.servers.openai_server import USAGE, OpenAIServer, Reply
from tests.shared_zygote import WARM

SCRIPT = """
import contextvars, json, os, socket, sys
from pathlib import Path
from kasal_jupyter.worker.process.setup import import_crewai
import_crewai(Path(sys.argv[1]))
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.worker.crew.client_tool import ClientCalls
from kasal_jupyter.worker.process.outbox import Outbox
from kasal_jupyter.worker.process.run import execute
from kasal_jupyter.worker.crew.spans import Spans
from kasal_jupyter.worker.process.stop import StopSignal
from kasal_jupyter.worker.process.warm import warm_up

warm_up()
loaded = "genai_prices.data" in sys.modules
# Where OpenAI's client finds its server when none is named: as a gateway to OpenAI would stand there.
os.environ["OPENAI_BASE_URL"] = sys.argv[2]

def run(spec):
    ours, theirs = socket.socketpair()
    theirs.setblocking(True)
    outbox, stop = Outbox(ours), StopSignal()
    contextvars.Context().run(execute, spec, outbox, stop, ClientCalls(Spans(outbox), stop))
    outbox.close(timeout=10)
    ours.close()
    received = bytearray()
    while data := theirs.recv(65536):
        received.extend(data)
    return [json.loads(line) for line in received.splitlines()]

specs = [RunSpec.model_validate(spec) for spec in json.load(sys.stdin)]
Path(sys.argv[3]).write_text(json.dumps({"loaded": loaded, "runs": [run(spec) for spec in specs]}))
os._exit(0)
"""

CALL = Reply(calls=(("calculator", {"expression": "2 + 3"}),))

PRICE = (12 * 0.15 + 8 * 0.075 + 5 * 0.60) / 1_000_000
"""Of gpt-4o-mini, for what the server counts: 20 tokens read, 8 of which it had cached, and 5 written."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Run crews on models whose price is known, unknown, and nothing."""
    folder = tmp_path_factory.mktemp("cost")
    model = {"provider": "openai", "model": "gpt-4o-mini", "api_key": "sk-test-1234567890"}
    models = {
        "known": {"name": "known", **model},
        "unknown": {"name": "unknown", **model, "model": "a-model-that-nobody-knows"},
    }

    def spec(name, *by):
        agents = [agent(role, model=used, tools=["calculator"]) for role, used in by]
        tasks = [task(role, role.lower(), f"Count for {role}") for role, _ in by]
        return crew(folder / name, agents, tasks, models=models)

    specs = [
        spec("known", ("One", "known"), ("Two", "known")),
        spec("mixed", ("One", "known"), ("Two", "unknown")),
        spec("uncounted", ("One", "known")),
        spec("sandbox", ("One", "sandbox")),
    ]
    replies = [CALL, Reply("Five."), Reply("Ten."), Reply("Five."), Reply("Ten."), Reply("?", usage=None)]
    with OpenAIServer(*replies) as server:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder), server.url, str(folder / "told.json")],
            input=json.dumps([each.model_dump(mode="json") for each in specs]).encode(),
            env={name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
            | {WARM: "import_crewai"},
            cwd=Path(__file__).parents[2],
            check=True,
        )
    return json.loads((folder / "told.json").read_text())


def costs(run):
    return [event["cost"] for event in run if event["type"] == "llm_response"]


def test_a_call_costs_its_tokens_at_the_models_price_cached_ones_at_theirs(told):
    known = told["runs"][0]
    assert known[-1]["status"] == "completed"
    assert costs(known) == pytest.approx([PRICE] * 3)
    assert {event["usage"]["cached_tokens"] for event in known if event["type"] == "llm_response"} == {
        USAGE["prompt_tokens_details"]["cached_tokens"]
    }
    assert summarise(known).usage().cost == pytest.approx(3 * PRICE)


def test_costs_add_up_from_the_calls_to_the_tasks(told):
    known = build_trace(told["runs"][0])
    assert [task.cost for task in known.roots] == pytest.approx([2 * PRICE, PRICE])
    mixed = build_trace(told["runs"][1])
    assert [task.cost for task in mixed.roots] == [pytest.approx(PRICE), None]


def test_one_unknown_price_makes_the_runs_cost_unknown(told):
    mixed = told["runs"][1]
    assert mixed[-1]["status"] == "completed"
    assert costs(mixed) == [pytest.approx(PRICE), None]
    assert summarise(mixed).usage().cost is None


def test_tokens_that_were_not_counted_have_an_unknown_cost(told):
    uncounted = told["runs"][2]
    assert uncounted[-1]["status"] == "completed"
    assert costs(uncounted) == [None]


def test_the_sandbox_model_costs_nothing(told):
    sandbox = told["runs"][3]
    assert set(costs(sandbox)) == {0.0}
    assert summarise(sandbox).usage().cost == 0.0


def test_the_prices_are_loaded_before_there_are_runs(told):
    """A run that had to load them itself would be late by a tenth of a second."""
    assert told["loaded"]
