"""Crews: the reference's *Crew Management*."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.agents import Agent, CrewAgent
from kasal_jupyter.schemas.base import Document, LongText, Model, Name
from kasal_jupyter.schemas.tasks import CrewTask, Task

Process = Literal["sequential", "hierarchical"]

CrewStatus = Literal["configuring", "active"]
"""``configuring`` until the crew has an agent and a task, ``active`` from then on."""


class CrewFields(Model):
    """What describes a crew besides its agents and tasks."""

    name: Name
    description: LongText = ""
    process: Process = "sequential"
    manager_model: Name | None = Field(None, description="The manager's model in a hierarchical crew.")


class CrewCreate(CrewFields):
    """The body of ``POST /crews``."""

    agents: list[CrewAgent] = Field(default_factory=list, max_length=200)
    tasks: list[CrewTask] = Field(default_factory=list, max_length=1_000)


class CrewUpdate(Model):
    """The body of ``PUT /crews/{crew_id}``: what is given changes; a given list replaces the whole list."""

    name: Name | None = None
    description: LongText | None = None
    process: Process | None = None
    manager_model: Name | None = None
    agents: list[CrewAgent] | None = Field(None, max_length=200)
    tasks: list[CrewTask] | None = Field(None, max_length=1_000)


class Crew(CrewFields, Document):
    """A crew as it is stored; its agents and tasks are documents of their own."""

    id: str
    owner: str
    version: int = Field(1, ge=1, description="Counts the changes to the crew, its agents and its tasks.")
    created_at: str
    updated_at: str


class WholeCrew(Model):
    """A crew with its agents and tasks, in their order."""

    crew: Crew
    agents: list[Agent]
    tasks: list[Task]

    def status(self) -> CrewStatus:
        """Say whether the crew has what a run needs."""
        return "active" if self.agents and self.tasks else "configuring"


class CrewSummary(Model):
    """A crew as a list shows it."""

    id: str
    name: str
    status: CrewStatus
    agents_count: int
    created_at: str


class CrewList(Model):
    """The answer of ``GET /crews``."""

    crews: list[CrewSummary]
    total: int
    page: int


class CrewConfiguration(Model):
    """The ``configuration`` of a crew."""

    process: Process
    manager_model: str | None


class CrewDetails(Model):
    """The answer of ``GET /crews/{crew_id}``."""

    id: str
    name: str
    description: str
    status: CrewStatus
    agents: list[Agent]
    tasks: list[Task]
    configuration: CrewConfiguration
    version: int
    created_at: str
    updated_at: str


class CrewCreated(Model):
    """The answer of ``POST /crews``."""

    id: str
    name: str
    status: CrewStatus


class CrewUpdated(Model):
    """The answer of ``PUT /crews/{crew_id}``."""

    id: str
    updated: Literal[True] = True
