"""What a run may take, going by the crew's past runs."""

from __future__ import annotations

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
