"""What a run may take, going by the crew's past runs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kasal_jupyter.schemas.base import Model


class Range(Model):
    """What most past runs took."""

    median: float
    low: float = Field(description="A tenth of the runs took less.")
    high: float = Field(description="A tenth of the runs took more.")


class Estimate(Model):
    """What a run may take: tokens, US dollars and seconds.

    It is null where no past run tells: none of them is guessed.
    """

    runs: int = Field(description="The completed runs, with the models that the crew has now, that it is of.")
    tokens: Range | None
    cost: Range | None = Field(description="US dollars; of the runs whose cost is known.")
    seconds: Range | None


ESTIMATE_EXAMPLE: dict[str, Any] = {
    "runs": 12,
    "tokens": {"median": 6690, "low": 5200, "high": 9130},
    "cost": {"median": 0.0278, "low": 0.021, "high": 0.0391},
    "seconds": {"median": 41.5, "low": 33.1, "high": 70.2},
}
