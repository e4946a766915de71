"""Crews on their way in and out: CrewAI's projects, its ``crew.jsonc``, Kasal's canvas, and our YAML."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from kasal_jupyter.schemas.base import Model, Name, Query
from kasal_jupyter.schemas.crews import CrewCreate, CrewStatus

Format = Literal["yaml", "crewai", "jsonc", "kasal"]
"""``yaml`` is ours, ``crewai`` a project or its two YAML files, ``jsonc`` CrewAI's ``crew.jsonc``, ``kasal``
the canvas's export."""

ExportFormat = Literal["yaml", "crewai", "kasal"]
"""What a crew can be written as."""

MOST_FILES = 500
"""Files of one crew, in whatever they come."""

FilePath = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class Remark(Model):
    """Something that another format cannot hold, or holds otherwise."""

    field: str = Field(description="Where, as a path: tasks.report.human_input, agents[0].webhook.")
    reason: str = Field(description="What became of it, as a sentence.")


class CrewImport(Model):
    """The body of ``POST /crews/import``: exactly one of ``text``, ``files`` and ``archive``."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Tea research",
                    "files": {
                        "agents.yaml": "researcher:\n  role: Researcher\n  goal: Find facts about {topic}\n"
                        "  backstory: Knows where to look\n",
                        "tasks.yaml": "research:\n  description: Research {topic}\n"
                        "  expected_output: Five facts\n  agent: researcher\n",
                    },
                }
            ]
        }
    )

    format: Literal["auto", "yaml", "crewai", "jsonc", "kasal"] = Field(
        "auto", description="What it is; found out by itself where nothing is given."
    )
    name: Name | None = Field(None, description="The crew's name; else the one that stands in it.")
    text: str | None = Field(None, max_length=2_000_000, description="One file's content.")
    files: dict[FilePath, str] | None = Field(
        None, min_length=1, max_length=MOST_FILES, description="Several files' content, by their paths."
    )
    archive: str | None = Field(None, min_length=1, description="A zip file, in base64.")
    save: bool = Field(True, description="Whether the crew is stored; else it is only given back.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.text, self.files, self.archive)) != 1:
            raise ValueError("Give exactly one of text, files and archive")
        return self


class CrewImported(Model):
    """The answer of ``POST /crews/import``, the crew being stored."""

    id: str
    name: str
    status: CrewStatus
    format: Format
    remarks: list[Remark]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "crew_xyz789",
                    "name": "Tea research",
                    "status": "active",
                    "format": "crewai",
                    "remarks": [
                        {
                            "field": "agents.researcher.verbose",
                            "reason": "what an agent does is in the trace in any case",
                        }
                    ],
                }
            ]
        }
    )


CREW_EXAMPLE: JsonDict = {
    "name": "Tea research",
    "agents": [
        {
            "id": None,
            "name": "researcher",
            "role": "Researcher",
            "goal": "Find facts about {topic}",
            "backstory": "",
            "model": None,
            "fallbacks": [],
            "tools": [],
            "allow_delegation": False,
            "max_iter": None,
            "max_execution_time": None,
            "settings": {
                "temperature": None,
                "top_p": None,
                "max_tokens": None,
                "seed": None,
                "stop": None,
                "timeout": None,
                "stream": True,
            },
            "sandbox": {
                "latency": 0.0,
                "answer_words": 40,
                "fail_at": None,
                "refusals": 0,
                "tool_calls": "native",
            },
        }
    ],
    "tasks": [
        {
            "id": None,
            "name": "research",
            "description": "Research {topic}",
            "expected_output": "Five facts",
            "context": None,
            "tools": [],
            "async_execution": False,
            "output_schema": None,
            "output_file": None,
            "guardrail": None,
            "guardrail_max_retries": 3,
            "condition": None,
            "agent": "researcher",
        }
    ],
}
"""A crew as examples of answers show it."""

CREW_EXAMPLE_YAML = (
    "name: Tea research\nagents:\n  researcher:\n    role: Researcher\n    goal: Find facts about {topic}\n"
    "tasks:\n  research:\n    description: Research {topic}\n    expected_output: Five facts\n"
    "    agent: researcher\n"
)
"""The same in YAML."""


class CrewRead(Model):
    """The answer of ``POST /crews/import``, nothing being stored."""

    format: Format
    crew: CrewCreate
    yaml: str = Field(description="The same crew as YAML.")
    remarks: list[Remark]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"format": "crewai", "crew": CREW_EXAMPLE, "yaml": CREW_EXAMPLE_YAML, "remarks": []}]
        }
    )


class ExportQuery(Query):
    """The query of ``GET /crews/{crew_id}/export``."""

    format: ExportFormat = "yaml"


class CrewExported(Model):
    """The answer of ``GET /crews/{crew_id}/export`` as JSON."""

    name: str
    format: ExportFormat
    files: dict[str, str] = Field(description="The files' content by their paths.")
    remarks: list[Remark]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Tea research",
                    "format": "yaml",
                    "files": {"tea_research.yaml": CREW_EXAMPLE_YAML},
                    "remarks": [],
                }
            ]
        }
    )
