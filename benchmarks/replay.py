"""What it costs to record a run, and how fast a recorded one is replayed.

``python benchmarks/replay.py`` prints a table.

- *live*: a crew of ten tasks whose agent calls a tool nine times in each, and then answers: 100 calls of a
  model that takes 200 ms, from the launch to the end;
- *replay*: the same crew with that run's journal for its source, and no model;
- *recording*: what it takes to tell a run's calls apart, against the CPU of the whole run;
- *journal*: the bytes of a run whose one agent calls a tool again and again, up to 100 times in a task, and
  what they would be if each call said again what was said before;
- *once*: a run that was asked for before, from the request to the answer, as a client of a server sees it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import orjson
import psutil

from kasal_jupyter.cli.demo import ServerProcess
from kasal_jupyter.client.client import Client
from kasal_jupyter.events.prompts import Prompts
from kasal_jupyter.executions.backends.backend import Exit
from kasal_jupyter.executions.backends.local import LocalBackend
from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.spec import RunSource, RunSpec
from kasal_jupyter.schemas.tasks import CrewTask

TIME = "2024-01-15T10:30:00Z"
TURNS = 10
"""Calls of the model in each task."""

TARGETS = "targets: 20 times, 3 %, 50 ms"


class _Model(BaseHTTPRequestHandler):
    """Calls the calculator until it was called often enough in its conversation, and answers then."""

    seconds: ClassVar[float] = 0.2
    turns: ClassVar[int] = TURNS
    asked: ClassVar[int] = 0
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.seconds)
        type(self).asked += 1
        called = sum(message["role"] == "tool" for message in asked["messages"])
        if called < self.turns - 1:
            arguments = json.dumps({"expression": f"{called} + 1"})
            function = {"name": "calculator", "arguments": arguments}
            message = {"tool_calls": [{"id": f"call_{called}", "type": "function", "function": function}]}
        else:
            message = {"content": "It was counted to nine. " * 40}
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1_000, "completion_tokens": 50, "total_tokens": 1_050}
        said = json.dumps({"id": "1", "model": "m", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def model() -> Iterator[str]:
    """Serve the model; give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def spec(folder: Path, url: str, tasks: int, source: RunSource | None = None) -> RunSpec:
    """Describe a crew of one agent and so many tasks."""
    folder.mkdir(parents=True)
    owned = {"owner": "benchmark", "created_at": TIME, "updated_at": TIME}
    of_crew = {"crew_id": "crew_1", **owned}
    agent = {
        "id": "counter",
        "name": "Counter",
        "position": 0,
        "role": "Counter",
        "goal": "Count what there is to be counted",
        "backstory": "You know your trade.",
        "model": "gpt",
        "tools": ["calculator"],
        "settings": {"stream": False},
        "max_iter": 2 * _Model.turns,
        **of_crew,
    }
    return RunSpec.model_validate(
        {
            "job_id": folder.name,
            "crew": {"id": "crew_1", "name": "Benchmark", "process": "sequential", **owned},
            "agents": [agent],
            "tasks": [
                {
                    "id": f"task_{at}",
                    "agent_id": "counter",
                    "position": at,
                    "description": f"Count to nine for the {at}. time",
                    "expected_output": "What you have counted",
                    "context_tasks": [f"task_{at - 1}"] if at else [],
                    "context_texts": [],
                    **of_crew,
                }
                for at in range(tasks)
            ],
            "inputs": {},
            "models": {"gpt": {"name": "gpt", "provider": "openai", "model": "gpt-4o-mini", "base_url": url}},
            "manager_model": None,
            "folder": str(folder),
            "source": source,
        }
    )


class Run:
    """A run, timed from its launch to its last event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.lines: list[bytes] = []
        self._prompts = Prompts(lambda _span: None, most=inf, calls=inf)
        self.seconds = self.cpu = 0.0
        self._began = time.perf_counter()
        self._exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @classmethod
    async def of(cls, backend: LocalBackend, described: RunSpec) -> Run:
        """Do a run."""
        run = cls()
        handle = await backend.launch(described, run._take, run._exited.set_result)
        # Its children that are gone count with the zygote.
        zygote = psutil.Process(psutil.Process(handle.pid).ppid())
        before = sum(zygote.cpu_times()[:4])
        await run._exited
        run.cpu = sum(zygote.cpu_times()[:4]) - before
        assert run.events[-1].get("status") == "completed", run.events[-1]
        return run

    def _take(self, lines: list[bytes]) -> None:
        self.seconds = time.perf_counter() - self._began
        self.lines += lines
        self.events += [self._prompts.event(orjson.loads(line)) for line in lines]

    def journal(self, path: Path) -> RunSource:
        """Write the journal, as a server does."""
        path.write_bytes(b"".join(line + b"\n" for line in self.lines))
        return RunSource(verb="replay", job_id=path.stem, journal=str(path))

    def count(self, kind: str) -> int:
        """Count the events of a type."""
        return sum(event["type"] == kind for event in self.events)


def telling_apart(folder: Path, described: RunSpec, events: list[dict[str, Any]]) -> float:
    """Give the CPU seconds that it takes to tell a run's calls apart, and to name what was said before."""
    from kasal_jupyter.worker.process.setup import import_crewai

    import_crewai(folder)
    from kasal_jupyter.tools.tool import find_tool
    from kasal_jupyter.worker.crew.record import RunRecord
    from kasal_jupyter.worker.process.outbox import encode
    from kasal_jupyter.worker.process.said_once import SaidOnce
    from kasal_jupyter.worker.process.stop import StopSignal

    tool = find_tool("calculator")
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    nowhere = cast("Any", SimpleNamespace(around=lambda: None))
    record = RunRecord(described, nowhere, StopSignal(), lambda _question: "", lambda: True)
    said = SaidOnce(encode, lambda line: line)
    began = time.process_time()
    for event in events:
        said.named(event)
        if event["type"] == "llm_call":
            asked = {"tools": [{"type": "function", "function": function}], "form": None, "settings": {}}
            record.model({"model": event["model"], "messages": event["messages"], **asked}, ["gpt"])
        elif event["type"] == "tool_call":
            record.tool_key(event["tool"], event["arguments"])
    return time.process_time() - began


async def measure(backend: LocalBackend, folder: Path, tasks: int, rounds: int) -> dict[str, float]:
    """Take the figures of runs and their replays."""
    with model() as url:
        live = await Run.of(backend, spec(folder / "job_live", url, tasks))
        _Model.seconds = 0.0
        cpu = statistics.median(
            [(await Run.of(backend, spec(folder / f"job_cpu{at}", url, tasks))).cpu for at in range(rounds)]
        )
        asked = _Model.asked
        source = live.journal(folder / "job_live.jsonl")
        replays = [
            await Run.of(backend, spec(folder / f"job_replay{at}", url, tasks, source))
            for at in range(rounds)
        ]
        assert _Model.asked == asked, "a replay has asked the model"
    assert all(replay.count("llm_call") == live.count("llm_call") == tasks * TURNS for replay in replays)
    replayed = statistics.median(replay.seconds for replay in replays)
    replayed_cpu = statistics.median(replay.cpu for replay in replays)
    described = spec(folder / "job_described", "http://127.0.0.1:9", tasks)
    return {
        "calls": tasks * TURNS,
        "live": live.seconds,
        "replay": replayed,
        "times": live.seconds / replayed,
        "cpu": cpu,
        "replay_cpu": replayed_cpu,
        # Of the smallest run, the system may have counted no hundredth of a second yet.
        "recording": 100 * telling_apart(folder, described, live.events) / max(cpu, 0.01),
    }


async def grown(
    backend: LocalBackend, folder: Path, sizes: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Give the bytes of journals, and what they would be with all said again in each call.

    Parameters
    ----------
    backend, folder
        Where the runs are done.
    sizes
        How many tasks they have, and how many calls in each.
    """
    _Model.seconds = 0.0
    found = []
    with model() as url:
        for tasks, turns in sizes:
            _Model.turns = turns
            run = await Run.of(backend, spec(folder / f"job_grown{tasks * turns}", url, tasks))
            assert run.count("llm_call") == tasks * turns
            found.append((sum(map(len, run.lines)), sum(len(orjson.dumps(event)) for event in run.events)))
    return found


def once(rounds: int) -> float:
    """Give the median of the seconds in which a server answers for a run that was asked for before."""
    crew = CrewCreate(
        name="Once",
        agents=[CrewAgent(name="writer", role="Writer", goal="Write about {topic}", model="sandbox")],
        tasks=[CrewTask(description="Write a line", expected_output="A line", agent="writer")],
    )
    took = []
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder)) as server:
        client = Client(server.connect())
        asked = (client.create_crew(crew).id, {"topic": "tea"})
        job_id = client.start(*asked).job_id
        assert list(client.follow(job_id))[-1].get("status") == "completed"
        for _ in range(rounds + 1):
            began = time.perf_counter()
            answer = client.start(*asked, once=True)
            took.append(time.perf_counter() - began)
            assert answer.job_id == job_id, "it was run once more"
        client.close()
    # The first has built what the others use.
    return statistics.median(took[1:])


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs to average over")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasal-benchmark-") as folder:
        backend = LocalBackend(Path(folder))
        await backend.start()
        figures = await measure(backend, Path(folder), *((1, 1) if options.tiny else (10, options.rounds)))
        sizes = ((1, 4), (1, 20)) if options.tiny else ((1, 10), (1, 100), (10, 100))
        journals = await grown(backend, Path(folder), sizes)
        await backend.close()
    print(f"{figures['calls']} calls: live {figures['live']:.2f} s, replayed {figures['replay']:.2f} s")
    print(
        f"CPU: live {1000 * figures['cpu']:.0f} ms, replayed {1000 * figures['replay_cpu']:.0f} ms; {TARGETS}"
    )
    print(
        "| a run of 100 calls of a model that takes 200 ms, and its replay (`replay.py`) "
        f"| {figures['live']:.1f} s, {figures['replay']:.1f} s: {figures['times']:.0f} times as fast |"
    )
    print(
        f"| what telling its calls apart takes of a run's CPU (`replay.py`) | {figures['recording']:.1f} % |"
    )
    bytes_of, before = ([f"{journal[at] / 1_000:,.0f}" for journal in journals] for at in (0, 1))
    print(
        "| the journal of 10, 100 and 1,000 calls, up to 100 in a conversation (`replay.py`) "
        f"| {', '.join(bytes_of)} kB; with all said again in each {', '.join(before)} kB |"
    )
    answered = await asyncio.to_thread(once, 1 if options.tiny else 100)
    print(f"| a run that was asked for before, with `once` | answered in {1000 * answered:.0f} ms |")


if __name__ == "__main__":
    asyncio.run(main())
