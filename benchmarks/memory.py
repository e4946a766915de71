"""What remembering costs, and what is found: `python benchmarks/memory.py`.

How many of the questions about `docs/` find their passage. Then, at 100, 1,000 and 10,000 passages: giving
them to a crew, what somebody else's change waits meanwhile, giving it one more memory, and recalling as a run
does; then what a run takes more of memory with than without, in two real runs; then CrewAI's own memory
(LanceDB) with as many memories, in a process of its own.
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
from contextlib import suppress
from pathlib import Path
from typing import Any

# As in a run's process: one thread.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A script's own folder comes first on the path, and its parent is not there.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.executions.backends.local import LocalBackend
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.memory.recall import Recall, reading
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.spec import RunEmbedder, RunMemory, RunSpec
from kasal_jupyter.store.store import Store
from tests.memory.questions import QUESTIONS, missed, passages
from tests.remembering import remember_long, remember_short

TINY = "--tiny" in sys.argv
SIZES = (10, 20) if TINY else (100, 1_000, 10_000)
ROUNDS = 2 if TINY else 200
ADDED = 2 if TINY else 100
WORDS_OF_A_PASSAGE = 150
WORDS_OF_A_TASK = 30
WORDS_OF_A_CONTEXT = 300
DIMENSIONS = 256
_TIME = "2024-01-15T10:30:00Z"

BEFORE = "with an index file a crew 11.1 s, 194 ms and 4 ms"
FOUND_BEFORE = "by an index file a crew 36"
"""The same before there was FTS5: the index alone, on a machine of two cores."""

CREW = {
    "name": "Crew",
    "agents": [{"role": "Writer", "goal": "Write", "model": "sandbox"}],
    "tasks": [{"description": "Write", "expected_output": "A text", "agent": "Writer"}],
}


class Texts:
    """Texts of the documentation's words, as frequent as they are there, with one rare word in ten."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        letters = "etaoinshrdlucmfwygpbvk"
        words = [word for _, passage in passages() for word in passage.split()]
        rare = [
            "".join(self._random.choices(letters, k=self._random.randint(5, 10)))
            for _ in range(len(words) // 10)
        ]
        self._words = [*words, *rare]

    def text(self, words: int) -> str:
        """Make a text of so many words."""
        return " ".join(self._random.choices(self._words, k=words))


def milliseconds(seconds: list[float]) -> tuple[float, float]:
    """Give the p50 and the p99 of times, in milliseconds."""
    cut = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else seconds * 99
    return statistics.median(seconds) * 1_000, cut[98] * 1_000


def times(work: Callable[[int], Any], rounds: int = ROUNDS) -> tuple[float, float]:
    """Give the p50 and the p99 of doing something, in milliseconds."""
    taken = []
    for number in range(rounds):
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return milliseconds(taken)


async def new_crew(store: Store) -> str:
    """Make a crew that has nothing yet."""
    return (await Crews(store).create(CrewCreate.model_validate(CREW), "me")).crew.id


async def found(store: Store) -> int:
    """Say how many of the questions find their passage among the first five."""
    crew_id = await new_crew(store)
    known: dict[str, list[str]] = {}
    for name, passage in passages():
        known.setdefault(name, []).append(passage)
    for name, contents in known.items():
        await Knowledge(store).add(crew_id, name, "text/markdown", "", contents)
    recall = Recall(reading(store.path), crew_id, RunEmbedder())
    lost = missed(lambda question: [hit.record.content for hit in recall.search(question).hits])
    for question in lost:
        print(f"       not found: {question}")
    return len(QUESTIONS) - len(lost)


async def ours(texts: Texts, store: Store, size: int) -> tuple[str, float, float, float]:
    """Measure what a crew with so many passages costs."""
    crew_id, other = await new_crew(store), await new_crew(store)
    memories = Memories(store)
    contents = [texts.text(WORDS_OF_A_PASSAGE) for _ in range(size)]
    waits: list[float] = []

    async def bother() -> None:
        while True:
            began = time.perf_counter()
            await remember_short(memories, other, "Somebody else has something to remember")
            waits.append(time.perf_counter() - began)

    bothering = asyncio.ensure_future(bother())
    began = time.perf_counter()
    await Knowledge(store).add(crew_id, "all.txt", "text/plain", "", contents)
    made = time.perf_counter() - began
    bothering.cancel()
    with suppress(asyncio.CancelledError):
        await bothering
    added = []
    for _ in range(ADDED):
        began = time.perf_counter()
        await remember_long(memories, crew_id, "notes", texts.text(WORDS_OF_A_TASK))
        added.append(time.perf_counter() - began)
    recall = Recall(reading(store.path), crew_id, RunEmbedder())
    queries = [(texts.text(WORDS_OF_A_TASK), texts.text(WORDS_OF_A_CONTEXT)) for _ in range(ROUNDS)]
    one, most = milliseconds(added)
    asked, longest = times(lambda number: recall.search(QUESTIONS[number % len(QUESTIONS)][0]))
    task, slowest = times(lambda number: recall.search(*queries[number]))
    print(
        f"{size:>6} passages   stored in {made:.2f} s, others waited {max(waits, default=0) * 1_000:.0f} ms "
        f"at most   one memory more p50 {one:.1f}, p99 {most:.1f} ms   "
        f"a question p50 {asked:.1f}, p99 {longest:.1f} ms   "
        f"a task with a context p50 {task:.1f}, p99 {slowest:.1f} ms"
    )
    return crew_id, made, one, asked


async def runs(texts: Texts, folder: Path, file: Path, crew_id: str) -> None:
    """Measure what a run's process takes of memory, with and without memories."""
    backend = LocalBackend(folder)
    await backend.start()
    task = texts.text(WORDS_OF_A_TASK)
    used: dict[bool, list[float]] = {True: [], False: []}
    recalled: list[float] = []
    for number in range(2 if TINY else 10):
        with_memory = bool(number % 2)
        spec = _spec(folder / f"run{number}", task, file if with_memory else None, crew_id)
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
        f"a run's process: {without:.1f} MB without, {with_:.1f} MB with {SIZES[-1]:,} passages: "
        f"{with_ - without:+.1f} MB; its first recall took {statistics.median(recalled):.1f} ms "
        f"(median of 5, least {min(recalled):.1f})"
    )


def uss(pid: int) -> float:
    """Give the MB of a process that are its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1_000


def _spec(folder: Path, task: str, file: Path | None, crew_id: str) -> RunSpec:
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
            "crew": {"id": crew_id, "name": "C", "memory": file is not None, **stamps},
            "agents": [agent],
            "tasks": [doing],
            "inputs": {},
            "models": {"sandbox": {"name": "sandbox", "provider": "sandbox", "model": "sandbox"}},
            "manager_model": None,
            "memory": RunMemory(file=str(file), remember=True).model_dump() if file else None,
            "folder": str(folder),
        }
    )


def theirs(texts: Texts, folder: Path) -> None:
    """Measure CrewAI's own memory: an index of its default storage, recalled without asking a model."""
    from kasal_jupyter.worker.process.setup import import_crewai

    import_crewai(folder)
    from crewai.memory.storage.lancedb_storage import LanceDBStorage
    from crewai.memory.types import MemoryRecord
    from crewai.memory.unified_memory import Memory

    numbers = random.Random(2)

    def embed(contents: list[str]) -> list[list[float]]:
        return [[numbers.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in contents]

    for size in SIZES:
        contents = [texts.text(WORDS_OF_A_PASSAGE) for _ in range(size)]
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

        usual, slowest = times(look, min(ROUNDS, 50))
        print(
            f"{size:>6} memories   recall p50 {usual:.1f}, p99 {slowest:.1f} ms   the first {first:.0f} ms   "
            f"stored in {built:.2f} s   {uss(os.getpid()) - before:+.0f} MB in the process"
        )


def _parts(contents: list[str], size: int) -> Iterator[list[str]]:
    for at in range(0, len(contents), size):
        yield contents[at : at + size]


def readme(made: float, added: float, asked: float, answered: int) -> str:
    """Give the README's rows."""
    return (
        "| 10,000 passages of knowledge: stored and indexed, one memory more, a search (`memory.py`) "
        f"| {made:.1f} s, {added:.0f} ms and {asked:.0f} ms; {BEFORE} |\n"
        "| questions about `docs/` whose passage is among the first five "
        f"| {answered} of {len(QUESTIONS)}; {FOUND_BEFORE} |"
    )


async def measure(folder: Path) -> None:
    """Measure what is ours."""
    texts = Texts()
    with Store.open(folder / "store", SCHEMAS) as store:
        answered = await found(store)
        print(f"{answered} of {len(QUESTIONS)} questions find their passage among the first five")
        for size in SIZES:
            crew_id, *figures = await ours(texts, store, size)
        await runs(texts, folder, store.path, crew_id)
    print(readme(*figures, answered))


def main() -> None:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "--crewai" in sys.argv:
            theirs(Texts(), folder)
            return
        asyncio.run(measure(folder))
        print("CrewAI's own memory, vectors of as many dimensions, depth='shallow'", flush=True)
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--crewai"], check=True)


if __name__ == "__main__":
    main()
