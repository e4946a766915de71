"""Shared budgets: what several runs may use up together, and what a run in hand has reserved of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.base import Document, Model

Period = Literal["day", "month"]
"""What a user's limit is for; both are UTC's."""

PERIODS: tuple[Period, ...] = ("day", "month")


class Limits(Model):
    """What all runs of a user may cost together: none begins a call that would pass it."""

    max_cost_day: float | None = Field(
        None, gt=0, le=1e6, description="US dollars a day of UTC; null: any number."
    )
    max_cost_month: float | None = Field(
        None, gt=0, le=1e6, description="US dollars a month of UTC; null: any number."
    )


class LimitState(Model):
    """How a limit of a user stands."""

    period: Period
    max_cost: float
    cost: float = Field(description="US dollars that runs of this day or month have used, as far as known.")
    reserved: float = Field(description="US dollars that runs in hand hold of it now, used or not.")
    ends_at: str = Field(description="When the day or the month is over.")


class Sum(Model):
    """Tokens and US dollars."""

    tokens: int = Field(0, ge=0)
    cost: float = Field(0.0, ge=0)

    def plus(self, other: Sum) -> Sum:
        """Add another."""
        return Sum(tokens=self.tokens + other.tokens, cost=self.cost + other.cost)

    def minus(self, other: Sum) -> Sum:
        """Take another away; below nothing there is nothing: dollars are no whole numbers."""
        return Sum(tokens=max(0, self.tokens - other.tokens), cost=max(0.0, self.cost - other.cost))

    def at_least(self, other: Sum) -> Sum:
        """Give the larger of both, each by itself."""
        return Sum(tokens=max(self.tokens, other.tokens), cost=max(self.cost, other.cost))


class Allowance(Document):
    """A shared budget: its bounds, what is booked of it, and what runs in hand hold."""

    id: str = Field(description="A batch's or a schedule's, else user:<owner>:<day or month>.")
    owner: str | None = Field(None, description="Of a user's day or month: whose.")
    max_cost: float | None = Field(None, description="US dollars; null: any number.")
    max_tokens: int | None = Field(None, description="Tokens, in and out; null: any number.")
    spent: Sum = Field(description="What runs that are over have used.")
    held: Sum = Field(default_factory=Sum, description="What runs in hand have used or reserved.")

    @property
    def used_up(self) -> bool:
        """Whether what runs have used leaves nothing."""
        cost_out = self.max_cost is not None and self.spent.cost >= self.max_cost
        return cost_out or (self.max_tokens is not None and self.spent.tokens >= self.max_tokens)

    @property
    def taken(self) -> Sum:
        """All that is not there any more."""
        return self.spent.plus(self.held)


class Share(Model):
    """What a run in hand holds of one allowance."""

    allowance: str
    since: Sum = Field(description="What the run had used as it came to this one: that is not of it.")
    used: Sum = Field(description="What it has used of it.")
    held: Sum = Field(description="That, and what it has reserved.")


class Hold(Document):
    """What a run in hand holds of shared budgets; it goes in the change that books the run."""

    id: str = Field(description="The execution's.")
    shares: list[Share]


class Wish(Model):
    """What a run's process asks its server for before a call, and tells it behind one."""

    reserve: int = Field(description="The number that the answer is to have; 0: none is waited for.")
    used: Sum = Field(description="What the run has used.")
    reserved: Sum = Field(description="What its calls under way are expected to take, with this one.")
    model: str | None = Field(None, description="Who is to be asked.")
    expected: Sum = Field(default_factory=Sum, description="What this call may take.")
    priced: bool = Field(True, description="Whether anybody knows what it costs.")


class Reserved(Model):
    """The server's answer to a wish."""

    number: int
    refusal: str | None = Field(None, description="Why it is not granted; null: it is.")
