"""What a Dask cluster costs: `python benchmarks/dask.py`.

A scheduler and two workers on loopback, each a process of its own, beside `client.submit` of a bare
`kickoff()` of the same crew on the same workers, in the same run.

- *start*: from a launch to the run's first event here, its process begun;
- *stop*: from a stop to the end of its process, told here;
- *events*: from when a run's process has said something to when it is here;
- *many*: crews that mostly wait for their model, against the time in which the slots could have them all
  wait one after the other: what is ideal, where nothing but the model takes time.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

# In the place of this folder, in which Dask would be this file.
sys.path[0] = str(Path(__file__).parent.parent)

from benchmarks.engine import spec  # noqa: E402
from kasal_jupyter.executions.backends.dask_backend import DaskBackend  # noqa: E402
from kasal_jupyter.executions.backends.dask_cluster import Where  # noqa: E402

WORKERS = 2


@contextmanager
def cluster(room: Path, slots: int) -> Iterator[str]:
    """Start a scheduler and its workers; give the scheduler's address."""
    about = room / "scheduler.json"
    begun = [_start(room, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(about))]
    try:
        while not about.exists() or not about.read_text():
            time.sleep(0.05)
        for at in range(WORKERS):
            options = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--resources", f"kasal={slots}")
            folder = ("--local-directory", str(room / f"worker{at}"))
            begun.append(_start(room, "worker", "--scheduler-file", str(about), *options, *folder))
        yield str(orjson.loads(about.read_bytes())["address"])
    finally:
        for process in reversed(begun):
            process.terminate()
        for process in begun:
            process.wait()


def _start(room: Path, what: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--host", "127.0.0.1", *arguments]
    with (room / "dask.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=room)


class Run:
    """A run, timed from its launch."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.exited: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.delays: list[float] = []

    def take(self, lines: list[bytes]) -> None:
        """Note when events come, and how long they were on their way."""
        if not self.first.done():
            self.first.set_result(time.perf_counter() - self.began)
        now = datetime.now(UTC)
        for line in lines:
            event = orjson.loads(line)
            if event.get("type") != "llm_chunk" and "time" in event:
                # Pieces of answers are gathered before they are told.
                self.delays.append((now - datetime.fromisoformat(event["time"])).total_seconds())


async def launched(backend: DaskBackend, folder: Path, latency: float = 0.0) -> tuple[Run, Any]:
    """Launch a run."""
    what = spec(folder, latency=latency)
    run = Run()
    return run, await backend.launch(what, run.take, run.exited.set_result)


async def measure(address: str, folder: Path, sizes: tuple[int, int, int, float]) -> None:
    """Take all figures, and print them."""
    rounds, count, slots, latency = sizes
    backend = DaskBackend(folder, Where(address))
    await backend.start()
    while sum(host.warm for host in backend.cluster.hosts.values()) < WORKERS:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    starts, stops, delays = [], [], []
    for at in range(rounds + 1):
        run, _ = await launched(backend, folder / f"start{at}")
        first = 1000 * await run.first
        await run.exited
        slow, handle = await launched(backend, folder / f"stop{at}", latency=3600)
        await slow.first
        begun = time.perf_counter()
        await handle.stop()
        if at:  # The first warms everything up.
            starts.append(first)
            delays += run.delays
            stops.append(1000 * (time.perf_counter() - begun))
    begun = time.perf_counter()
    runs = await asyncio.gather(
        *(launched(backend, folder / f"many{at}", latency=latency) for at in range(count))
    )
    await asyncio.gather(*(run.exited for run, _ in runs))
    ours = time.perf_counter() - begun
    waits = 4  # The crew's three tasks, and one tool's result.
    ideal = math.ceil(count / (WORKERS * slots)) * waits * latency
    bare, bare_many = await plain(backend.cluster.client, folder, rounds, count, latency)
    await backend.close()
    start, stop, event = (statistics.median(each) for each in (starts, stops, delays))
    print(f"start p50 {start:.1f} ms, bare `client.submit` to its first line {bare:.1f} ms")
    print(f"{count} crews {ours:.2f} s, ideal {ideal:.2f} s, bare `client.submit` {bare_many:.2f} s")
    print()
    print(f"| Dask: launch to the run's first event, p50 (`dask.py`) | {start:.0f} ms |")
    print(f"| Dask: stop to the end of its process, p50 | {stop:.0f} ms |")
    print(f"| Dask: an event from the run's process to the server, p50 | {1000 * event:.1f} ms |")
    print(f"| Dask: many crews on two workers, against their models' time alone | {ours / ideal:.2f} times |")
    print(f"| Dask: the same against a bare `kickoff()` submitted | {bare_many / ours:.1f} times faster |")


async def plain(client: Any, folder: Path, rounds: int, count: int, latency: float) -> tuple[float, float]:
    """Submit bare kickoffs: give how long until one begins, and how long many take."""

    def kickoff(described: str, *, only_begin: bool = False) -> float:
        import time as clock
        from pathlib import Path as Folder

        if only_begin:
            return clock.time()
        from kasal_jupyter.worker.process.setup import import_crewai

        import_crewai(Folder(folder / "bare-storage"))
        from kasal_jupyter.schemas.spec import RunSpec
        from kasal_jupyter.worker.crew.build import build_crew
        from kasal_jupyter.worker.process.stop import StopSignal

        build_crew(RunSpec.model_validate_json(described), StopSignal()).crew.kickoff()
        return clock.time()

    described = spec(folder / "bare", latency=latency).model_dump_json()
    warm = [client.submit(kickoff, described, workers=[each], pure=False) for each in await _workers(client)]
    await client.gather(warm)
    begins = []
    for _ in range(rounds):
        begun = time.time()
        begins.append(1000 * (await client.submit(kickoff, described, only_begin=True, pure=False) - begun))
    begun = time.perf_counter()
    await client.gather([client.submit(kickoff, described, pure=False) for _ in range(count)])
    return statistics.median(begins), time.perf_counter() - begun


async def _workers(client: Any) -> list[str]:
    return sorted((await client.scheduler.identity())["workers"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="runs to average over")
    parser.add_argument("--runs", type=int, default=200, help="crews at once")
    parser.add_argument("--slots", type=int, default=20, help="slots of each worker")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds that the model takes")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kasal-benchmark-") as folder:
        room = Path(folder)
        rounds, count, latency = options.rounds, options.runs, options.latency
        if options.tiny:
            rounds, count, latency = 1, 2, 0.01
        with cluster(room, options.slots) as address:
            asyncio.run(measure(address, room, (rounds, count, options.slots, latency)))


if __name__ == "__main__":
    main()
