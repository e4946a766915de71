"""Batches: a crew run over many rows, one execution a row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from kasal_jupyter.schemas.base import WHOLE, Document, Given, Listed, ListQuery, Model, Name, Query, called
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.tools import ClientTool

BatchState = Literal["running", "paused", "completed", "stopped", "failed"]
"""A batch's state: ``completed`` when no row is left to do, failed or not; ``failed``: it cannot go on."""

RowState = Literal["waiting", "running", "completed", "failed", "stopped", "shared"]
"""A row's: of one that is ``shared``, an equal row's run answers; one that was interrupted has ``failed``."""

FINISHED: frozenset[str] = frozenset({"completed", "stopped", "failed"})
"""The states in which a batch starts no row; it goes on from them when it is asked to."""

MOST_ROWS = 100_000
"""Rows of a batch."""

MOST_ROWS_GIVEN = 1_000
"""Rows that are given at once."""

MOST_AT_ONCE = 1_000
"""Rows of a batch that may be asked to go on at the same time."""

AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE), WHOLE]


def row_keys(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Give each row's key: the digest of its inputs, and which of its equals it is, never where it stands.

    Parameters
    ----------
    rows
        The inputs of each.
    """
    equals: Counter[str] = Counter()
    for inputs in rows:
        digest = digest_of_inputs(inputs)
        equals[digest] += 1
        yield f"{digest}:{equals[digest] - 1}"


def digest_of_inputs(inputs: Mapping[str, Any]) -> str:
    """Give the SHA-256 of inputs, written with their names in order: equal inputs have the same."""
    return hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()


class RowGiven(Model):
    """What one row is run with."""

    inputs: dict[str, Any] = Field(max_length=1_000, description="Values for the crew's {placeholders}.")


class BatchOptions(Model):
    """How a batch is run; with rows that are uploaded, these are the query's."""

    crew_id: str
    crew_version: Annotated[int, Field(ge=1), WHOLE] | None = Field(
        None, description="The version of the crew; null: the newest, as it is when the batch begins."
    )
    name: Name | None = Field(
        None,
        description="What it is called. The same name, crew and rows again: the batch goes on where it was.",
    )
    concurrency: AtOnce | None = Field(
        None, description="Rows that go on at the same time at the most; null: as many as there are places."
    )
    dedupe: bool = Field(False, description="Whether equal rows share one run.")
    once: bool = Field(
        True, description="Whether an earlier run that was asked for the same answers for a row."
    )
    model: Name | None = Field(None, description="The model that is asked in the place of all of the crew's.")


class BatchCreate(BatchOptions):
    """The body of ``POST /batches``."""

    rows: list[RowGiven] = Field(min_length=1, max_length=MOST_ROWS)
    expected: list[Any] | None = Field(
        None, max_length=MOST_ROWS, description="What is expected of each row, for whoever compares."
    )
    budget: Budget | None = Field(None, description="What all rows together may use up.")
    run_budget: Budget | None = Field(None, description="What each row may use up.")
    tools: list[ClientTool] = Field(
        default_factory=list, max_length=64, description="Tools that whoever starts the batch answers for."
    )


class BatchUploadQuery(Query):
    """The query of ``POST /batches`` where the body is a file of rows: its columns are the inputs."""

    crew_id: str | None = Field(None, description="With a file of rows: the crew.")
    crew_version: int | None = Field(None, ge=1, description="With a file of rows: the crew's version.")
    name: Name | None = Field(None, description="With a file of rows: what the batch is called.")
    concurrency: int | None = Field(
        None, ge=1, le=MOST_AT_ONCE, description="With a file of rows: most that go on at the same time."
    )
    dedupe: bool = Field(False, description="With a file of rows: whether equal rows share one run.")
    once: bool = Field(True, description="With a file of rows: whether an earlier equal run answers.")
    model: Name | None = Field(None, description="With a file of rows: the model in the place of all.")
    max_cost: float | None = Field(
        None, gt=0, le=1e6, description="With a file of rows: US dollars that all rows may use up."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=10**12, description="With a file of rows: tokens that all rows may use up."
    )


class BatchChange(Model):
    """The body of ``PATCH /batches/{id}``: what is other from now on."""

    concurrency: AtOnce | None = Field(
        None, description="Rows that go on at the same time at the most; null: as many as there are places."
    )
    budget: Budget | None = Field(None, description="What all rows together may use up; null: no bound.")
    name: Given[Name] = Field(None, description="What it is called.")


class BatchCounts(Model):
    """How many rows stand how; ``shared`` ones are answered by an equal row."""

    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    stopped: int = 0
    shared: int = 0


class BatchReason(Model):
    """Why a batch stands still, or cannot go on."""

    code: str
    message: str


class Batch(Model):
    """A batch as it stands."""

    id: str
    name: str | None
    owner: str
    crew_id: str
    crew_name: str
    crew_version: int | None
    status: BatchState
    total: int = Field(description="Rows.")
    counts: BatchCounts
    cost: float | None = Field(
        description="US dollars that its runs have cost, as far as they ended; null where one is unknown."
    )
    tokens: int
    forecast_cost: float | None = Field(
        description="US dollars that all rows may cost, by those that are done; null where nothing tells."
    )
    budget: Budget | None
    run_budget: Budget | None
    concurrency: int | None
    dedupe: bool
    once: bool
    model: str | None
    created_at: str
    ended_at: str | None
    rate: float | None = Field(description="Rows that were done a second, of late; null where nothing tells.")
    seconds_left: float | None
    reason: BatchReason | None = Field(None, description="Why it stands still, or cannot go on.")

    @property
    def is_over(self) -> bool:
        """Whether nothing of it goes on any more: it has ended, and so have its rows."""
        return self.status in FINISHED and not self.counts.running


class BatchQuery(ListQuery):
    """The query of ``GET /batches``."""

    crew_id: str | None = Field(None, description="One crew's batches.")
    status: BatchState | None = Field(None, description="Those in one state.")
    name: str | None = Field(None, max_length=200, description="Those of one name.")
    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class BatchList(Listed[Batch], alias_generator=called("batches")):
    """The answer of ``GET /batches``."""


class RowError(Model):
    """Why a row has no output."""

    code: str
    message: str


class BatchRow(Model):
    """A row, and what has come of it."""

    index: int = Field(description="Where it stands in the input, from 0.")
    key: str = Field(description="SHA-256 of its inputs, and which of its equals it is.")
    inputs: dict[str, Any]
    expected: Any = None
    status: RowState
    job_id: str | None = Field(
        description="The execution that answers: its own, an earlier, or an equal row's."
    )
    shared_with: int | None = Field(None, description="The index of the equal row that answers for it.")
    attempts: int = Field(description="How often it was begun: more than once where it was tried again.")
    recorded: bool = Field(False, description="Whether an earlier run's answer was taken, and nothing paid.")
    output: str | None
    structured: Any = Field(None, description="The output as JSON, where the crew's last task gives such.")
    error: RowError | None
    tokens: int
    cost: float | None
    duration: float | None = Field(description="Seconds.")

    @property
    def failure(self) -> str | None:
        """Why it has no output, in a line; None where it has, or still may."""
        return f"{self.error.code}: {self.error.message}" if self.error is not None else None


class RowsQuery(Query):
    """Which rows of a batch are asked for."""

    status: RowState | None = Field(None, description="Those in one state.")
    after: int = Field(-1, ge=-1, le=10**9, description="The index of the last one already known.")
    limit: int = Field(100, ge=1, le=MOST_ROWS_GIVEN, description="Most to give at once.")


class BatchRows(Model):
    """The answer of ``GET /batches/{id}/rows``."""

    rows: list[BatchRow]
    next: int | None = Field(description="What to give as after for the rows behind these; null at the end.")


class ResultsQuery(Query):
    """The form in which a batch's results are asked for."""

    format: Literal["jsonl", "csv", "parquet"] = Field(
        "jsonl",
        description="JSON lines are the rows as they are; in CSV and Parquet each input, and each field of a "
        "structured output, is a column.",
    )


# As they are stored.


class StoredBatch(Document):
    """What is stored of a batch; its rows are documents of their own."""

    id: str
    name: str | None = None
    owner: str
    crew_id: str
    crew_name: str
    crew_version: int | None = None
    server: str = Field(description="The server that runs it.")
    status: BatchState
    total: int
    budget: Budget | None = None
    run_budget: Budget | None = None
    concurrency: int | None = None
    dedupe: bool = False
    once: bool = True
    model: str | None = None
    tools: list[ClientTool] = Field(default_factory=list)
    structured: bool = Field(False, description="Whether the crew's last task gives an object.")
    digest: str = Field(description="Of its rows' keys, in any order, and of all that is alike for them.")
    round: int = Field(0, description="How often rows that had failed were asked for again.")
    created_at: str
    since: float = Field(description="When it was begun, or gone on with, last; seconds since 1970.")
    ended_at: str | None = None
    reason: BatchReason | None = None


class StoredRow(Document):
    """What is stored of a row of a batch."""

    id: str = Field(description="The batch's, and where it stands there.")
    batch_id: str
    owner: str
    index: int
    key: str
    inputs: dict[str, Any]
    expected: Any = None
    status: RowState
    round: int = Field(0, description="The batch's, when it was begun last.")
    job_id: str | None = None
    shared_with: int | None = None
    attempts: int = 0
    cuts: int = Field(0, description="How often it was cut off with its server as it ran.")
    recorded: bool = False
    output: str | None = None
    structured: Any = None
    error: RowError | None = None
    tokens: int = 0
    cost: float | None = None
    duration: float | None = None
    spent_tokens: int = Field(
        0, description="What all of its attempts have used, as far as that was paid for."
    )
    spent_cost: float | None = 0.0
    before_tokens: int = Field(0, description="The same, of the attempts before this one.")
    before_cost: float | None = 0.0
    ended: float | None = Field(None, description="When it was done; seconds since 1970.")
