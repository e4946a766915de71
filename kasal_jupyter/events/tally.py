"""Counting what a run uses, told apart by day, task, agent and model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.schemas.executions import Calls
from kasal_jupyter.schemas.usage import Usage, UsageBreakdown, UsageShare, is_count, is_price

_WHOLE = ("prompt_tokens", "completion_tokens", "total_tokens")
_COUNTS = (*_WHOLE, "llm_calls", "tool_calls", "unknown_costs")


@dataclass(slots=True)
class Tally:
    """Tokens, calls and dollars, added up.

    Attributes
    ----------
    cost_at_least
        US dollars of the calls whose cost is known.
    unknown_costs
        How many calls were made whose cost is not: what nobody has read may have to be paid for all the same.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    cost_at_least: float = 0.0
    unknown_costs: int = 0

    @property
    def cost(self) -> float | None:
        """US dollars; None where a call's cost is unknown, since the sum would look too small without it."""
        return None if self.unknown_costs else self.cost_at_least

    def feed(self, event: Mapping[str, Any]) -> None:
        """Count an event, if it is one of those that count."""
        match event["type"]:
            case "llm_call":
                self.llm_calls += 1
            case "llm_response" | "llm_failed" if is_recorded(event):
                # It was not made after all: what it cost was paid by the run that has the record.
                self.llm_calls -= 1
            case "tool_result" | "tool_failed" if is_recorded(event):
                self.tool_calls -= 1
            case "llm_failed" if "cost" not in event:
                pass  # Journals were written before failed calls were counted.
            case "llm_response" | "llm_failed":
                if usage := usage_of(event):
                    self.prompt_tokens += usage["prompt_tokens"]
                    self.completion_tokens += usage["completion_tokens"]
                    self.total_tokens += usage["total_tokens"]
                self._pay(cost_of(event))
            case "tool_call":
                self.tool_calls += 1
            case _:
                pass

    def add(self, figures: Mapping[str, Any]) -> None:
        """Add a stored :class:`Usage`, as plain JSON types."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + figures[name])
        self.cost_at_least = _rounded(self.cost_at_least + figures["cost_at_least"])

    def figures(self) -> dict[str, Any]:
        """Give the fields of a :class:`Usage`."""
        return {name: getattr(self, name) for name in _COUNTS} | {
            "cost": self.cost,
            "cost_at_least": self.cost_at_least,
        }

    def usage(self) -> Usage:
        """Give what was counted, for the wire."""
        return Usage(**self.figures())

    def _pay(self, cost: float | None) -> None:
        if cost is None:
            self.unknown_costs += 1
        else:
            self.cost_at_least = _rounded(self.cost_at_least + cost)


@dataclass(slots=True)
class Shares:
    """Tallies by a key, each with a name.

    ``shares`` are in the order in which their keys came first.
    """

    shares: dict[str, tuple[str, Tally]] = field(default_factory=dict)

    def of(self, key: str, name: str) -> Tally:
        """Give a key's tally; the latest name counts."""
        known = self.shares.get(key)
        tally = known[1] if known else Tally()
        if known is None or known[0] != name:
            self.shares[key] = (name, tally)
        return tally

    def add(self, shares: Iterable[UsageShare]) -> None:
        """Add stored shares."""
        for share in shares:
            self.of(share.key, share.name).add(share.model_dump())

    def listed(self) -> list[UsageShare]:
        """Give the shares, for the wire."""
        return [
            UsageShare(**tally.figures(), key=key, name=name) for key, (name, tally) in self.shares.items()
        ]


@dataclass(slots=True)
class Breakdown:
    """What was used, as a whole and told apart by task, agent and model."""

    whole: Tally = field(default_factory=Tally)
    tasks: Shares = field(default_factory=Shares)
    agents: Shares = field(default_factory=Shares)
    models: Shares = field(default_factory=Shares)

    def feed(self, event: Mapping[str, Any]) -> None:
        """Count a model call, an answer or a tool call."""
        for tally in self._concerned(event):
            tally.feed(event)

    def add(self, whole: Usage, by: UsageBreakdown) -> None:
        """Add what is stored."""
        self.whole.add(whole.model_dump())
        self.tasks.add(by.tasks)
        self.agents.add(by.agents)
        self.models.add(by.models)

    def by(self) -> UsageBreakdown:
        """Give the shares, for the wire."""
        return UsageBreakdown(
            tasks=self.tasks.listed(), agents=self.agents.listed(), models=self.models.listed()
        )

    def _concerned(self, event: Mapping[str, Any]) -> Iterator[Tally]:
        yield self.whole
        # What a planner does, say, is no task's.
        yield self.tasks.of(event.get("task_id") or "", event.get("task") or "")
        agent = event.get("agent") or ""
        yield self.agents.of(agent, agent)
        if model := event.get("model"):
            yield self.models.of(model, model)


def usage_of(event: Mapping[str, Any]) -> TokenUsage | None:
    """Give the tokens of an ``llm_response``; None where they are unknown, or what stands there counts none.

    Journals were written before counts were looked at: a provider's nonsense stands in them as it came.
    """
    usage = event.get("usage")
    if not isinstance(usage, dict) or not all(is_count(usage.get(name)) for name in _WHOLE):
        return None
    counts = {name: count for name, count in usage.items() if is_count(count)}
    return cast("TokenUsage", counts)


def cost_of(event: Mapping[str, Any]) -> float | None:
    """Give what an ``llm_response`` cost, in US dollars; None where that is unknown."""
    return cost if is_price(cost := event.get("cost")) else None


def is_free(call: Mapping[str, Any]) -> bool:
    """Say whether an ``llm_call`` costs nothing, whatever becomes of it: the sandbox is asked."""
    return call.get("free") is True or call.get("model") == "sandbox"


def is_recorded(event: Mapping[str, Any]) -> bool:
    """Say whether what ends a call came from the record of an earlier run."""
    return event.get("recorded") is True


@dataclass(slots=True)
class Answers:
    """How the calls of models and tools were answered, counted as they end.

    Attributes
    ----------
    recorded
        Those that the record of an earlier run has answered.
    live
        Those that were made.
    saved_at_least
        US dollars that the recorded ones cost when they were made, as far as that is known.
    unknown
        How many of them have an unknown cost.
    """

    recorded: int = 0
    live: int = 0
    saved_at_least: float = 0.0
    unknown: int = 0

    @property
    def saved(self) -> float | None:
        """US dollars that the recorded ones cost when they were made; None where that is not known."""
        return None if self.unknown else self.saved_at_least

    def feed(self, event: Mapping[str, Any]) -> None:
        """Count what ends a call."""
        if not is_recorded(event):
            self.live += 1
            return
        self.recorded += 1
        if event["type"] == "llm_response" or "cost" in event:
            cost = cost_of(event)
            self.unknown += cost is None
            self.saved_at_least = _rounded(self.saved_at_least + (cost or 0.0))

    def calls(self) -> Calls:
        """Give what was counted, for the wire."""
        return Calls(recorded=self.recorded, live=self.live, saved=self.saved)


COUNTED = frozenset({"llm_call", "llm_response", "llm_failed", "tool_call"})
"""The types of event that use something up."""

CALL_ENDS = frozenset({"llm_response", "llm_failed", "tool_result", "tool_failed"})
"""The types of event that end a call of a model or a tool."""


def _rounded(dollars: float) -> float:
    # No token costs less than a millionth of a cent: further digits are those of binary fractions.
    return round(dollars, 12)
