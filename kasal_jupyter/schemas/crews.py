"""Crews: the reference's *Crew Management*, and the versions that each change leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from kasal_jupyter.schemas.agents import Agent, AgentName, CrewAgent, agent_places
from kasal_jupyter.schemas.base import (
    Document,
    Given,
    Listed,
    ListQuery,
    LongText,
    Model,
    Name,
    Query,
    called,
)
from kasal_jupyter.schemas.executions import CrewRemark
from kasal_jupyter.schemas.people import NeedsApproval, People
from kasal_jupyter.schemas.tasks import CrewTask, Task
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.schemas.usage import Estimate
from kasal_jupyter.schemas.webhooks import Webhook

MOST_AGENTS, MOST_TASKS = 200, 1_000
"""Of one crew."""

Process = Literal["sequential", "hierarchical"]

CrewStatus = Literal["configuring", "active"]
"""``configuring`` until the crew's content could run (see ``readiness``), ``active`` from then on."""


class CrewFields(Model):
    """What describes a crew besides its agents and tasks."""

    name: Name
    description: LongText = ""
    process: Process = "sequential"
    manager_model: Name | None = Field(None, description="The manager's model in a hierarchical crew.")
    manager_agent: AgentName | None = Field(
        None, description="The agent that manages a hierarchical crew; else CrewAI's own manager does."
    )
    planning: bool = Field(False, description="Whether a plan is made before the tasks, and given to each.")
    planning_model: Name | None = Field(None, description="The model that plans.")
    memory: bool = Field(False, description="Whether the crew remembers what happened in its runs.")
    needs_approval: NeedsApproval = Field(default_factory=list)
    people: People = Field(default_factory=People)
    webhook: Webhook | None = None


class CrewCreate(CrewFields):
    """The body of ``POST /crews``."""

    # The field has a default for the sake of the error, which is the reference's.
    model_config = ConfigDict(json_schema_extra={"required": ["name", "agents"]})

    agents: list[CrewAgent] = Field(
        default_factory=list, max_length=MOST_AGENTS, json_schema_extra={"minItems": 1}
    )
    tasks: list[CrewTask] = Field(default_factory=list, max_length=MOST_TASKS)


class CrewUpdate(Model):
    """The body of ``PUT /crews/{crew_id}``: what is given changes; a given list replaces the whole list."""

    name: Given[Name] = None
    description: Given[LongText] = None
    process: Given[Process] = None
    manager_model: Name | None = None
    manager_agent: AgentName | None = None
    planning: Given[bool] = None
    planning_model: Name | None = None
    memory: Given[bool] = None
    needs_approval: Given[NeedsApproval] = None
    people: Given[People] = None
    webhook: Webhook | None = None
    agents: Given[
        Annotated[list[CrewAgent], Field(max_length=MOST_AGENTS, json_schema_extra={"minItems": 1})]
    ] = None
    tasks: Given[Annotated[list[CrewTask], Field(max_length=MOST_TASKS)]] = None


class Crew(CrewFields, Document):
    """A crew as it is stored; its agents and tasks are documents of their own."""

    id: str
    owner: str
    version: int = Field(1, ge=1, description="Counts the changes to the crew, its agents and its tasks.")
    status: CrewStatus = Field(
        "configuring", description="Derived from its agents and tasks, at each change."
    )
    agents_count: int = Field(0, ge=0, description="Derived, so that a list reads nothing but crews.")
    created_at: str
    updated_at: str


class WholeCrew(Model):
    """A crew with its agents and tasks, in their order."""

    crew: Crew
    agents: list[Agent]
    tasks: list[Task]

    @property
    def size(self) -> int:
        """How many agents and tasks it has."""
        return len(self.agents) + len(self.tasks)


def agent_called(key: str, agents: Iterable[Agent]) -> Agent | None:
    """Find an agent by its id, its name or its role; None where there is none."""
    agents = list(agents)
    place = agent_places(agents).get(key)
    return None if place is None else agents[place]


def managing_agent(crew: CrewFields | CrewConfiguration, agents: Iterable[Agent]) -> Agent | None:
    """Give the agent that manages a hierarchical crew; None where there is none, or CrewAI's own does."""
    if crew.process != "hierarchical" or crew.manager_agent is None:
        return None
    return agent_called(crew.manager_agent, agents)


class CrewQuery(ListQuery):
    """The query of ``GET /crews``."""

    name: str | None = Field(None, description="Crews of exactly this name.")
    sort: Literal["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"] = "-created_at"


class CrewSummary(Model):
    """A crew as a list shows it."""

    id: str
    name: str
    status: CrewStatus
    agents_count: int
    created_at: str
    updated_at: str
    version: int
    owner: str = Field(description="Whose it is: a user's id, or the server's owner.")


class CrewList(Listed[CrewSummary], alias_generator=called("crews")):
    """The answer of ``GET /crews``."""


class CrewConfiguration(Model):
    """The ``configuration`` of a crew."""

    process: Process
    manager_model: str | None
    manager_agent: str | None = None
    planning: bool = False
    planning_model: str | None = None
    memory: bool = False
    needs_approval: NeedsApproval = Field(default_factory=list)
    people: People = Field(default_factory=People)
    webhook: Webhook | None = None


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
    owner: str
    created_at: str
    updated_at: str


class CrewCreated(Model):
    """The answer of ``POST /crews``."""

    id: str
    name: str
    status: CrewStatus


class CrewCheck(Model):
    """The body of ``POST /crews/{crew_id}/check``: what a run would be started with."""

    inputs: dict[str, Any] = Field(default_factory=dict, description="Values for the crew's {placeholders}.")
    tools: list[ClientTool] = Field(
        default_factory=list, max_length=64, description="Tools that the run's client would answer for."
    )


class CrewFault(Model):
    """Something that keeps a crew from running."""

    field: str
    reason: str


class CrewChecked(Model):
    """The answer of ``POST /crews/{crew_id}/check``."""

    runnable: bool
    faults: list[CrewFault]
    remarks: list[CrewRemark] = Field(
        default_factory=list, description="What keeps nothing from running, and is worth knowing."
    )
    estimated_duration: int = Field(description="Seconds, from the crew's own past runs where there are any.")
    estimate: Estimate = Field(description="What it may take, as far as past runs tell.")


# The versions of crews: what each change has made of one, who made it, when, and from where.

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


class CrewVersionList(Listed[CrewVersionInfo], alias_generator=called("versions")):
    """The answer of ``GET /crews/{crew_id}/versions``."""


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
