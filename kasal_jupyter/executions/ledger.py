"""The books: what runs used, by day, owner and crew; and what a run may take, going by them."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kasal_jupyter.errors import NotFound
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.events.tally import Breakdown
from kasal_jupyter.executions.allowances import settle_hold
from kasal_jupyter.executions.batches.rows import note_end
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.memory.memories import keep_run
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.usage import Estimate, LedgerEntry, Range
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

    A batch whose row it is learns of it in the same change.

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
    if booked is None and final and fields["status"] in ENDED:
        entries = list(entries_of(execution, summary))
        for entry in entries:
            _add(store, entry)
        settle_hold(store, execution.id, summary.usage(), entries)
        # With the books, and as they once only.
        if memories:
            keep_run(store, execution.crew_id, execution.id, summary.remembered)
        booked = _day_of(execution)
    store.executions.update(execution.id, {**fields, "booked": booked})
    note_end(store, execution, fields)


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


SECONDS_PER_TASK = 30
"""The guess at a task's duration where a crew has no completed run yet."""

LATEST_RUNS = 20
"""The runs that are looked at: what a crew took long ago says less."""


def estimate_duration(store: Store, whole: WholeCrew) -> int:
    """Guess how long a run will take, in seconds: the median of the crew's latest completed runs."""
    durations = [run.duration for run in _past_runs(store, whole) if run.duration is not None]
    if durations:
        return max(1, round(statistics.median(durations)))
    return SECONDS_PER_TASK * max(1, len(whole.tasks))


def estimate(store: Store, whole: WholeCrew, default_model: str) -> Estimate:
    """Say what a run may take, going by the crew's latest completed runs; nothing is guessed.

    Runs with other models than the crew has now say nothing of it: they cost something else.
    """
    models = models_of(whole, default_model)
    runs = [run for run in _past_runs(store, whole) if run.models == models]
    return Estimate(
        runs=len(runs),
        # A provider that counts no tokens leaves them unknown.
        tokens=_range(run.usage.total_tokens or (None if run.usage.llm_calls else 0) for run in runs),
        cost=_range(run.usage.cost for run in runs),
        seconds=_range(run.duration for run in runs),
    )


def models_of(whole: WholeCrew, default_model: str) -> list[str]:
    """Give the models that a crew names, sorted, the server's default where it names none."""
    crew = whole.crew
    named = {agent.model or default_model for agent in whole.agents}
    named |= {name for agent in whole.agents for name in agent.fallbacks}
    if crew.process == "hierarchical":
        named.add(crew.manager_model or default_model)
    if crew.planning:
        named.add(crew.planning_model or default_model)
    return sorted(named)


def _past_runs(store: Store, whole: WholeCrew) -> Sequence[Execution]:
    past = store.executions.page(
        order="newest", limit=LATEST_RUNS, crew_id=whole.crew.id, status="completed"
    ).documents
    # What a record has answered took no time and cost nothing.
    return [run for run in past if run.verb == "run"]


def _range(values: Iterable[float | None]) -> Range | None:
    """Give the median, and the bounds of the middle eight tenths; None where no value is known."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    if len(known) == 1:
        return Range(median=known[0], low=known[0], high=known[0])
    tenths = statistics.quantiles(known, n=10, method="inclusive")
    median, low, high = (round(value, 6) for value in (tenths[4], tenths[0], tenths[8]))
    return Range(median=median, low=low, high=high)
