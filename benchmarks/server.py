"""What the extension costs, and how soon a run begins: `python benchmarks/server.py`.

- the start of a Jupyter server with the extension, beside one without it: until it says that it runs, and
  until it answers;
- from `POST /v1/executions` to the first model call, as a WebSocket client sees it, beside a cold
  `python -c` that builds and kicks off a crew like it (see `benchmarks/engine.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from kasal_jupyter.cli.demo import ServerProcess
from kasal_jupyter.client.client import Client
from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.tasks import CrewTask

CREW = CrewCreate(
    name="One task",
    agents=[CrewAgent(name="writer", role="Writer", goal="Write", model="sandbox")],
    tasks=[CrewTask(name="write", description="Write a line", expected_output="A line", agent="writer")],
)


LAB = ("jupyter_lsp", "jupyter_server_terminals", "jupyterlab", "notebook", "notebook_shim")
"""The extensions of JupyterLab and of Notebook."""


def server_start(*, enabled: bool, lab: bool) -> tuple[float, float]:
    """Give the seconds until a Jupyter server, with JupyterLab or without, says that it runs, and answers.

    It is asked for what the extension serves, and without that for what Jupyter itself does.
    """
    extensions = {"kasal_jupyter": enabled, **({} if lab else dict.fromkeys(LAB, False))}
    with tempfile.TemporaryDirectory() as folder:
        places = dict.fromkeys(("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "KASAL_DATA_DIR"), folder)
        began = time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", "--port=0"),
                f"--ServerApp.jpserver_extensions={extensions}",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **places, "JUPYTER_TOKEN": "benchmark"},
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "is running at" in line:
                break
        said = time.perf_counter() - began
        about = Path(folder, f"jpserver-{process.pid}.json")
        while not (about.exists() and about.stat().st_size):
            time.sleep(0.002)
        url = json.loads(about.read_text())["url"] + ("v1/health" if enabled else "api")
        httpx.get(url, timeout=60).raise_for_status()
        answered = time.perf_counter() - began
        # A server that has just begun may miss that it is asked to end.
        process.kill()
        process.stderr.close()
        process.wait()
        return said, answered


def first_command() -> float:
    """Give the seconds that `jupyter kasal crews` takes where no server is found, and it starts its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "KASAL_DATA_DIR", "HOME")
        others = ("KASAL_URL", "KASAL_TOKEN", "JPY_", "JUPYTERHUB_", "JUPYTER_SERVER_URL")
        lonely = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        environ = {**lonely, **dict.fromkeys(names, folder)}
        command = [sys.executable, "-m", "kasal_jupyter.cli"]
        began = time.perf_counter()
        subprocess.run([*command, "crews"], env=environ, check=True, capture_output=True)
        took = time.perf_counter() - began
        subprocess.run([*command, "server", "stop", "--all"], env=environ, check=False, capture_output=True)
        return took


def first_calls(rounds: int) -> list[float]:
    """Give the seconds from the request to the first model call's event, for each round, on a warm server."""
    took = []
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder)) as server:
        client = Client(server.connect())
        crew = client.create_crew(CREW)
        for _ in range(rounds + 1):
            began = time.perf_counter()
            job = client.start(crew.id)
            calls = (event for event in client.follow(job.job_id) if event["type"] == "llm_call")
            next(calls)
            took.append(time.perf_counter() - began)
            list(calls)
        client.close()
    # The first round waits for the engine to load.
    return took[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    times, rounds = (1, 1) if arguments.tiny else (5, arguments.rounds)
    lab = not arguments.tiny
    starts = [
        (server_start(enabled=False, lab=lab), server_start(enabled=True, lab=lab)) for _ in range(times)
    ]
    without, with_it = (
        [statistics.median(each) for each in zip(*of_one, strict=True)]
        for of_one in zip(*starts, strict=True)
    )
    calls = sorted(first_calls(rounds))
    figures = {
        "server start without the extension, s": without[0],
        "server start with it, s": with_it[0],
        "the extension adds, ms (target 150)": 1000 * (with_it[0] - without[0]),
        "and to the first answer, its own, ms": 1000 * (with_it[1] - without[1]),
        "POST to first model call, p50 ms (target 100)": 1000 * statistics.median(calls),
        "POST to first model call, p95 ms": 1000 * calls[int(len(calls) * 0.95)],
        "the first command that starts its own server, s": statistics.median(
            first_command() for _ in range(times)
        ),
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<50} {value:10.2f}")
    _, _, adds, answer, p50, p95, own = figures.values()
    print(
        "\n| `POST /v1/executions` to the first model call (`server.py`) "
        f"| {p50:.0f} ms p50, {p95:.0f} ms p95 |"
    )
    print(
        "| the extension adds to a Jupyter server's start (`server.py`) "
        f"| {adds:.0f} ms, and {answer:.0f} ms to its first answer |"
    )
    print(f"| the first command of a kernel without a server starts its own (`server.py`) | {own:.1f} s |")


if __name__ == "__main__":
    main()
