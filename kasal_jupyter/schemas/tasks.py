"""Tasks: the reference's *Task Management*."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from kasal_jupyter.schemas.agents import AgentName
from kasal_jupyter.schemas.base import Document, Model, Name, Text
from kasal_jupyter.schemas.json_schema import object_schema

TaskState = Literal["created", "running", "completed", "failed", "stopped"]
"""How a task fared in its crew's latest execution; ``created`` before the first."""


class TaskFields(Model):
    """What describes a task, wherever one is written down."""

    name: Name | None = Field(None, description="What other tasks call it by.")
    description: Text
    expected_output: Text
    context: list[Text] = Field(
        default_factory=list,
        max_length=64,
        description="Names or ids of earlier tasks whose results it gets; other text is given as it is.",
    )
    tools: list[Name] = Field(default_factory=list, max_length=64, description="Tools besides its agent's.")
    async_execution: bool = Field(False, description="Whether the next task starts without waiting for it.")
    output_schema: dict[str, Any] | None = Field(None, description="A JSON schema for its result, an object.")

    @field_validator("output_schema")
    @classmethod
    def _is_object_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if schema is None else object_schema(schema)


class TaskCreate(TaskFields):
    """The body of ``POST /tasks``."""

    agent_id: str


class CrewTask(TaskFields):
    """A task inside the body of ``POST /crews`` or ``PUT /crews/{crew_id}``."""

    id: str | None = Field(None, description="A task the crew already has, to keep its id.")
    agent: AgentName | None = None


class Task(TaskFields, Document):
    """A task as it is stored and shown."""

    id: str
    crew_id: str
    agent_id: str | None = Field(description="None where a manager hands the task out.")
    position: int = Field(ge=0, description="Its place in the crew's order.")
    owner: str
    created_at: str
    updated_at: str

    def title(self) -> str:
        """Give the task's name, or the first line of its description, at most 80 characters."""
        return self.name or self.description.strip().splitlines()[0][:80]


class TaskSummary(Model):
    """A task as a list shows it."""

    id: str
    description: str
    agent_id: str | None
    status: TaskState
    name: str | None
    crew_id: str


class TaskList(Model):
    """The answer of ``GET /tasks``."""

    tasks: list[TaskSummary]
    total: int
    page: int


class TaskCreated(Model):
    """The answer of ``POST /tasks``."""

    id: str
    status: Literal["created"] = "created"
