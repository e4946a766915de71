"""Usage and cost: what was used, by whom, for what and when, and what a run may take."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Field

from kasal_jupyter.schemas.allowances import LimitState
from kasal_jupyter.schemas.base import Document, ListQuery, Model

GroupBy = Literal["day", "crew", "user", "model", "agent", "task"]
"""What usage can be told apart by."""


MOST_TOKENS = 10**12
"""No call takes so many; and 64 bits hold the sum of nine million of them."""

MOST_SUM = 2**63 - 1
"""What can be stored."""

MOST_DOLLARS = 1e9
"""No call costs so many."""


def is_count(value: object) -> TypeGuard[int]:
    """Say whether a value counts tokens: what a provider says, and an old journal has, may be anything."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def is_price(value: object) -> TypeGuard[float]:
    """Say whether a value is what a call costs, in US dollars."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_DOLLARS


def _is_sum(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_SUM


Sum = Annotated[int, BeforeValidator(lambda value: value if _is_sum(value) else 0)]
"""Counts that were added up. Of what was booked before counts were looked at, nonsense is nothing."""

Dollars = Annotated[float, BeforeValidator(lambda value: value if _is_sum(value) else 0.0)]
"""US dollars that were added up; the same goes for them."""

Cost = Annotated[float | None, BeforeValidator(lambda value: value if _is_sum(value) else None)]
"""The same, where they are known; nonsense is unknown."""


class Usage(Model):
    """Tokens and calls, summed; as the models' providers count them."""

    prompt_tokens: Sum = 0
    completion_tokens: Sum = 0
    total_tokens: Sum = 0
    llm_calls: Sum = 0
    tool_calls: Sum = 0
    # A summary that was stored before costs were counted has none: what its calls cost is unknown.
    cost: Cost = Field(
        default_factory=lambda given: None if given.get("llm_calls") else 0.0,
        description="US dollars of the calls that were answered, by each model's price on the day; null as "
        "soon as one is unknown.",
    )
    cost_at_least: Dollars = Field(
        default_factory=lambda given: given.get("cost") or 0.0,
        description="US dollars of the calls whose cost is known: all of it, or its least.",
    )
    unknown_costs: Sum = Field(
        default_factory=lambda given: given.get("llm_calls", 0) if given.get("cost", 0.0) is None else 0,
        description="Calls that were answered and whose cost is unknown.",
    )


class UsageShare(Usage):
    """A part of a run's usage."""

    key: str = Field(description="The task's id, else the agent's or the model's name; empty: none of them.")
    name: str = Field(description="The task's title, else the agent's or the model's name.")


class Stored(Model):
    """How much somebody has stored: what the limits on it count."""

    bytes: int = Field(description="Of crews, agents, tasks, tools, MCP servers, knowledge and memories.")
    most_bytes: int | None = Field(description="How many they may be; null: any number.")
    crews: int
    most_crews: int | None = Field(description="How many they may be; null: any number.")


class UsageBreakdown(Model):
    """The same usage three times, told apart by task, by agent and by model."""

    tasks: list[UsageShare] = Field(default_factory=list)
    agents: list[UsageShare] = Field(default_factory=list)
    models: list[UsageShare] = Field(default_factory=list)


class LedgerEntry(Document):
    """What a crew's runs of one owner used on one day.

    A run is booked once, in the change that stores its end. Its calls count on the day they were answered,
    the run itself on the day it was asked for. Deleting an execution or a crew leaves the entry alone.
    """

    id: str
    day: str = Field(description="UTC, 2024-01-15.")
    owner: str
    crew_id: str
    crew_name: str
    runs: int = 0
    usage: Usage = Field(default_factory=Usage)
    by: UsageBreakdown = Field(default_factory=UsageBreakdown)


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


Day = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\d$", json_schema_extra={"format": "date"}), AfterValidator(_day)
]
"""A day of UTC, ``2024-01-15``."""


class UsageQuery(ListQuery):
    """The query of ``GET /usage``."""

    group_by: GroupBy = Field("day", description="What the usage is told apart by; user is for admins.")
    since: Day | None = Field(None, description="The first day; 29 days before the last where none is given.")
    until: Day | None = Field(None, description="The last day; today where none is given.")
    crew_id: str | None = Field(None, description="One crew's.")
    user: str | None = Field(None, max_length=200, description="One user's, for admins.")
    sort: Literal[
        "name", "-name", "cost", "-cost", "total_tokens", "-total_tokens", "llm_calls", "-llm_calls"
    ] = "name"


class UsageTotal(Usage):
    """The usage of some runs."""

    runs: int = Field(0, description="Runs that were asked for in that time.")


class UsageGroup(Usage):
    """The usage of one day, crew, user, model, agent or task."""

    runs: int | None = Field(description="Runs that were asked for; null for models, agents and tasks.")
    key: str = Field(
        description="The day, the id of the crew, user or task, the model's name, or a crew's id and an "
        "agent's name with a slash between; empty: outside of any."
    )
    name: str
    crew_name: str | None = Field(None, description="An agent's or a task's.")


class UsageList(Model):
    """The answer of ``GET /usage``."""

    group_by: GroupBy
    since: str
    until: str
    whole: UsageTotal = Field(description="All groups together, on whatever page.")
    stored: Stored = Field(description="What the caller, or the user asked for, has stored now.")
    limits: list[LimitState] = Field(
        default_factory=list,
        description="How what the caller, or the user asked for, may spend stands now; empty: any number.",
    )
    groups: list[UsageGroup]
    total: int = Field(description="How many groups there are.")
    page: int
    per_page: int


# What a run may take, going by the crew's past runs.


class Range(Model):
    """What most past runs took."""

    median: float
    low: float = Field(description="A tenth of the runs took less.")
    high: float = Field(description="A tenth of the runs took more.")


class Estimate(Model):
    """What a run may take: tokens, US dollars and seconds.

    It is null where no past run tells: none of them is guessed.
    """

    runs: int = Field(description="The completed runs, with the models that the crew has now, that it is of.")
    tokens: Range | None
    cost: Range | None = Field(description="US dollars; of the runs whose cost is known.")
    seconds: Range | None
