"""Crews on their way in and out: CrewAI's projects, its ``crew.jsonc``, Kasal's canvas, and our YAML."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

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
