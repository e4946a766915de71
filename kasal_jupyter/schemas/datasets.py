"""Datasets and ratings: what crews are compared on, and what people have said of past executions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from kasal_jupyter.schemas.base import (
    MOST_LISTED,
    Document,
    Given,
    Listed,
    ListQuery,
    LongText,
    Model,
    Name,
    Query,
    called,
)

Thumb = Literal["up", "down"]

MOST_ROWS = 10_000
"""Rows of a dataset."""


class Rating(Model):
    """The body of ``PUT /executions/{job_id}/rating``: what somebody makes of an execution's answer."""

    thumb: Thumb
    answer: LongText | None = Field(None, description="What the answer should have been.")
    note: Annotated[str, StringConstraints(max_length=2_000)] | None = Field(
        None, description="Why, for people."
    )


class RatingGiven(Rating):
    """A rating as it is kept."""

    author: str = Field(description="Who has given it.")
    rated_at: str


class DatasetRow(Model):
    """One row: what a crew is given, and what is expected of it."""

    inputs: dict[str, Any] = Field(max_length=1_000, description="Values for a crew's {placeholders}.")
    expected: Any = Field(None, description="What its answer is scored by; null: nothing is.")
    source_job: str | None = Field(None, max_length=200, description="The execution that it is from.")


class RatedRuns(Model):
    """Which past executions rows are made of: of those that are rated, the latest of each inputs."""

    crew_id: str | None = Field(None, description="One crew's.")
    thumb: Thumb | None = Field(None, description="Those of one thumb; null: both.")


class DatasetRows(Model):
    """The body of ``POST /datasets/{dataset_id}/rows``."""

    rows: list[DatasetRow] = Field(default_factory=list, max_length=MOST_ROWS)
    rated: RatedRuns | None = Field(
        None,
        description="Executions that are rated become rows as well. What is expected is the rating's answer, "
        "else, of a thumb up, the result.",
    )


class DatasetCreate(DatasetRows):
    """The body of ``POST /datasets``."""

    name: Name


class DatasetUpdate(Model):
    """The body of ``PUT /datasets/{dataset_id}``."""

    name: Given[Name] = Field(None)
    rows: Given[list[DatasetRow]] = Field(
        None, max_length=MOST_ROWS, description="What it has from now on, in the place of all that it had."
    )


class Dataset(Document):
    """A dataset, without its rows."""

    id: str
    name: str
    owner: str
    total: int = Field(ge=0, description="Rows.")
    created_at: str
    updated_at: str


class KeptRow(Document):
    """A row as it is stored."""

    id: str
    dataset_id: str
    owner: str
    inputs: dict[str, Any]
    position: int
    expected: Any = None
    source_job: str | None = None

    @property
    def row(self) -> DatasetRow:
        """It, as it is given."""
        return DatasetRow(inputs=self.inputs, expected=self.expected, source_job=self.source_job)


class DatasetQuery(ListQuery):
    """The query of ``GET /datasets``."""

    name: str | None = Field(None, max_length=200, description="The one of exactly this name.")
    sort: Literal["created_at", "-created_at", "name", "-name", "updated_at", "-updated_at"] = "-created_at"


class DatasetList(Listed[Dataset], alias_generator=called("datasets")):
    """The answer of ``GET /datasets``."""


class RowQuery(Query):
    """The query of ``GET /datasets/{dataset_id}/rows``."""

    after: int = Field(0, ge=0, le=MOST_ROWS, description="How many are known already.")
    limit: int = Field(100, ge=1, le=MOST_LISTED, description="Most to give at once.")


class RowList(Model):
    """The answer of ``GET /datasets/{dataset_id}/rows``."""

    rows: list[DatasetRow]
    next: int | None = Field(description="What to give as after for the rows behind these; null at the end.")
