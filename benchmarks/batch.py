"""What a batch costs: `python benchmarks/batch.py`.

A crew of one task with the sandbox model is run over many rows, on a server of its own: as a batch, and
before and behind it as runs by themselves, each asked for with a request of its own as one before it ends.
Both have the same places. Told are the rows a second of either, and by how much the server's memory grows
from a tenth of the batch to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil

from kasal_jupyter.cli.demo import ServerProcess

CREW = {
    "name": "One task",
    "agents": [{"name": "writer", "role": "Writer", "goal": "Write", "model": "sandbox"}],
    "tasks": [{"description": "Write of {topic}", "expected_output": "A line", "agent": "writer"}],
}

ENDED = ("completed", "failed", "stopped", "interrupted")

ASKING = 4
"""Who ask for runs at the same time: as fast as the server takes them."""

WAITING = 20
"""Runs that may wait for a place, of a batch or by themselves; more are refused, and asked for again."""


def by_batch(api: httpx.Client, crew: str, rows: int, server: psutil.Process) -> tuple[float, float]:
    """Give the rows a second of a batch, and the megabytes by which the server grows in nine tenths of it."""
    given = [{"inputs": {"topic": f"tea number {number}"}} for number in range(rows)]
    began = time.perf_counter()
    answer = api.post("/batches", json={"crew_id": crew, "rows": given})
    answer.raise_for_status()
    batch, memory = answer.json(), 0.0
    while batch["status"] == "running":
        time.sleep(0.2)
        batch = api.get(f"/batches/{batch['id']}").json()
        if not memory and batch["counts"]["completed"] >= rows / 10:
            memory = _megabytes(server)
    took = time.perf_counter() - began
    assert batch["counts"]["completed"] == rows, batch
    return rows / took, _megabytes(server) - memory


def by_runs(url: str, headers: dict[str, str], crew: str, rows: int) -> float:
    """Give the runs a second where each is asked for by itself."""
    numbers = iter(range(rows))
    lock = threading.Lock()
    jobs: list[str] = []

    def ask() -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                body = {"crew_id": crew, "inputs": {"topic": f"milk number {number}"}}
                while (answer := api.post("/executions", json=body)).status_code == 429:
                    time.sleep(0.1)
                answer.raise_for_status()
                jobs.append(answer.json()["job_id"])

    began = time.perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(ASKING)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
        for job_id in jobs[-2 * WAITING :]:
            while api.get(f"/executions/{job_id}").json()["status"] not in ENDED:
                time.sleep(0.02)
    return rows / (time.perf_counter() - began)


def _megabytes(server: psutil.Process) -> float:
    return float(server.memory_info().rss) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument(
        "--runs", type=int, default=2_000, help="runs by themselves, before and behind the batch"
    )
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows, runs = (6, 2) if arguments.tiny else (arguments.rows, arguments.runs)
    waiting = f"--KasalApp.max_queued_per_user={WAITING}"
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), waiting) as server:
        connection = server.connect()
        url, headers = f"{connection.url}/v1", {"Authorization": f"token {connection.token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
            crew = api.post("/crews", json=CREW).json()["id"]
            # The first waits for the engine to load.
            by_runs(url, headers, crew, 1 if arguments.tiny else WAITING)
            before = by_runs(url, headers, crew, runs)
            batch, grown = by_batch(api, crew, rows, psutil.Process().children()[0])
            behind = by_runs(url, headers, crew, runs)
    alone = (before + behind) / 2
    figures = {
        "batch": batch,
        "alone before": before,
        "alone behind": behind,
        "ratio": batch / alone,
        "MB": grown,
    }
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in figures.items()}))
        return
    print(f"{os.cpu_count()} cores: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    print(
        "\n| a batch of 10,000 rows of a one-task sandbox crew (`batch.py`) "
        f"| {batch:.1f} rows/s, {batch / alone:.2f} of the same runs by themselves; the server grows by "
        f"{max(0.0, grown):.0f} MB |"
    )


if __name__ == "__main__":
    main()
