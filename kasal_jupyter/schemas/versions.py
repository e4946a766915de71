"""The versions of crews: what each change has made of one, who made it, when, and from where."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import Document, ListQuery, Model, Query
from kasal_jupyter.schemas.crews import Crew, CrewDetails, WholeCrew
from kasal_jupyter.schemas.tasks import Task

MOST_VERSIONS = 200
"""How many versions of one crew are kept."""

MOST_VERSION_BYTES = 4_000_000
"""How many bytes the versions of one crew have together; the newest is kept whatever it has."""

MOST_ORIGIN = 300
"""Characters of what names where a change comes from."""

Writer = Literal["api", "cell", "editor", "python", "terminal", "import", "generate"]
"""What a client may say that a change comes from."""

Source = Literal["api", "cell", "editor", "python", "terminal", "import", "generate", "restore", "unknown"]
"""What a version comes from; ``unknown`` where it was made before versions were kept."""


class ChangeQuery(Query):
    """The query of what changes a crew: where the change comes from, for its history."""

    source: Writer = Field("api", description="What the change comes from.")
    origin: str | None = Field(
        None,
        min_length=1,
        max_length=MOST_ORIGIN,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Which notebook, file … that is; the same text for the same one.",
    )


class CrewVersionInfo(Model):
    """A version as a list shows it."""

    version: int
    created_at: str
    author: str = Field(description="Who made it.")
    source: Source = Field(description="What it comes from.")
    origin: str | None = Field(None, description="Which notebook or file that was, where that was said.")
    restored: int | None = Field(None, description="The version that it brought back.")
    ran: bool = Field(False, description="Whether an execution was started with it.")


class CrewVersion(CrewVersionInfo, Document):
    """What is stored of a version besides the crew itself, so that a list reads nothing large."""

    id: str
    crew_id: str
    size: int = Field(ge=0, description="Characters of its crew as JSON.")


class CrewVersionBody(Document):
    """The crew as it was in one version."""

    id: str
    crew_id: str
    crew: Crew
    agents: list[Agent]
    tasks: list[Task]

    def whole(self) -> WholeCrew:
        """Give the crew with its agents and tasks."""
        return WholeCrew.model_construct(crew=self.crew, agents=self.agents, tasks=self.tasks)


class VersionQuery(ListQuery):
    """The query of ``GET /crews/{crew_id}/versions``."""

    sort: Literal["created_at", "-created_at"] = "-created_at"


class CrewVersionList(Model):
    """The answer of ``GET /crews/{crew_id}/versions``."""

    versions: list[CrewVersionInfo]
    total: int
    page: int
    per_page: int


class CrewVersionDetails(CrewVersionInfo):
    """The answer of ``GET /crews/{crew_id}/versions/{version}``."""

    crew: CrewDetails = Field(description="The crew as it was.")


class DiffQuery(Query):
    """The query of ``GET /crews/{crew_id}/versions/{version}/diff``."""

    to: int | None = Field(None, ge=1, le=10**9, description="The other version; else the present one.")


class CrewVersionDiff(Model):
    """The answer of ``GET /crews/{crew_id}/versions/{version}/diff``."""

    version: int
    to: int
    diff: str = Field(description="What changes from one to the other, as a unified diff of their YAML.")


class CrewRestored(Model):
    """The answer of ``POST /crews/{crew_id}/versions/{version}/restore``."""

    id: str
    version: int = Field(description="The crew's version now.")
    restored: int = Field(description="The one that was brought back.")
