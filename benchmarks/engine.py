"""What the engine costs: a warm run's start, its memory, its CPU.

``python benchmarks/engine.py`` prints a table; ``--json`` prints the figures.

- *cold*: a Python process that imports CrewAI, builds the crew and kicks it off, to its first model call;
- *warm*: the same crew launched on a warm local backend, to its ``llm_call`` event in the server;
- *memory*: the unique set size of each of many runs at once, while all wait for their model;
- *CPU*: user and system time of a whole run in a child, from fork to exit, against ``kickoff()`` of the
  same crew, written with CrewAI alone, on the same model in one process that is warm already.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from kasal_jupyter.executions.backends.local import LocalBackend
from kasal_jupyter.schemas.spec import RunSpec

TARGETS = {"warm_ms": 70.0, "memory_mb": 35.0, "cpu_ratio": 1.2}
TIME = "2024-01-15T10:30:00Z"

COLD = """
import sys, time
began = time.perf_counter()
from pathlib import Path
from kasal_jupyter.worker.process.setup import import_crewai
import_crewai(Path(sys.argv[1]))
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.worker.crew.build import build_crew
from kasal_jupyter.worker.process.stop import StopSignal
from crewai.events.stream_context import add_stream_sink
built = build_crew(RunSpec.model_validate_json(sys.stdin.read()), StopSignal())
first = []
def sink(source, event):
    if event.type == "llm_call_started" and not first:
        first.append(time.perf_counter() - began)
add_stream_sink(sink)
built.crew.kickoff()
print(first[0], file=sys.stderr)
"""

BARE = """
import os, resource, sys
from pathlib import Path
from kasal_jupyter.worker.process.setup import import_crewai
import_crewai(Path(sys.argv[1]))
from crewai import Agent, Crew, Task
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.tools.tool import find_tool
from kasal_jupyter.tools.tool import ToolContext
from kasal_jupyter.worker.models.sandbox_llm import SandboxLLM
from kasal_jupyter.worker.crew.tool import crew_tool
spec = RunSpec.model_validate_json(sys.stdin.read())
calculator = crew_tool(find_tool("calculator"), ToolContext(Path(sys.argv[1])))
def crew():
    agents = {
        agent.id: Agent(
            role=agent.role, goal=agent.goal, backstory=agent.backstory,
            llm=SandboxLLM(model="sandbox", stream=True, inputs=spec.inputs),
            tools=[calculator] if agent.tools else [],
        )
        for agent in spec.agents
    }
    tasks = []
    for task in spec.tasks:
        tasks.append(Task(
            description=task.description, expected_output=task.expected_output,
            agent=agents[task.agent_id], context=tasks[-1:],
        ))
    return Crew(agents=list(agents.values()), tasks=tasks)
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
for at in range(int(sys.argv[2]) + 1):
    before = cpu()
    crew().kickoff(inputs=spec.inputs)
    if at:  # The first warms the process up.
        print(cpu() - before, file=sys.stderr)
"""


def spec(folder: Path, *, latency: float = 0.0) -> RunSpec:
    """Describe a crew of three tasks and one tool."""
    folder.mkdir(parents=True, exist_ok=True)
    owned = {"owner": "benchmark", "created_at": TIME, "updated_at": TIME}
    roles = ("Researcher", "Analyst", "Writer")
    agents = [
        {
            "id": role.lower(),
            "crew_id": "crew_1",
            "name": role,
            "position": at,
            "role": role,
            "goal": f"Do the best {role.lower()} work on {{topic}}",
            "backstory": "You know your trade.",
            "model": "sandbox",
            "tools": ["calculator"] if at == 0 else [],
            "sandbox": {"latency": latency},
            **owned,
        }
        for at, role in enumerate(roles)
    ]
    tasks = [
        {
            "id": f"task_{at}",
            "crew_id": "crew_1",
            "agent_id": role.lower(),
            "position": at,
            "description": f"As {role.lower()}, work on {{topic}}",
            "expected_output": "Three paragraphs",
            "context_tasks": [f"task_{at - 1}"] if at else [],
            "context_texts": [],
            **owned,
        }
        for at, role in enumerate(roles)
    ]
    return RunSpec.model_validate(
        {
            "job_id": "job_1",
            "crew": {"id": "crew_1", "name": "Benchmark", "process": "sequential", **owned},
            "agents": agents,
            "tasks": tasks,
            "inputs": {"topic": "solar power"},
            "models": {"sandbox": {"name": "sandbox", "provider": "sandbox", "model": "sandbox"}},
            "manager_model": None,
            "folder": str(folder),
        }
    )


def python(script: str, folder: Path, *arguments: str) -> list[float]:
    """Run a script with the crew on its standard input; give the numbers it prints, a line each."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), *arguments],
        input=spec(folder / "bare").model_dump_json().encode(),
        capture_output=True,
        check=True,
        env=environment,
    )
    numbers = []
    for line in done.stderr.splitlines():
        # CrewAI has things to say there, too.
        with contextlib.suppress(ValueError):
            numbers.append(float(line))
    return numbers


class Run:
    """A run, timed from its launch to its first model call."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def take(self, lines: list[bytes]) -> None:
        """Look for the first model call."""
        if not self.first.done() and any(b'"llm_call"' in line for line in lines):
            self.first.set_result(time.perf_counter() - self.began)


async def start_times(backend: LocalBackend, folder: Path, rounds: int) -> list[float]:
    """Launch runs one after another; give the milliseconds to each one's first model call."""
    times = []
    for at in range(rounds):
        run = Run()
        await backend.launch(spec(folder / f"start{at}"), run.take, run.exited.set_result)
        times.append(1000 * await run.first)
        await run.exited
    return times


async def memory(backend: LocalBackend, folder: Path, count: int) -> list[float]:
    """Launch many runs at once; give the unique megabytes of each, once all wait for their model."""
    runs = []
    for at in range(count):
        run = Run()
        described = spec(folder / f"memory{at}", latency=3600)
        runs.append((run, await backend.launch(described, run.take, run.exited.set_result)))
    await asyncio.gather(*(run.first for run, _ in runs))
    sizes = [psutil.Process(handle.pid).memory_full_info().uss / 1e6 for _, handle in runs]
    await asyncio.gather(*(handle.stop() for _, handle in runs))
    return sizes


async def cpu(backend: LocalBackend, folder: Path, rounds: int) -> float:
    """Run crews one after another; give the CPU milliseconds of each, the zygote's part included."""
    spent = 0.0
    for at in range(rounds + 1):
        run = Run()
        handle = await backend.launch(spec(folder / f"cpu{at}"), run.take, run.exited.set_result)
        if at == 0:  # The first only shows which process the zygote is.
            zygote = psutil.Process(psutil.Process(handle.pid).ppid())
            await run.exited
            before = sum(zygote.cpu_times()[:4])
        await run.exited
        spent = sum(zygote.cpu_times()[:4]) - before  # user and system, own and of children that are gone
    return 1000 * spent / rounds


async def measure(folder: Path, rounds: int, count: int) -> dict[str, Any]:
    """Take all figures."""
    cold = [1000 * python(COLD, folder)[0] for _ in range(min(3, rounds))]
    bare = 1000 * statistics.fmean(python(BARE, folder, str(rounds)))
    backend = LocalBackend(folder)
    await backend.start()
    warm = await start_times(backend, folder, rounds)
    child = await cpu(backend, folder, rounds)
    sizes = await memory(backend, folder, count)
    await backend.close()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "cold_ms": round(statistics.median(cold)),
        "warm_ms": round(statistics.median(warm), 1),
        "warm_p95_ms": round(sorted(warm)[int(0.95 * (len(warm) - 1))], 1),
        "memory_mb": round(max(sizes), 1),
        "memory_runs": count,
        "bare_cpu_ms": round(bare, 1),
        "child_cpu_ms": round(child, 1),
        "cpu_ratio": round(child / bare, 2),
    }


def table(figures: dict[str, Any]) -> str:
    """Write the figures as a table."""
    rows = [
        ("", "measured", "target"),
        ("cold process to first model call", f"{figures['cold_ms']} ms", ""),
        ("warm launch to first model call, p50", f"{figures['warm_ms']} ms", f"{TARGETS['warm_ms']:.0f} ms"),
        ("the same, p95", f"{figures['warm_p95_ms']} ms", ""),
        (
            f"memory of a run, {figures['memory_runs']} at once (largest USS)",
            f"{figures['memory_mb']} MB",
            f"{TARGETS['memory_mb']:.0f} MB",
        ),
        ("CPU of a crew of three tasks, bare kickoff", f"{figures['bare_cpu_ms']} ms", ""),
        ("the same as a run", f"{figures['child_cpu_ms']} ms", ""),
        ("ratio", f"{figures['cpu_ratio']}", f"{TARGETS['cpu_ratio']}"),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}".rstrip() for row in rows]
    return "\n".join([figures["machine"], *lines])


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=30, help="runs to average over")
    parser.add_argument("--runs", type=int, default=32, help="runs at once, for the memory")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasal-benchmark-") as folder:
        sizes = (1, 1) if options.tiny else (options.rounds, options.runs)
        figures = await measure(Path(folder), *sizes)
    if options.json:
        print(json.dumps(figures))
        return
    print(table(figures))
    print(f"\n| a cold process to its first model call (`engine.py`) | {figures['cold_ms'] / 1000:.1f} s |")
    print(f"| memory of a run, 32 at once (`engine.py`) | {figures['memory_mb']:.0f} MB |")
    print(
        "| CPU of a 3-task crew against a bare warm `kickoff()` (`engine.py`) "
        f"| {figures['cpu_ratio']:.2f} times |"
    )


if __name__ == "__main__":
    asyncio.run(main())
