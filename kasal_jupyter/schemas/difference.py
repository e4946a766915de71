"""What is different between two executions: ``GET /executions/{job_id}/diff/{other_id}``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.executions import Status, Verb


class DiffRun(Model):
    """One of the two."""

    job_id: str
    crew_id: str
    crew_name: str
    crew_version: int | None
    status: Status
    verb: Verb
    parent: str | None
    models: list[str] = Field(description="Those that it has asked.")
    total_tokens: int
    cost: float | None
    llm_calls: int
    tool_calls: int
    recorded: int = Field(description="Calls that another's record has answered.")
    duration: float | None


class DiffRow(Model):
    """A line of two texts side by side; null where the one has no such line."""

    a: str | None = None
    b: str | None = None
    same: bool = False
    skipped: int = Field(0, description="Lines that are the same and not given here.")


class DiffText(Model):
    """In what two texts differ, with the lines around."""

    label: str = Field(description="What the texts are: a message, an answer, an input.")
    rows: list[DiffRow]
    cut: bool = Field(False, description="Whether they differ in more than is given.")


class DiffStep(Model):
    """A call in one of the two."""

    span: int
    seq: int
    tokens: int | None
    cost: float | None
    recorded: bool
    edited: bool
    failed: bool


DiffKind = Literal["same", "question", "answer", "only_a", "only_b"]


class DiffPair(Model):
    """A call of the one, and what stands in its place in the other."""

    kind: Literal["model", "tool"]
    name: str = Field(description="The model, or the tool.")
    task: str | None
    agent: str | None
    differs: DiffKind = Field(description="In what: in what is asked, or else in what is answered.")
    a: DiffStep | None
    b: DiffStep | None


class ExecutionDiff(Model):
    """The answer of ``GET /executions/{job_id}/diff/{other_id}``."""

    a: DiffRun
    b: DiffRun
    same: bool = Field(description="Whether all was asked and answered alike, and came to the same end.")
    words: str = Field(description="Where they part, in a sentence.")
    inputs: list[DiffText] = Field(description="Inputs that differ.")
    first: DiffPair | None = Field(description="The first call in which they differ.")
    texts: list[DiffText] = Field(description="In what that differs.")
    result: DiffText | None = Field(description="In what their results differ; null where they do not.")
    steps: list[DiffPair] = Field(description="All calls, in the order of the first run, as far as given.")
    steps_left_out: int = Field(0, description="Calls that are not given.")
