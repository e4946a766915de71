"""Crews on their way in and out: from CrewAI's projects, Kasal's canvas and our YAML, or from a sentence."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from kasal_jupyter.schemas.base import WHOLE, Model, Name, Query
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


class CrewRead(Model):
    """The answer of ``POST /crews/import``, nothing being stored."""

    format: Format
    crew: CrewCreate
    yaml: str = Field(description="The same crew as YAML.")
    remarks: list[Remark]


class ExportQuery(Query):
    """The query of ``GET /crews/{crew_id}/export``."""

    format: ExportFormat = "yaml"


class CrewExported(Model):
    """The answer of ``GET /crews/{crew_id}/export`` as JSON."""

    name: str
    format: ExportFormat
    files: dict[str, str] = Field(description="The files' content by their paths.")
    remarks: list[Remark]


# A crew from a sentence.

MOST_OF_AN_ANSWER = 60_000
"""Characters of an answer that are read, and given back to the model."""

GENERATE_SECONDS = 180
"""How long making a crew may take, where nothing else is asked for."""

MOST_SECONDS = 900

InputName = Annotated[str, StringConstraints(pattern=r"^[^\W\d][\w\-]{0,99}$")]
"""What may stand between the braces of a ``{placeholder}``."""


class CrewGenerate(Model):
    """The body of ``POST /crews/generate``."""

    description: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")] = Field(
        description="What the crew is to do, in words."
    )
    name: Name | None = Field(None, description="The crew's name; else the model gives one.")
    model: Name | None = Field(
        None, description="The model that makes it, and that its agents use; else the server's default."
    )
    inputs: list[InputName] = Field(
        default_factory=list, max_length=32, description="Inputs that each run of the crew is to take."
    )
    save: bool = Field(False, description="Whether the crew is stored; else it is only shown.")
    timeout: Annotated[int, Field(ge=1, le=MOST_SECONDS), WHOLE] = Field(
        GENERATE_SECONDS, description="Seconds that it may take in all."
    )


class CrewGenerated(Model):
    """The answer of ``POST /crews/generate``: a crew that could run here, given its inputs."""

    crew: CrewCreate
    yaml: str = Field(description="The same crew as YAML.")
    model: str = Field(description="The model that made it.")
    attempts: int = Field(ge=1, description="How often the model was asked.")
    job_ids: list[str] = Field(
        description="The executions in which it was asked, with their traces and costs."
    )
    id: str | None = Field(None, description="The stored crew's.")
    status: CrewStatus | None = Field(None, description="The stored crew's.")
