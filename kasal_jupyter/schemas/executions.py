"""Executions: the reference's *Execution Management*."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kasal_jupyter.schemas.base import Document, Model

Status = Literal["queued", "running", "completed", "failed", "stopped", "interrupted"]

ENDED: frozenset[str] = frozenset({"completed", "failed", "stopped", "interrupted"})
"""The states an execution never leaves."""


class ExecutionCreate(Model):
    """The body of ``POST /executions``."""

    crew_id: str
    inputs: dict[str, Any] = Field(default_factory=dict, description="Values for the crew's {placeholders}.")


class ExecutionAccepted(Model):
    """The answer of ``POST /executions``."""

    job_id: str
    status: Literal["queued"] = "queued"
    estimated_duration: int = Field(description="Seconds, from the crew's own past runs where there are any.")


class ExecutionError(Model):
    """Why an execution failed."""

    code: str
    message: str
    task: str | None = None


class Usage(Model):
    """Tokens and calls, summed; as the models' providers count them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    llm_calls: int = 0
    tool_calls: int = 0


class Execution(Document):
    """An execution's summary as it is stored. It derives from the journal and can be rebuilt from it."""

    id: str
    crew_id: str
    crew_name: str
    owner: str
    server: str = Field(description="The server process that runs it.")
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent of tasks done; 100 only at completion.")
    current_task: str | None = None
    inputs: dict[str, Any]
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    duration: float | None = Field(None, description="Seconds from start to end.")
    result: str | None = None
    error: ExecutionError | None = None
    usage: Usage = Field(default_factory=Usage)
    task_states: dict[str, str] = Field(default_factory=dict, description="How each task fared, by its id.")


class ExecutionStatus(Model):
    """The answer of ``GET /executions/{job_id}``."""

    job_id: str
    status: Status
    progress: int
    current_task: str | None
    started_at: str | None
    crew_id: str
    crew_name: str
    created_at: str
    ended_at: str | None
    duration: float | None
    inputs: dict[str, Any]
    result: str | None
    error: ExecutionError | None
    usage: Usage


class ExecutionStopped(Model):
    """The answer of ``POST /executions/{job_id}/stop``."""

    job_id: str
    status: Status


class TraceRow(Model):
    """One row of ``GET /executions/{job_id}/traces``."""

    timestamp: str
    agent: str | None
    action: str
    result: str
    seq: int
    type: str
    task_id: str | None
    duration_ms: float | None


class TraceRows(Model):
    """The answer of ``GET /executions/{job_id}/traces``."""

    traces: list[TraceRow]


class ExecutionList(Model):
    """The answer of ``GET /executions``."""

    executions: list[ExecutionStatus]
    total: int
    page: int
