"""Agents: the reference's *Agent Management*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from kasal_jupyter.schemas.base import (
    WHOLE,
    Document,
    Given,
    Listed,
    ListQuery,
    LongText,
    Model,
    Name,
    Text,
    called,
)
from kasal_jupyter.schemas.people import NeedsApproval


class ModelSettings(Model):
    """How an agent's model is called; what is not given stays the provider's default."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = Field(
        None, description="Most tokens of one answer."
    )
    seed: Annotated[int, Field(ge=-(2**53), le=2**53), WHOLE] | None = None
    stop: list[str] | None = Field(None, max_length=16)
    timeout: float | None = Field(None, gt=0, le=3600, description="Seconds one call may take.")
    stream: bool = Field(True, description="Whether answers arrive in pieces.")


class SandboxSettings(Model):
    """How the sandbox model behaves for an agent; other models pass it over."""

    latency: float = Field(0.0, ge=0, le=86_400, description="Seconds before each answer.")
    answer_words: Annotated[int, Field(ge=1, le=5_000), WHOLE] = Field(
        40, description="Words of a plain answer, at the most."
    )
    fail_at: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = Field(
        None, description="The call, counted from 1, that fails."
    )
    refusals: Annotated[int, Field(ge=0, le=100), WHOLE] = Field(
        0, description="Results of each task that its guardrail refuses before it accepts one."
    )
    tool_calls: Literal["native", "react"] = Field(
        "native", description="Whether tools are called as the API's tool calls or in ReAct text."
    )


MaxIter = Annotated[int, Field(ge=1, le=200), WHOLE]


MaxSeconds = Annotated[int, Field(ge=1, le=86_400), WHOLE]


class AgentFields(Model):
    """What describes an agent, wherever one is written down."""

    name: Name | None = Field(None, description="What tasks call the agent by; its role where none is given.")
    role: Text
    goal: Text
    backstory: LongText = ""
    model: Name | None = Field(
        None, description="A model's name, e.g. gpt-4 or sandbox; else the server's default."
    )
    fallbacks: list[Name] = Field(
        default_factory=list,
        max_length=8,
        description="Models to ask, in their order, where the one before cannot answer.",
    )
    tools: list[Name] = Field(default_factory=list, max_length=64, fail_fast=True)
    needs_approval: NeedsApproval = Field(default_factory=list)
    allow_delegation: bool = False
    max_iter: MaxIter | None = Field(None, description="Most model calls for one task.")
    max_execution_time: MaxSeconds | None = Field(None, description="Most seconds for one task.")
    settings: ModelSettings = Field(default_factory=ModelSettings)
    sandbox: SandboxSettings = Field(default_factory=SandboxSettings)


class HasRole(Protocol):
    """An agent, wherever one is described; it may have a ``name`` and an ``id``."""

    @property
    def role(self) -> str:
        """What it is."""


def agent_places(agents: Sequence[HasRole]) -> dict[str, int]:
    """Give the places of a crew's agents by all that they are called by: their ids, names and roles.

    An id wins over a name, and that over a role; of two agents with one role the first is meant.
    """
    places = {agent.role: place for place, agent in reversed(list(enumerate(agents)))}
    for key in ("name", "id"):
        places |= {name: place for place, agent in enumerate(agents) if (name := getattr(agent, key, None))}
    return places


class AgentCreate(AgentFields):
    """The body of ``POST /agents``."""

    crew_id: str


class AgentUpdate(Model):
    """The body of ``PUT /agents/{agent_id}``: what is given changes."""

    name: Given[Name] = None
    role: Given[Text] = None
    goal: Given[Text] = None
    backstory: Given[LongText] = None
    model: Name | None = None
    fallbacks: Given[Annotated[list[Name], Field(max_length=8)]] = None
    tools: Given[Annotated[list[Name], Field(max_length=64)]] = None
    needs_approval: Given[NeedsApproval] = None
    allow_delegation: Given[bool] = None
    max_iter: MaxIter | None = None
    max_execution_time: MaxSeconds | None = None
    settings: Given[ModelSettings] = None
    sandbox: Given[SandboxSettings] = None


class CrewAgent(AgentFields):
    """An agent inside the body of ``POST /crews`` or ``PUT /crews/{crew_id}``."""

    id: str | None = Field(None, description="An agent the crew already has, to keep its id.")


class Agent(AgentFields, Document):
    """An agent as it is stored and shown."""

    id: str
    crew_id: str
    name: str
    position: int = Field(ge=0, description="Its place in the crew's list.")
    owner: str
    created_at: str
    updated_at: str


class AgentQuery(ListQuery):
    """The query of ``GET /agents``."""

    crew_id: str | None = Field(None, description="One crew's agents.")
    sort: Literal["created_at", "-created_at", "name", "-name", "position", "-position"] = "created_at"


class AgentSummary(Model):
    """An agent as a list shows it."""

    id: str
    name: str
    crew_id: str
    model: str | None
    status: Literal["ready"]
    role: str


class AgentList(Listed[AgentSummary], alias_generator=called("agents")):
    """The answer of ``GET /agents``."""


class AgentCreated(Model):
    """The answer of ``POST /agents``."""

    id: str
    status: Literal["created"] = "created"


AgentName = Annotated[str, Field(description="The name, role or id of an agent of the same crew.")]
