"""Tasks: the reference's *Task Management*."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from kasal_jupyter.schemas.agents import AgentName
from kasal_jupyter.schemas.base import WHOLE, Document, Given, Listed, ListQuery, Model, Name, Text, called
from kasal_jupyter.schemas.json_schema import ObjectSchema
from kasal_jupyter.schemas.placeholders import fill

TaskState = Literal["created", "running", "completed", "skipped", "failed", "stopped"]
"""How a task fared in its crew's latest execution; ``created`` before the first."""


GuardrailRetries = Annotated[int, Field(ge=0, le=10), WHOLE]


def _pattern(text: str) -> str:
    # RE2 comes with CrewAI; its time is linear in the text, whatever the pattern.
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"it is no regular expression: {said}") from None
    return text


Pattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1_000),
    AfterValidator(_pattern),
]
"""A regular expression as RE2 reads it: as Python's, but without look-around and back references."""


class TaskCondition(Model):
    """When a task is done at all: what the result before it must be like. All that is given must hold.

    The result is that of the last task before it that was done: of two tasks for two cases, the second does
    not look at the first, where that was skipped. CrewAI's conditional task, with data in the place of its
    function.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("contains", "lacks", "matches", "equals")
            ]
        }
    )

    contains: Text | None = Field(None, description="Text that the result has in it; case does not matter.")
    lacks: Text | None = Field(None, description="Text that it does not have in it; case does not matter.")
    matches: Pattern | None = Field(None, description="A regular expression (RE2) that is found in it.")
    field: Name | None = Field(
        None, description="A field of a structured result, dots between levels; the others then look at it."
    )
    equals: Any = Field(None, description="The value it has; null asks nothing.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.contains is None and self.lacks is None and self.matches is None and self.equals is None:
            raise ValueError("Give at least one of contains, lacks, matches and equals")
        return self


_SEGMENT = r"(\.{0,2}[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.{3}[^/\\\x00-\x1f]*)"
"""A name in a path, anything but ``.`` and ``..``: the engine of pydantic's patterns cannot look ahead."""


def is_inside(path: str) -> bool:
    """Say whether a path, its placeholders filled in, is one inside the run's folder."""
    return re.fullmatch(rf"{_SEGMENT}(/{_SEGMENT})*", path) is not None


def _output_file(path: str) -> str:
    if not is_inside(path):
        raise ValueError("it is no path inside the run's folder; write one such as reports/tea.md")
    return path


OutputFile = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_output_file),
    Field(json_schema_extra={"pattern": rf"^{_SEGMENT}(/{_SEGMENT})*$"}),
]
"""A path inside the run's folder, with slashes."""


def task_title(name: str | None, description: str) -> str:
    """Give what a task is called: its name, or 80 characters of its description's first line."""
    # Braces that stand for themselves are written doubled there.
    return name or fill(description.strip().splitlines()[0], {})[:80]


class TaskFields(Model):
    """What describes a task, wherever one is written down."""

    name: Name | None = Field(None, description="What other tasks call it by.")
    description: Text
    expected_output: Text
    context: list[Text] | None = Field(
        None,
        max_length=64,
        fail_fast=True,
        description="Names or ids of earlier tasks whose results it gets; other text is given as it is. "
        "Where it names no task, or is null, those of all tasks before it; where it is empty, [], none.",
    )
    tools: list[Name] = Field(
        default_factory=list, max_length=64, fail_fast=True, description="Tools besides its agent's."
    )
    async_execution: bool = Field(False, description="Whether the next task starts without waiting for it.")
    output_schema: ObjectSchema | None = Field(None, description="A JSON schema for its result, an object.")
    output_file: OutputFile | None = Field(
        None, description="A file of the run's folder that its result is written to."
    )
    guardrail: Text | None = Field(
        None, description="What its result must be like, in words; its agent's model checks it."
    )
    guardrail_max_retries: GuardrailRetries = Field(
        3, description="How often the task is done again where the guardrail refuses its result."
    )
    human_input: bool = Field(
        False,
        description="Whether a person reviews its result, and may have it done again with what they say.",
    )
    condition: TaskCondition | None = Field(
        None, description="When it is done at all; else it is skipped. Never the first task's."
    )

    def title(self) -> str:
        """Give what the task is called; see :func:`task_title`."""
        return task_title(self.name, self.description)


class TaskCreate(TaskFields):
    """The body of ``POST /tasks``."""

    agent_id: str


class TaskUpdate(Model):
    """The body of ``PUT /tasks/{task_id}``: what is given changes."""

    agent_id: str | None = None
    name: Name | None = None
    description: Given[Text] = None
    expected_output: Given[Text] = None
    context: Annotated[list[Text], Field(max_length=64)] | None = None
    tools: Given[Annotated[list[Name], Field(max_length=64)]] = None
    async_execution: Given[bool] = None
    output_schema: ObjectSchema | None = None
    output_file: OutputFile | None = None
    guardrail: Text | None = None
    guardrail_max_retries: Given[GuardrailRetries] = None
    human_input: Given[bool] = None
    condition: TaskCondition | None = None


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


class TaskDetails(Task):
    """The answer of ``GET /tasks/{task_id}``."""

    status: TaskState


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


class TaskList(Listed[TaskSummary], alias_generator=called("tasks")):
    """The answer of ``GET /tasks``."""


class TaskCreated(Model):
    """The answer of ``POST /tasks``."""

    id: str
    status: Literal["created"] = "created"
