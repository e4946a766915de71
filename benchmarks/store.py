"""The store's figures: TinyDB on its own JSON storage, beside TinyDB on ours.

``python benchmarks/store.py`` prints tables, with ``--json`` a JSON object. Both sides
do the same in the same run: durable inserts and updates by id of documents of 1 kB.
It takes about a minute, most of it TinyDB's own storage at 100,000 documents.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from tinydb import TinyDB

from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.store.repository import Selection
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.table import Database

TINY = "--tiny" in sys.argv
SIZES = (1, 2, 3, 4) if TINY else (100, 1_000, 10_000, 100_000)
STOCK_SAMPLES = dict(zip(SIZES, (1, 1, 1, 1) if TINY else (100, 30, 9, 3), strict=True))
OUR_SAMPLES = 1 if TINY else 500
WRITERS = 2 if TINY else 32
WRITES = 2 if TINY else 200


LAYOUTS = {"_default": ("id", "owner")}
"""What is looked up of our documents; stock has no index, and writes none."""

LISTED = (10, 20) if TINY else (10_000, 20_000)
"""Executions of one owner whose lists are measured."""


def document(number: int) -> dict[str, Any]:
    """Make a document of 1 kB, with some structure."""
    made = {
        "id": f"crew_{number:012}",
        "owner": f"user_{number % 50}",
        "created_at": "2024-01-15T10:30:00Z",
        "settings": {"temperature": 0.5, "stop": ["a", "b"], "stream": True, "seed": None},
        "version": number,
        "description": "",
    }
    made["description"] = "x" * (1_000 - len(json.dumps(made)))
    return made


def median_ms(
    action: Callable[[int], object], samples: int, before: Callable[[int], object] | None = None
) -> float:
    """Give the median time of an action, in milliseconds, without what is done before it."""
    times = []
    for number in range(samples):
        if before is not None:
            before(number)
        begin = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def measure(database: TinyDB, size: int, samples: int) -> dict[str, float]:
    """Give the medians of a database that has `size` documents."""
    step = max(1, size // samples)
    return {
        "insert_ms": median_ms(lambda n: database.insert(document(size + n)), samples),
        "update_ms": median_ms(
            lambda n: database.update({"version": -n - 1}, doc_ids=[1 + n * step % size]), samples
        ),
        "get_ms": median_ms(lambda n: database.get(doc_id=1 + n * step % size), samples),
    }


def compare(folder: Path) -> Iterator[dict[str, Any]]:
    """Measure both sides at each size."""
    for size in SIZES:
        stock_file = folder / f"stock-{size}.json"
        rows = {str(number): document(number) for number in range(1, size + 1)}
        stock_file.write_text(json.dumps({"_default": rows}))
        del rows
        with TinyDB(stock_file) as database:
            stock = measure(database, size, STOCK_SAMPLES[size])
        stock_file.unlink()
        with Database(folder / f"ours-{size}.db", layouts=LAYOUTS) as database:
            database.insert_multiple(document(number) for number in range(1, size + 1))
            ours = measure(database, size, OUR_SAMPLES)
        yield {"documents": size, "stock": stock, "ours": ours}


async def write_concurrently(store: Store, work: Callable[[], object]) -> dict[str, float]:
    """Let many writers of one loop each write and wait, and watch the loop meanwhile."""
    lags = []

    async def watch() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append(time.perf_counter() - begin - 0.001)

    async def write() -> None:
        for _ in range(WRITES):
            await store.change(work)

    watching = asyncio.ensure_future(watch())
    begin = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    seconds = time.perf_counter() - begin
    watching.cancel()
    return {
        "writes_per_second": WRITERS * WRITES / seconds,
        "loop_lag_p50_ms": statistics.median(lags) * 1e3,
        "loop_lag_max_ms": max(lags) * 1e3,
    }


def group_commit(folder: Path) -> dict[str, dict[str, float]]:
    """Measure the throughput of concurrent changes, and of one writer that waits for each."""
    with Store.open(folder / "group") as store:
        notes, made, now = store.db.table("notes"), document(1), utc_now()

        def insert_crew() -> None:
            store.crews.insert(
                Crew(id=new_id("crew"), owner="ada", name="Writers", created_at=now, updated_at=now)
            )

        alone = median_ms(lambda _: store.change_now(lambda: notes.insert(made)), OUR_SAMPLES)
        return {
            "one writer": {"writes_per_second": 1e3 / alone},
            f"{WRITERS} writers, plain documents": asyncio.run(
                write_concurrently(store, lambda: notes.insert(made))
            ),
            f"{WRITERS} writers, crews": asyncio.run(write_concurrently(store, insert_crew)),
        }


def lists(folder: Path, size: int) -> dict[str, float]:
    """Measure the pages of 20 that lists of one owner's executions have, in milliseconds."""
    with Store.open(folder / f"lists-{size}") as store:
        made = [
            Execution(
                id=f"job_{n:012}",
                crew_id=f"crew_{n % 50}",
                crew_name=f"Crew {n % 50} of the Editors",
                owner="ada",
                server="server",
                status="completed",
                progress=100,
                inputs={"topic": "tea"},
                created_at=f"2024-01-{1 + n * 28 // size:02}T10:30:00Z",
                duration=n * 7919 % 1000 / 10,
                result=f"The end of story {n}. " + "It was a long and winding road. " * 20,
            )
            for n in range(size)
        ]
        store.change_now(lambda: [store.executions.insert(each) for each in made])
        ids = [each.id for each in made]
        window = {"least": {"created_at": "2024-01-10"}, "below": {"created_at": "2024-01-12"}}
        fields = ("crew_name", "result")
        wanted = {
            "sort": Selection(sort="duration", descending=True, limit=20),
            "sort by a text": Selection(sort="crew_name", limit=20),
            "window": Selection(sort="created_at", descending=True, limit=20, **window),
            "search": Selection(sort="created_at", search="Story 77", searched=fields, limit=20),
            "search, sort, window": Selection(
                sort="duration", search="story 4", searched=fields, limit=20, **window
            ),
        }

        def change(number: int) -> None:
            # Nothing that was remembered counts.
            store.change_now(lambda: store.executions.update(ids[0], {"progress": number}))

        figures = {
            name: median_ms(lambda _, each=each: store.executions.select(each, owner="ada"), 5, change)  # type: ignore[misc]
            for name, each in wanted.items()
        }
        figures["page"] = median_ms(
            lambda _: store.executions.page(owner="ada", order="newest", limit=20), 50, change
        )
        figures["one by id"] = median_ms(lambda n: store.executions.get(ids[n * 7919 % size]), 200)
        return figures


def load(path: Path) -> dict[str, float]:
    """Measure the opening of a large file; to be called in a fresh process."""
    with Database(path.with_name("empty.db"), layouts=LAYOUTS) as database:
        database.insert(document(1))
        # What is imported and kept of any store, however small.
        database.get(doc_id=1)
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    with Database(path, layouts=LAYOUTS) as database:
        seconds = time.perf_counter() - begin
        documents = len(database)
        for n in range(1, documents, max(1, documents // 2_000)):
            database.get(doc_id=n)
            database.table("_default").lookup({"owner": f"user_{n % 50}"}, newest_first=True, limit=20)
        memory = psutil.Process().memory_info().rss - before
    return {"documents": documents, "load_seconds": seconds, "memory_mb": memory / 1e6}


def load_in_a_fresh_process(path: Path) -> dict[str, float]:
    """Measure :func:`load` where nothing else takes memory."""
    command = [sys.executable, __file__, "--load", str(path)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return measured


def show(
    rows: list[dict[str, Any]],
    group: dict[str, dict[str, float]],
    loaded: dict[str, float],
    listed: dict[int, dict[str, float]],
) -> None:
    """Print the figures as tables."""
    print(f"Median of a durable write, documents of 1 kB ({os.cpu_count()} cores)\n")
    print(f"{'documents':>10} {'':8} {'stock':>12} {'ours':>10} {'faster':>10} {'ours, to 100':>14}")
    for row in rows:
        for what in ("insert", "update", "get"):
            stock, ours, first = (side[f"{what}_ms"] for side in (row["stock"], row["ours"], rows[0]["ours"]))
            name = f"{row['documents']:>10,}" if what == "insert" else " " * 10
            print(
                f"{name} {what:8} {stock:9.3f} ms {ours:7.3f} ms {stock / ours:9,.0f}x {ours / first:13.2f}x"
            )
    print("\nWrites acknowledged a second")
    for name, figures in group.items():
        lag = figures.get("loop_lag_max_ms")
        note = "" if lag is None else f"   loop lag {figures['loop_lag_p50_ms']:.1f} ms, at most {lag:.1f} ms"
        print(f"  {name:30} {figures['writes_per_second']:8,.0f}{note}")
    print("\nA page of 20 of one owner's executions, in ms")
    for size, figures in listed.items():
        told = ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items())
        print(f"  {size:>6,}: {told}")
    print(
        f"\nOpening {loaded['documents']:,} documents with two indexes: "
        f"{loaded['load_seconds'] * 1e3:.1f} ms; {loaded['memory_mb']:.1f} MB more once 2,000 were read."
    )


def readme(rows: list[dict[str, Any]], loaded: dict[str, float], listed: dict[int, dict[str, float]]) -> str:
    """Give the README's rows."""
    few, _, some, many = rows
    insert, update = (
        some["stock"][f"{what}_ms"] / some["ours"][f"{what}_ms"] for what in ("insert", "update")
    )
    inserts, updates = (
        many["ours"][f"{what}_ms"] / few["ours"][f"{what}_ms"] for what in ("insert", "update")
    )
    return (
        "| durable insert and update at 10,000 documents, against TinyDB's JSONStorage (`store.py`) "
        f"| {insert:,.0f} and {update:,.0f} times faster |\n"
        f"| the same at 100,000 documents against 100 | {inserts:.2f} and {updates:.2f} times the time |\n"
        f"| opening 100,000 documents, and the memory that it takes | {loaded['load_seconds'] * 1e3:.0f} ms, "
        f"{loaded['memory_mb']:.0f} MB |\n"
        f"| a page of 10,000 and 20,000 executions that are sorted, searched or cut by time "
        f"| at most {max(listed[LISTED[0]].values()):.0f} and {max(listed[LISTED[1]].values()):.0f} ms |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        print(json.dumps(load(args.load)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = list(compare(folder))
        group = group_commit(folder)
        listed = {size: lists(folder, size) for size in LISTED}
        loaded = load_in_a_fresh_process(folder / f"ours-{SIZES[-1]}.db")
    if args.json:
        print(json.dumps({"writes": rows, "group_commit": group, "lists": listed, "load": loaded}, indent=2))
    else:
        show(rows, group, loaded, listed)
        print(f"\n{readme(rows, loaded, listed)}")


if __name__ == "__main__":
    main()
