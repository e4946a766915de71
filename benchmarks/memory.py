"""What remembering costs: `python benchmarks/memory.py`.

At 100, 1,000 and 10,000 memories: making the index, bringing it up to date, and recalling as a run does, in
one process, p50 and p99; then what a run takes more of memory with than without, in two real runs; then
CrewAI's own memory (LanceDB) with as many memories and vectors of the same length, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# As in a run's process: one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.recall import Recall
from kasal_jupyter.memory.record import Record
from kasal_jupyter.memory.vectors import DIMENSIONS, offline_vector
from kasal_jupyter.memory.words import stems_of
from kasal_jupyter.runs.local import LocalBackend
from kasal_jupyter.schemas.spec import RunEmbedder, RunMemory, RunSpec

TINY = "--tiny" in sys.argv
SIZES = (10, 20) if TINY else (100, 1_000, 10_000)
ROUNDS = 2 if TINY else 200
WORDS_OF_A_MEMORY = 40
WORDS_OF_A_TASK = 30
WORDS_OF_A_CONTEXT = 300
VOCABULARY = 200 if TINY else 20_000
_TIME = "2024-01-15T10:30:00Z"


class Texts:
    """Texts of made-up words that are as rare and as frequent as those of a language (Zipf)."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        letters = "etaoinshrdlucmfwygpbvk"
        self._words = [
            "".join(self._random.choices(letters, k=self._random.randint(3, 10))) for _ in range(VOCABULARY)
        ]
        self._weights = [1 / (rank + 2) for rank in range(VOCABULARY)]

    def text(self, words: int) -> str:
        """Make a text of so many words."""
        return " ".join(self._random.choices(self._words, self._weights, k=words))

    def records(self, count: int) -> list[Record]:
        """Make memories of both types."""
        return [
            Record(
                f"memory_{number}",
                "long_term" if number % 2 else "short_term",
                self.text(WORDS_OF_A_MEMORY),
                None,
                _TIME,
            )
            for number in range(count)
        ]


def measured(recall: Callable[[int], Any], rounds: int = ROUNDS) -> str:
    """Give the p50 and the p99 of doing something, in milliseconds."""
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        recall(number)
        times.append((time.perf_counter() - began) * 1_000)
    cut = statistics.quantiles(times, n=100)
    return f"p50 {statistics.median(times):6.2f} ms   p99 {cut[98]:6.2f} ms"


def ours(texts: Texts, folder: Path) -> None:
    """Measure the index."""
    queries = [(texts.text(WORDS_OF_A_TASK), texts.text(WORDS_OF_A_CONTEXT)) for _ in range(ROUNDS)]
    for size in SIZES:
        room = folder / str(size)
        records = texts.records(size)
        began = time.perf_counter()
        build_index(room, records, "first", None, seconds=1)
        built = time.perf_counter() - began
        began = time.perf_counter()
        build_index(room, [*records[6:], *texts.records(6)], "second", None, seconds=1)
        again = time.perf_counter() - began
        recall = Recall(room, RunEmbedder())
        recall.search(*queries[0])

        def look(number: int, recall: Recall = recall) -> None:
            recall.search(*queries[number])

        print(
            f"{size:>6} memories   recall {measured(look)}   index made in {built:.2f} s, "
            f"after a run {again * 1_000:.0f} ms   file {(room / 'index').stat().st_size / 1e6:.1f} MB"
        )
        recall.close()


async def runs(texts: Texts, folder: Path) -> None:
    """Measure what a run's process takes of memory, with and without memories."""
    backend = LocalBackend(folder)
    await backend.start()
    build_index(folder / "memory", texts.records(SIZES[-1]), "r", None, seconds=1)
    task = texts.text(WORDS_OF_A_TASK)
    used: dict[bool, list[float]] = {True: [], False: []}
    recalled: list[float] = []
    for number in range(2 if TINY else 10):
        with_memory = bool(number % 2)
        spec = _spec(folder / f"run{number}", task, folder / "memory" if with_memory else None)
        recalling = asyncio.Event()
        ended = asyncio.Event()

        def take(lines: list[bytes], recalling: asyncio.Event = recalling) -> None:
            for line in lines:
                event = json.loads(line)
                if event["type"] == "memory_recalled":
                    recalled.append(event["duration_ms"])
                if event["type"] == "llm_call":
                    recalling.set()

        handle = await backend.launch(spec, take, lambda _, ended=ended: ended.set())
        # Its model answers a second later: everything was recalled, and nothing else is done.
        await asyncio.wait_for(recalling.wait(), 30)
        used[with_memory].append(uss(handle.pid))
        await ended.wait()
    await backend.close()
    without, with_ = statistics.median(used[False]), statistics.median(used[True])
    print(
        f"a run's process: {without:.1f} MB without, {with_:.1f} MB with {SIZES[-1]:,} memories: "
        f"{with_ - without:+.1f} MB; its first recall took {statistics.median(recalled):.1f} ms "
        f"(median of 5, least {min(recalled):.1f})"
    )


def uss(pid: int) -> float:
    """Give the MB of a process that are its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1_000


def _spec(folder: Path, task: str, memory: Path | None) -> RunSpec:
    folder.mkdir()
    stamps = {"owner": "me", "created_at": _TIME, "updated_at": _TIME}
    agent = {
        "id": "a",
        "crew_id": "c",
        "name": "A",
        "position": 0,
        "role": "A",
        "goal": "g",
        "backstory": "b",
        "model": "sandbox",
        "sandbox": {"latency": 1.0},
        **stamps,
    }
    doing = {
        "id": "t",
        "crew_id": "c",
        "agent_id": "a",
        "position": 0,
        "description": task,
        "expected_output": "x",
        "context_tasks": [],
        "context_texts": [],
        **stamps,
    }
    return RunSpec.model_validate(
        {
            "job_id": "job_1",
            "crew": {"id": "c", "name": "C", "memory": memory is not None, **stamps},
            "agents": [agent],
            "tasks": [doing],
            "inputs": {},
            "models": {"sandbox": {"name": "sandbox", "provider": "sandbox", "model": "sandbox"}},
            "manager_model": None,
            "memory": RunMemory(folder=str(memory), remember=True).model_dump() if memory else None,
            "folder": str(folder),
        }
    )


def theirs(texts: Texts, folder: Path) -> None:
    """Measure CrewAI's own memory: an index of its default storage, recalled without asking a model."""
    from kasal_jupyter.worker.switches import import_crewai

    import_crewai(folder)
    from crewai.memory.storage.lancedb_storage import LanceDBStorage
    from crewai.memory.types import MemoryRecord
    from crewai.memory.unified_memory import Memory

    def embed(contents: list[str]) -> list[list[float]]:
        return [offline_vector(stems_of(content)) for content in contents]

    for size in SIZES:
        contents = [record.content for record in texts.records(size)]
        before = uss(os.getpid())
        began = time.perf_counter()
        storage = LanceDBStorage(path=str(folder / str(size)))
        for some in _parts(contents, 1_000):
            storage.save(
                [
                    MemoryRecord(
                        content=content, scope="/crew", categories=["x"], importance=0.5, embedding=vector
                    )
                    for content, vector in zip(some, embed(some), strict=True)
                ]
            )
        built = time.perf_counter() - began
        memory = Memory(storage=storage, embedder=embed, llm="gpt-4o-mini")
        began = time.perf_counter()
        memory.recall(texts.text(WORDS_OF_A_TASK), limit=5, depth="shallow")
        first = (time.perf_counter() - began) * 1_000

        def look(_: int, memory: Any = memory) -> None:
            memory.recall(texts.text(WORDS_OF_A_TASK), limit=5, depth="shallow")

        print(
            f"{size:>6} memories   recall {measured(look, min(ROUNDS, 50))}   the first {first:.0f} ms   "
            f"stored in {built:.2f} s   {uss(os.getpid()) - before:+.0f} MB in the process"
        )


def _parts(contents: list[str], size: int) -> Iterator[list[str]]:
    for at in range(0, len(contents), size):
        yield contents[at : at + size]


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "--crewai" in sys.argv:
            theirs(Texts(), folder)
            return
        print(f"Kasal ({DIMENSIONS} dimensions; {WORDS_OF_A_TASK} words, contexts of {WORDS_OF_A_CONTEXT})")
        ours(Texts(), folder)
        asyncio.run(runs(Texts(), folder))
        print("CrewAI's own memory, the same vectors, depth='shallow'", flush=True)
        # As a module: a script's folder comes first on the path.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--crewai"], check=True)


if __name__ == "__main__":
    main()
