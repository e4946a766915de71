"""Schedules: a crew that is run by the clock, each time once, whatever number of servers share the folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kasal_jupyter.schemas.base import WHOLE, Document, Given, Listed, ListQuery, Model, Name, called
from kasal_jupyter.schemas.executions import Budget

SWITCHED_OFF = (
    "Runs are started while a server of this data folder is up: one that is switched off starts nothing. Of "
    "the times that were missed meanwhile, the latest is made good once, within catch_up_seconds."
)
"""What whoever reads a schedule is told."""

NEXT = 5
"""How many times to come, and that were, an answer has."""

MOST_SCHEDULES = 100
"""Schedules that one owner may have."""

Cron = Annotated[str, Field(min_length=9, max_length=200)]
Overlap = Literal["skip", "queue"]
SlotState = Literal["started", "skipped", "missed", "refused"]

_CatchUp = Annotated[int, Field(ge=0, le=86_400), WHOLE]
_Failures = Annotated[int, Field(ge=1, le=1_000), WHOLE]


def _bounded(budget: Budget | None) -> None:
    if budget is not None and budget.max_cost is None and budget.max_tokens is None:
        raise ValueError("what is run by the clock needs a budget with max_cost or max_tokens")


class TotalBudget(Model):
    """What all runs of a schedule may use up together."""

    max_cost: float | None = Field(None, gt=0, le=1e6, description="US dollars; null: any number.")
    max_tokens: Annotated[int, Field(ge=1, le=10**12), WHOLE] | None = Field(
        None, description="Tokens, in and out; null: any number."
    )


class ScheduleCreate(Model):
    """The body of ``POST /schedules``."""

    name: Name
    crew_id: str
    crew_version: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = Field(
        None, description="The version that is run; null: what the crew is at the time."
    )
    inputs: dict[str, Any] = Field(
        default_factory=dict, max_length=1_000, description="Values for the crew's {placeholders}."
    )
    cron: Cron = Field(
        description="Minute, hour, day of the month, month, day of the week: '0 7 * * MON-FRI'."
    )
    timezone: str = Field("UTC", max_length=64, description="An IANA zone, Europe/Berlin.")
    budget: Budget = Field(description="What each run may use up; it bounds dollars or tokens.")
    total_budget: TotalBudget | None = Field(
        None, description="What all runs may use up together; then the schedule is paused."
    )
    overlap: Overlap = Field(
        "skip",
        description="Where the run before goes on: skip leaves the time out, queue starts when that is over.",
    )
    catch_up_seconds: _CatchUp = Field(
        3_600, description="How late a run may start, after an outage; of several missed times one is run."
    )
    most_failures: _Failures = Field(3, description="Runs that fail one after the other; then it is paused.")
    paused: bool = False

    @model_validator(mode="after")
    def _has_a_budget(self) -> Self:
        _bounded(self.budget)
        return self


class ScheduleUpdate(Model):
    """The body of ``PUT /schedules/{schedule_id}``: what is given changes."""

    name: Given[Name] = None
    crew_version: Annotated[int, Field(ge=1, le=10**9), WHOLE] | None = None
    inputs: Given[Annotated[dict[str, Any], Field(max_length=1_000)]] = None
    cron: Given[Cron] = None
    timezone: Given[Annotated[str, Field(max_length=64)]] = None
    budget: Given[Budget] = None
    total_budget: TotalBudget | None = None
    overlap: Given[Overlap] = None
    catch_up_seconds: Given[_CatchUp] = None
    most_failures: Given[_Failures] = None

    @model_validator(mode="after")
    def _has_a_budget(self) -> Self:
        _bounded(self.budget)
        return self


class Schedule(Document):
    """A schedule as it is stored."""

    id: str
    name: str
    owner: str
    crew_id: str
    crew_name: str
    crew_version: int | None = None
    inputs: dict[str, Any]
    cron: str
    timezone: str
    budget: Budget
    total_budget: TotalBudget | None = None
    overlap: Overlap
    catch_up_seconds: int
    most_failures: int
    paused: bool = False
    reason: str | None = Field(None, description="Why it is paused, where nobody has asked for it.")
    failures: int = Field(0, description="Runs that have failed one after the other, up to now.")
    handled: str = Field(description="All times up to this one are dealt with; UTC.")
    waiting: str | None = Field(None, description="A time whose run waits for the end of the one before.")
    pending: str | None = Field(None, description="The run whose end does not count yet.")
    last_job: str | None = None
    created_at: str
    updated_at: str


class Slot(Document):
    """What has become of one time of a schedule. There is one a time, on whatever servers."""

    id: str = Field(description="The schedule's, a slash, and the time.")
    schedule: str
    slot: str = Field(description="When it was due; UTC.")
    state: SlotState
    job_id: str | None = None
    reason: str | None = None


class SlotDetails(Model):
    """A time that was, as an answer shows it."""

    slot: str
    state: SlotState
    job_id: str | None
    reason: str | None


class ScheduleDetails(Model):
    """A schedule as an answer shows it."""

    id: str
    name: str
    owner: str
    crew_id: str
    crew_name: str
    crew_version: int | None
    inputs: dict[str, Any]
    cron: str
    timezone: str
    budget: Budget
    total_budget: TotalBudget | None
    overlap: Overlap
    catch_up_seconds: int
    most_failures: int
    paused: bool
    reason: str | None
    failures: int
    last_job: str | None
    created_at: str
    updated_at: str
    next: list[str] = Field(description="The next five times, in its zone; of a paused one, if it were not.")
    slots: list[SlotDetails] = Field(description="What became of the latest five, the newest first.")
    cost: float | None = Field(
        None, description="US dollars that its runs have used or reserved; null without a total_budget."
    )
    tokens: int | None = Field(None, description="Tokens, likewise.")
    remark: str = Field(SWITCHED_OFF, description="What is to be known of all of them.")


class ScheduleQuery(ListQuery):
    """The query of ``GET /schedules``; `search` looks in names."""

    crew_id: str | None = Field(None, description="One crew's.")
    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class ScheduleList(Listed[ScheduleDetails], alias_generator=called("schedules")):
    """The answer of ``GET /schedules``."""


class ScheduleRun(Model):
    """The answer of ``POST /schedules/{schedule_id}/run``."""

    job_id: str
    status: Literal["queued"] = "queued"
