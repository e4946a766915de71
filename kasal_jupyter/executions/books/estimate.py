"""What a run may take: tokens, dollars, seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.estimate import Estimate, Range
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.store.store import Store

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
