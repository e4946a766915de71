"""Tasks: the reference's *Task Management*."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from kasal_jupyter.schemas.agents import AgentName
from kasal_jupyter.schemas.base import Document, Given, ListQuery, Model, Name, Text
from kasal_jupyter.schemas.json_schema import ObjectSchema

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
    output_schema: ObjectSchema | None = Field(None, description="A JSON schema for its result, an object.")


class TaskCreate(TaskFields):
    """The body of ``POST /tasks``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agent_id": "agent_001",
                    "description": "Analyze competitor pricing",
                    "expected_output": "Markdown report",
                    "context": ["Previous analysis from Q3"],
                }
            ]
        }
    )

    agent_id: str


class TaskUpdate(Model):
    """The body of ``PUT /tasks/{task_id}``: what is given changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "Analyze our own pricing"}]})

    agent_id: str | None = None
    name: Name | None = None
    description: Given[Text] = None
    expected_output: Given[Text] = None
    context: Given[Annotated[list[Text], Field(max_length=64)]] = None
    tools: Given[Annotated[list[Name], Field(max_length=64)]] = None
    async_execution: Given[bool] = None
    output_schema: ObjectSchema | None = None


class CrewTask(TaskFields):
    """A task inside the body of ``POST /crews`` or ``PUT /crews/{crew_id}``."""

    id: str | None = Field(None, description="A task the crew already has, to keep its id.")
    agent: AgentName | None = None


class Task(TaskFields, Document):
    """A task as it is stored and shown."""

    id: str
    crew_id: str
    agent_id: str | None = Field(description="Null where a manager hands the task out.")
    position: int = Field(ge=0, description="Its place in the crew's order.")
    owner: str
    created_at: str
    updated_at: str

    def title(self) -> str:
        """Give the task's name, or the first line of its description, at most 80 characters."""
        return self.name or self.description.strip().splitlines()[0][:80]


class TaskDetails(Task):
    """The answer of ``GET /tasks/{task_id}``."""

    status: TaskState

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "task_001",
                    "crew_id": "crew_abc123",
                    "agent_id": "agent_001",
                    "name": None,
                    "description": "Generate report",
                    "expected_output": "Markdown report",
                    "context": [],
                    "tools": [],
                    "async_execution": False,
                    "output_schema": None,
                    "position": 0,
                    "owner": "user_4t9k2m0x7q1z",
                    "created_at": "2024-01-15T10:30:00Z",
                    "updated_at": "2024-01-15T10:30:00Z",
                    "status": "completed",
                }
            ]
        }
    )


class TaskQuery(ListQuery):
    """The query of ``GET /tasks``."""

    crew_id: str | None = Field(None, description="One crew's tasks.")
    agent_id: str | None = Field(None, description="One agent's tasks.")
    sort: Literal["created_at", "-created_at", "description", "-description", "position", "-position"] = (
        "created_at"
    )


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
    per_page: int

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tasks": [
                        {
                            "id": "task_001",
                            "description": "Generate report",
                            "agent_id": "agent_001",
                            "status": "completed",
                            "name": None,
                            "crew_id": "crew_abc123",
                        }
                    ],
                    "total": 1,
                    "page": 1,
                    "per_page": 100,
                }
            ]
        }
    )


class TaskCreated(Model):
    """The answer of ``POST /tasks``."""

    id: str
    status: Literal["created"] = "created"

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "task_002", "status": "created"}]})
