"""What a run may use up, and what it has: no call is begun that would pass a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from kasal_jupyter.events.event import ErrorInfo, TokenUsage
from kasal_jupyter.schemas.allowances import Sum, Wish
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.worker.crew.time_limit import BackgroundWork
from kasal_jupyter.worker.models.llm import ReportedLLM
from kasal_jupyter.worker.models.model_call import ModelCall
from kasal_jupyter.worker.process.stop import RunFailed, StopSignal

BUDGET_EXCEEDED = "BUDGET_EXCEEDED"

LAST_SECONDS = 1.0
"""How long a run whose time is up may take to end by itself, in order; a tool may be at work."""


LOOK_SECONDS = 0.25
"""How often a run whose time stands still looks whether it waits for people yet."""


def in_time(
    budget: Budget | None,
    signal: StopSignal,
    work: Callable[[], str],
    waited: Callable[[], tuple[float, bool]] = lambda: (0.0, False),
) -> str:
    """Do a run's work within the seconds of its budget, and give its result.

    What it waits for people does not count: ``waited`` gives how long that was, and whether it does now.

    Where it is not done by then, waits and model calls end at once. What goes on still is left behind: it
    ends with the run's process.

    Raises
    ------
    RunFailed
        The time is up.
    """
    if budget is None or budget.max_seconds is None:
        return work()
    crew = BackgroundWork(work, "crew")
    begun, left = time.monotonic(), budget.max_seconds + waited()[0]
    while left > 0 and not crew.wait(left):
        seconds_waited, waits = waited()
        left = budget.max_seconds + seconds_waited - (time.monotonic() - begun)
        if waits:
            left = max(left, LOOK_SECONDS)
    if left <= 0:
        seconds = f"{budget.max_seconds:g} second{'' if budget.max_seconds == 1 else 's'}"
        error = ErrorInfo(code=BUDGET_EXCEEDED, message=f"The {seconds} of the budget are over.")
        signal.fail(error)
        if not crew.wait(LAST_SECONDS):
            raise RunFailed(error)
    return crew.result()


@dataclass(slots=True)
class _Counted:
    """How far the provider's counts of a model's prompts are from the estimates of them."""

    estimated: int = 0
    counted: int = 0

    def corrected(self, estimate: int) -> int:
        return round(estimate * self.counted / self.estimated) if self.estimated else estimate


@dataclass(slots=True)
class _Sums:
    tokens: int = 0
    cost: float = 0.0


class Purse(Protocol):
    """Who reserves what is spent of budgets that other runs share."""

    def wish(self, wish: Wish) -> int:
        """Tell what is used, and what is wanted, in the order of these calls; give the wish's number."""
        ...

    def refused(self, number: int) -> str | None:
        """Wait for the answer to a wish; say why it is not granted, else None."""
        ...


@dataclass(slots=True)
class Ledger:
    """The budget of one run, and what it spends of those that it shares with others.

    A call is taken to need its prompt and, where the agent has ``max_tokens``, that long an answer. A
    prompt's tokens are estimated by its length, and better so after each call of the model, by what its
    provider has counted. What a provider does not count is booked as estimated, and so is a call whose answer
    did not come, or could not be read. Calls that go on at the same time count as if they had been answered.

    Parameters
    ----------
    budget
        The bounds; None where there are none. ``max_seconds`` is not looked at here.
    signal
        Told when the budget is used up.
    purse
        Who reserves what is spent of shared budgets; None where there are none.
    """

    budget: Budget | None
    signal: StopSignal
    purse: Purse | None = None
    _used: _Sums = field(default_factory=_Sums)
    _reserved: _Sums = field(default_factory=_Sums)
    _counted: dict[str, _Counted] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin_with(self, tokens: int, cost: float) -> None:
        """Count what the run has used before."""
        self._used = _Sums(tokens, cost)

    @contextmanager
    def call(
        self, llm: ReportedLLM, call: ModelCall, prompt: Callable[[], int], answer_tokens: int | None
    ) -> Iterator[None]:
        """Make a call within the budget.

        Parameters
        ----------
        llm
            Who is asked.
        call
            The call; what it took is booked afterwards.
        prompt
            Estimates the prompt's tokens.
        answer_tokens
            The most tokens of the answer, where that is set.

        Raises
        ------
        RunFailed
            The call would pass the budget. It ends the run.
        """
        bounds = self.budget
        alone = bounds is None or bounds.max_tokens is bounds.max_cost is None
        if alone and self.purse is None:
            yield
            return
        estimate, number = prompt(), 0
        with self._lock:
            expected = self._expected(llm, estimate, answer_tokens or 0)
            if reason := self._passes(llm, expected):
                raise self._failed(reason)
            self._reserved.tokens += expected.tokens
            self._reserved.cost += expected.cost or 0.0
            if self.purse is not None:
                number = self.purse.wish(self._wish(llm, expected))
        try:
            if self.purse is not None and (reason := self.purse.refused(number)):
                raise self._failed(reason)
            yield
        finally:
            with self._lock:
                self._reserved.tokens -= expected.tokens
                self._reserved.cost = max(0.0, self._reserved.cost - (expected.cost or 0.0))
                if not call.unpaid:
                    self._book(llm, call, estimate, expected)
                if self.purse is not None:
                    self.purse.wish(self._wish(llm, None))

    def _failed(self, reason: str) -> RunFailed:
        """End the run for a budget that is used up."""
        error = ErrorInfo(code=BUDGET_EXCEEDED, message=reason)
        self.signal.fail(error)
        return RunFailed(error)

    def _wish(self, llm: ReportedLLM, expected: _Expected | None) -> Wish:
        """Put into words for the server what is used, and what a call may take; None: it is over."""
        about: dict[str, Any] = {}
        if expected is not None:
            priced, sums = expected.cost is not None, Sum(tokens=expected.tokens, cost=expected.cost or 0.0)
            about = {"model": llm.label, "expected": sums, "priced": priced}
        return Wish(
            reserve=int(expected is not None),
            used=Sum(tokens=self._used.tokens, cost=self._used.cost),
            reserved=Sum(tokens=self._reserved.tokens, cost=self._reserved.cost),
            **about,
        )

    def _expected(self, llm: ReportedLLM, estimate: int, answer: int) -> _Expected:
        prompt = self._counted.get(llm.label, _Counted()).corrected(estimate)
        usage = TokenUsage(prompt_tokens=prompt, completion_tokens=answer, total_tokens=prompt + answer)
        return _Expected(prompt + answer, llm.cost(usage, datetime.now(UTC)))

    def _passes(self, llm: ReportedLLM, expected: _Expected) -> str | None:
        """Say which bound a call would pass, and what is used so far; None where it passes none."""
        if self.budget is None:
            return None
        bound = self.budget.max_tokens
        used = self._used.tokens + self._reserved.tokens
        if bound is not None and used + expected.tokens > bound:
            return (
                f"The next call of {llm.label} would take about {expected.tokens:,} tokens, and {used:,} of "
                f"the budget's {bound:,} are used."
            )
        most, spent = self.budget.max_cost, self._used.cost + self._reserved.cost
        if most is None:
            return None
        if expected.cost is None:
            return f"What {llm.label} costs is unknown, and the budget is ${most:g}; ${spent:.4g} is spent."
        if spent + expected.cost > most:
            return (
                f"The next call of {llm.label} would cost about ${expected.cost:.4g}, and ${spent:.4g} of "
                f"the budget's ${most:g} is spent."
            )
        return None

    def _book(self, llm: ReportedLLM, call: ModelCall, estimate: int, expected: _Expected) -> None:
        if call.usage is not None:
            self._used.tokens += call.usage["total_tokens"]
            counted = self._counted.setdefault(llm.label, _Counted())
            counted.estimated += estimate
            counted.counted += call.usage["prompt_tokens"]
        else:
            self._used.tokens += expected.tokens
        cost = call.cost if call.cost is not None else expected.cost
        self._used.cost += cost or 0.0


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a call will take, as far as can be told; a cost of None is unknown."""

    tokens: int
    cost: float | None
