"""Many executions on one server: `python benchmarks/stored.py`.

- what 1,000 executions that wait cost the server's memory, and how soon it answers while they run;
- with 10,000 stored: a server's start until it has answered from the API, its lists, an execution's state,
  and the first page of its trace.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from kasal_jupyter.cli.demo import ServerProcess
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.tasks import CrewTask
from kasal_jupyter.store.store import Store

CREW = CrewCreate(
    name="One task",
    agents=[CrewAgent(name="writer", role="Writer", goal="Write", model="sandbox")],
    tasks=[CrewTask(name="write", description="Write a line", expected_output="A line", agent="writer")],
)


def caller(connection: Connection) -> Callable[[str], float]:
    """Give what makes a request, always on one connection, and says how many milliseconds it took."""
    address = http.client.HTTPConnection(urlsplit(connection.url).netloc, timeout=60)
    base, headers = urlsplit(connection.url).path.rstrip("/"), {**connection.headers}

    def call(path: str) -> float:
        began = time.perf_counter()
        address.request("GET", f"{base}/v1{path}", headers=headers)
        answer = address.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return 1e3 * (time.perf_counter() - began)

    return call


def waiting(server: ServerProcess, client: Client, count: int) -> tuple[float, list[float]]:
    """Have executions wait; give the megabytes that they cost, and how soon the server answers meanwhile."""
    crew_id = client.create_crew(CREW).id
    list(client.follow(client.start(crew_id).job_id))
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    jobs = [client.start(crew_id).job_id for _ in range(count)]
    grown = max(0, process.memory_info().rss - before) / 1e6
    call, took = caller(client.connection), []
    while client.execution(jobs[-1]).status not in ENDED or not took:
        took += [call("/executions"), call("/crews"), call(f"/executions/{jobs[-1]}")]
    return grown, sorted(took)


def fill(data: Path, count: int) -> list[str]:
    """Store an execution of a data folder, whose server is gone, so many times; give their ids."""
    made = []
    with Store.open(data, SCHEMAS) as store:
        [source] = store.executions.page(limit=1).documents
        asked = store.run_requests.required(source.id, "request")
        journal = (data / "runs" / f"{source.id}.jsonl").read_bytes()

        def copy() -> None:
            for _ in range(min(500, count - len(made))):
                new = new_id("job")
                (data / "runs" / new).mkdir()
                lines = journal.replace(source.id.encode(), new.encode())
                (data / "runs" / f"{new}.jsonl").write_bytes(lines)
                store.executions.insert(source.model_copy(update={"id": new}))
                store.run_requests.insert(asked.model_copy(update={"id": new, "root": new}))
                made.append(new)

        while len(made) < count:
            store.change_now(copy)
    return made


def with_many(data: Path, jobs: list[str], rounds: int) -> tuple[float, dict[str, float]]:
    """Give the seconds of a server's start over a data folder, and the medians of its answers, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with ServerProcess(Path(folder), f"--KasalApp.data_folder={data}") as server:
            call = caller(server.connect())
            call("/executions")
            took = time.perf_counter() - began
            if rounds > 1:
                # It loads the engine, and takes over what others have left.
                time.sleep(5)
            paths = {
                "a list": "/executions",
                "its last page": f"/executions?page={max(1, len(jobs) // 20)}",
                "a status": "/executions/{}",
                "a trace's first page": "/executions/{}/traces",
            }
            some = random.choices(jobs, k=rounds)
            answers = {
                name: statistics.median(call(path.format(job)) for job in some)
                for name, path in paths.items()
            }
    return took, answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100, help="requests of each kind")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    queued, stored, rounds = (2, 20, 1) if arguments.tiny else (1_000, 10_000, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        with ServerProcess(Path(folder), "--KasalApp.max_queued_per_user=1000") as server:
            client = Client(server.connect())
            grown, answered = waiting(server, client, queued)
            client.close()
        [database] = Path(folder).rglob("kasal.db")
        jobs = fill(database.parent, stored)
        started, answers = with_many(database.parent, jobs, rounds)
    p99 = answered[int(len(answered) * 0.99)]
    figures = {
        f"{queued:,} waiting executions cost, MB (target 50)": grown,
        "the API while they run, p50 ms": statistics.median(answered),
        "the API while they run, p99 ms (target 50)": p99,
        f"a standalone server's start with {stored:,} stored, s (target 2)": started,
        **{f"{name} with {stored:,} stored, ms (target 20)": each for name, each in answers.items()},
    }
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<60} {value:10.2f}")
    pages = list(answers.values())
    print(
        "\n| 1,000 executions that wait, and the API while they run (`stored.py`) "
        f"| {grown:.0f} MB, {p99:.0f} ms p99 |"
    )
    print(
        "| 10,000 stored executions: a server's start; a list, a status, a trace's first page (`stored.py`) "
        f"| {started:.1f} s; {pages[0]:.0f}, {pages[2]:.0f}, {pages[3]:.0f} ms |"
    )


if __name__ == "__main__":
    main()
