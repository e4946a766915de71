"""The books: what runs used, by day, owner and crew.

They are kept beside the executions, so that a question about a year reads a few entries and no execution, and
so that an execution which is deleted stays paid for. A run is booked in the change that stores its end, and
never twice: the execution notes the day in the same change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kasal_jupyter.errors import NotFound
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.events.tally import Breakdown
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.memory.memories import keep_run
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.usage import LedgerEntry
from kasal_jupyter.store.store import Store

BOOKED_AT_ONCE = 50
"""Past runs that are booked in one change."""


def settle(
    store: Store,
    execution: Execution,
    summary: RunSummary,
    fields: Mapping[str, Any],
    *,
    final: bool = True,
    memories: bool = True,
) -> None:
    """Store fields of an execution, and book it where they end it; within a change of the store.

    Parameters
    ----------
    store
        Where it is stored.
    execution
        As it is stored.
    summary
        What has come of it.
    fields
        What is stored of that.
    final
        Whether nothing will come any more: a run that has ended may still use something.
    memories
        Whether its crew remembers it.
    """
    booked = execution.booked
    if booked is None and final and fields["status"] in ENDED and execution.verb == "replay":
        # It has used nothing, and its crew has nothing new to remember.
        booked = _day_of(execution)
    elif booked is None and final and fields["status"] in ENDED:
        for entry in entries_of(execution, summary):
            _add(store, entry)
        # With the books, and as they once only.
        if memories:
            keep_run(store, execution.crew_id, execution.id, summary.remembered)
        booked = _day_of(execution)
    store.executions.update(execution.id, {**fields, "booked": booked})


def entries_of(execution: Execution, summary: RunSummary) -> Iterator[LedgerEntry]:
    """Give what a run is in the books: an entry for each day on which a model answered it.

    The run itself counts on the day it was asked for, whether or not it has used anything.
    """
    begun = _day_of(execution)
    for day in sorted({begun, *summary.days}):
        used = summary.days.get(day, Breakdown())
        yield LedgerEntry(
            id=f"{day}/{execution.owner}/{execution.crew_id}",
            day=day,
            owner=execution.owner,
            crew_id=execution.crew_id,
            crew_name=execution.crew_name,
            runs=int(day == begun),
            usage=used.whole.usage(),
            by=used.by(),
        )


async def book_past_runs(
    store: Store, folder: Path, alive: Callable[[str], bool] = lambda _server: False
) -> None:
    """Book the ended runs that have been left unbooked, from their journals.

    A version without books has left them, or a server that was killed as a run had just ended.

    Parameters
    ----------
    store
        Where executions and books are.
    folder
        Where the journals are.
    alive
        Says whether a server runs: those book their own.
    """
    for status in sorted(ENDED):
        passed = 0
        while True:
            page = store.executions.page(booked=None, status=status, offset=passed, limit=BOOKED_AT_ONCE)
            if not page.documents:
                break
            past = [execution.id for execution in page.documents if not alive(execution.server)]
            summaries = await asyncio.to_thread(_read, past, folder)
            await store.change(partial(_book, store, summaries))
            passed += len(page.documents) - len(past)


def _read(job_ids: list[str], folder: Path) -> dict[str, RunSummary]:
    return {job_id: _summary_of(folder / f"{job_id}.jsonl") for job_id in job_ids}


def _summary_of(path: Path) -> RunSummary:
    try:
        return Feed.open(path).summary
    except NotFound:
        # That it ran is known, what it used is not any more.
        return RunSummary()


def _book(store: Store, summaries: Mapping[str, RunSummary]) -> None:
    for job_id, summary in summaries.items():
        # Another server on the folder may have been quicker.
        execution = store.executions.get(job_id)
        if execution is not None and execution.booked is None:
            settle(store, execution, summary, {"status": execution.status, **_figures(summary)})


def _figures(summary: RunSummary) -> dict[str, Any]:
    return {"usage_by": summary.usage_by().model_dump()} if summary.days else {}


def _day_of(execution: Execution) -> str:
    return execution.created_at[:10]


def _add(store: Store, entry: LedgerEntry) -> None:
    while (known := store.ledger.readable(entry.id)) is None and store.ledger.has(entry.id):
        # That one is damaged, and this one must not be lost for it: days and owners are told by fields.
        entry = entry.model_copy(update={"id": f"{entry.id}/more"})
    if known is None:
        store.ledger.insert(entry)
        return
    sums = Breakdown()
    sums.add(known.usage, known.by)
    sums.add(entry.usage, entry.by)
    store.ledger.replace(
        entry.model_copy(
            update={"runs": known.runs + entry.runs, "usage": sums.whole.usage(), "by": sums.by()}
        )
    )
