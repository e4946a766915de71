"""How long a run will take."""

from __future__ import annotations

import statistics

from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.store.store import Store

SECONDS_PER_TASK = 30
"""The guess at a task's duration where a crew has no completed run yet."""

LATEST_RUNS = 20
"""The runs that are looked at: what a crew took long ago says less."""


def estimate(store: Store, whole: WholeCrew) -> int:
    """Guess how long a run will take, in seconds: the median of the crew's latest completed runs."""
    past = store.executions.page(
        order="newest", limit=LATEST_RUNS, crew_id=whole.crew.id, status="completed"
    ).documents
    durations = [execution.duration for execution in past if execution.duration is not None]
    if durations:
        return max(1, round(statistics.median(durations)))
    return SECONDS_PER_TASK * max(1, len(whole.tasks))
