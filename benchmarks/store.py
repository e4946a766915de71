"""The store's figures: TinyDB on its own JSON storage, beside TinyDB on ours.

``python benchmarks/store.py`` prints tables, with ``--json`` a JSON object. Both sides
do the same in the same run: durable inserts and updates by id of documents of 1 kB.
It takes about a minute, most of it TinyDB's own storage at 100,000 documents.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
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
from kasal_jupyter.store.database import Database
from kasal_jupyter.store.store import Store

TINY = "--tiny" in sys.argv
SIZES = (1, 2, 3, 4) if TINY else (100, 1_000, 10_000, 100_000)
STOCK_SAMPLES = dict(zip(SIZES, (1, 1, 1, 1) if TINY else (100, 30, 9, 3), strict=True))
OUR_SAMPLES = 1 if TINY else 500
WRITERS = 2 if TINY else 32
WRITES = 2 if TINY else 200


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


def median_ms(action: Callable[[int], object], samples: int) -> float:
    """Give the median time of an action, in milliseconds."""
    times = []
    for number in range(samples):
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
        with Database(folder / f"ours-{size}.db") as database:
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


def load(path: Path) -> dict[str, float]:
    """Measure the opening of a large file; to be called in a fresh process."""
    collection_before = median_ms(lambda _: gc.collect(), 3)
    before, begin = psutil.Process().memory_info().rss, time.perf_counter()
    with Database(path, indexes={"_default": ("id", "owner")}) as database:
        seconds = time.perf_counter() - begin
        memory = psutil.Process().memory_info().rss - before
        documents = len(database)
        collection = median_ms(lambda _: gc.collect(), 3)
        scan = median_ms(lambda _: sum(1 for _ in database), 1)
    return {
        "documents": documents,
        "load_seconds": seconds,
        "memory_mb": memory / 1e6,
        "full_collection_ms": collection,
        "full_collection_before_ms": collection_before,
        "scan_ms": scan,
    }


def load_in_a_fresh_process(path: Path) -> dict[str, float]:
    """Measure :func:`load` where nothing else takes memory."""
    command = [sys.executable, __file__, "--load", str(path)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return measured


def show(rows: list[dict[str, Any]], group: dict[str, dict[str, float]], loaded: dict[str, float]) -> None:
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
    print(
        f"\nLoading {loaded['documents']:,} documents with two indexes: {loaded['load_seconds']:.2f} s, "
        f"{loaded['memory_mb']:.0f} MB.\nA full garbage collection takes "
        f"{loaded['full_collection_ms']:.0f} ms after it and {loaded['full_collection_before_ms']:.0f} ms "
        f"before; to read every document takes {loaded['scan_ms']:.0f} ms."
    )


def readme(rows: list[dict[str, Any]]) -> str:
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
        f"| the same at 100,000 documents against 100 | {inserts:.2f} and {updates:.2f} times the time |"
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
        loaded = load_in_a_fresh_process(folder / f"ours-{SIZES[-1]}.db")
    if args.json:
        print(json.dumps({"writes": rows, "group_commit": group, "load": loaded}, indent=2))
    else:
        show(rows, group, loaded)
        print(f"\n{readme(rows)}")


if __name__ == "__main__":
    main()
