"""The events of a run against CrewAI's own accounts, in a process that can see both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import agent, crew, task
from tests.shared_zygote import WARM

SCRIPT = """
import contextvars, json, socket, sys, threading
from pathlib import Path
from kasal_jupyter.worker.process.setup import import_crewai
import_crewai(Path(sys.argv[1]))
from crewai.events.stream_context import add_stream_sink
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.worker.crew.build import build_crew
from kasal_jupyter.worker.process.outbox import Outbox
from kasal_jupyter.worker.crew.report import Report
from kasal_jupyter.worker.crew.spans import Spans
from kasal_jupyter.worker.process.stop import StopSignal

def run(spec):
    ours, theirs = socket.socketpair()
    outbox = Outbox(ours)
    built = build_crew(spec, StopSignal())
    def kickoff():
        add_stream_sink(Report(built, Spans(outbox)))
        return built.crew.kickoff()
    received = bytearray()
    def read():
        while data := theirs.recv(65536):
            received.extend(data)
    reading = threading.Thread(target=read)
    reading.start()
    usage = contextvars.Context().run(kickoff).token_usage
    outbox.close(10)
    ours.close()
    reading.join()
    return {"usage": usage.model_dump(), "events": [json.loads(line) for line in received.splitlines()]}

specs = [RunSpec.model_validate(spec) for spec in json.load(sys.stdin)]
json.dump([run(spec) for spec in specs], sys.stderr)
sys.stderr.flush()
import os
os._exit(0)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    specs = [
        crew(
            folder / "manager",
            [agent("Writer", tools=["calculator"]), agent("Reader", tools=["file_reader"])],
            [task("a", None, "Write a poem"), task("b", "reader", "Read it", ("a",))],
            process="hierarchical",
        ),
        crew(
            folder / "aside",
            [agent("Runner", tools=["calculator"], sandbox={"latency": 0.05, "tool_calls": "react"})],
            [
                *(task(name, "runner", f"Run {name}", async_execution=True) for name in ("x", "y")),
                task("z", "runner", "Rest", ("x", "y")),
            ],
        ),
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        input=json.dumps([spec.model_dump(mode="json") for spec in specs]).encode(),
        env=os.environ | {WARM: "import_crewai"},
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return json.loads(done.stderr.splitlines()[-1])


def test_the_usage_of_all_model_calls_is_the_crews(runs):
    for run in runs:
        responses = [event for event in run["events"] if event["type"] == "llm_response"]
        assert run["usage"]["successful_requests"] == len(responses) > 4
        for part in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert sum(event["usage"][part] for event in responses) == run["usage"][part] > 0


def test_async_tasks_have_spans_of_their_own(runs):
    spans = {event["span_id"]: event for event in runs[1]["events"] if "parent_id" in event}
    for event in runs[1]["events"]:
        if event.get("parent_id") is not None:
            assert spans[event["parent_id"]]["task_id"] == event["task_id"]
    opened = [event["task_id"] for event in runs[1]["events"] if event["type"] == "tool_call"]
    assert sorted(opened) == ["x", "y", "z"]
