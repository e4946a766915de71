"""How often somebody may ask: the reference's *Rate Limits*."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kasal_jupyter.errors import TooManyRequests
from kasal_jupyter.schemas.base import steady_seconds
from kasal_jupyter.schemas.users import Tier

MINUTE = 60
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in a time.

    Attributes
    ----------
    amount
        The requests.
    seconds
        The time.
    words
        The same for people.
    """

    amount: int
    seconds: int
    words: str


def rates_of(enterprise_burst: int) -> dict[Tier, tuple[Rate, ...]]:
    """Give each tier's rates, the burst first.

    Parameters
    ----------
    enterprise_burst
        What the table calls *Custom*: requests a minute in the tier without an hourly limit; 0: any number.
    """
    custom = Rate(enterprise_burst, MINUTE, f"{enterprise_burst:,} requests a minute")
    return {
        "free": (
            Rate(100, MINUTE, "100 requests a minute"),
            Rate(1_000, HOUR, "1,000 requests an hour"),
        ),
        "pro": (
            Rate(1_000, MINUTE, "1,000 requests a minute"),
            Rate(10_000, HOUR, "10,000 requests an hour"),
        ),
        "enterprise": (custom,) if enterprise_burst else (),
    }


class Allowance(NamedTuple):
    """What is left of a rate, for the headers ``X-RateLimit-*``.

    Attributes
    ----------
    limit
        The requests of the rate.
    remaining
        How many of them are left.
    reset
        Seconds until its present window ends.
    """

    limit: int
    remaining: int
    reset: int


MOST_COUNTS = 50_000
"""Counts that are kept; 0.3 kB each."""


class _Window(NamedTuple):
    """What was counted in the window before and in the present one, and the seconds until that ends."""

    before: int
    now: int
    left: float

    def used(self, seconds: int) -> int:
        return int(self.before * self.left / seconds + self.now)

    def allowance(self, rate: Rate) -> Allowance:
        return Allowance(rate.amount, max(0, rate.amount - self.used(rate.seconds)), int(self.left) + 1)


class RateMeter:
    """Counts requests, in windows that slide: a weighted part of the one before counts as well.

    The counts are this process's own, and begin anew with it. For one thread: the server's loop.

    Parameters
    ----------
    clock
        Gives a time that only goes on: a machine's clock that is set locks nobody out, and frees nobody.
    """

    def __init__(self, clock: Callable[[], float] = steady_seconds) -> None:
        self._clock = clock
        # By whose, the length of the window, and its number.
        self._counts: dict[tuple[str, int, int], int] = {}

    def spend(self, name: str, rates: tuple[Rate, ...]) -> Allowance:
        """Count a request against all of somebody's rates, and give what is left of the last.

        A request that is refused is not counted against the rate that refused it.

        Parameters
        ----------
        name
            Whose.
        rates
            One at least, the shortest first.

        Raises
        ------
        TooManyRequests
            One of them is used up.
        """
        now = self._clock()
        window = None
        for rate in rates:
            window = self._counted(name, rate, now)
            if window is None:
                seconds = self.wait(name, rate)
                raise TooManyRequests(
                    f"More than {rate.words}; try again in {seconds} s",
                    retry_after=seconds,
                    limit=rate.amount,
                )
        assert window is not None, "there are rates"
        return window.allowance(rates[-1])

    def count(self, name: str, rate: Rate) -> bool:
        """Count something against a rate, unless that is used up; say whether it was counted."""
        return self._counted(name, rate, self._clock()) is not None

    def left(self, name: str, rate: Rate) -> Allowance:
        """Give what is left of a rate."""
        return self._window(name, rate.seconds, self._clock()).allowance(rate)

    def wait(self, name: str, rate: Rate) -> int:
        """Give the seconds until a rate that is used up admits one more."""
        window = self._window(name, rate.seconds, self._clock())
        if window.now < rate.amount:
            # The window before weighs less and less: until the two come below the limit.
            seconds = window.left - (rate.amount - window.now) * rate.seconds / max(window.before, 1)
        else:
            # This window is full. Once it is the one before, it has to lose the weight of one.
            seconds = window.left + rate.seconds - rate.seconds * rate.amount / window.now
        return max(1, math.ceil(seconds + 0.001))

    def _counted(self, name: str, rate: Rate, now: float) -> _Window | None:
        """Count something; give the window with it, and None where the rate is used up."""
        window = self._window(name, rate.seconds, now)
        if window.used(rate.seconds) >= rate.amount:
            return None
        if not window.now and len(self._counts) >= MOST_COUNTS:
            self._drop(now)
        self._counts[name, rate.seconds, int(now / rate.seconds)] = window.now + 1
        return _Window(window.before, window.now + 1, window.left)

    def _window(self, name: str, seconds: int, now: float) -> _Window:
        number = int(now / seconds)
        before = self._counts.get((name, seconds, number - 1), 0)
        present = self._counts.get((name, seconds, number), 0)
        return _Window(before, present, (number + 1) * seconds - now)

    def _drop(self, now: float) -> None:
        """Forget what no longer counts, and of the rest the half that would be forgotten first."""
        # A window counts until the one behind it is over.
        ends = {key: (key[2] + 2) * key[1] for key in self._counts}
        live = sorted((key for key, end in ends.items() if end > now), key=ends.__getitem__)
        self._counts = {key: self._counts[key] for key in live[-MOST_COUNTS // 2 :]}


# Senders: how much each may have under way, so that nobody's crowd keeps others out.


class Senders:
    """Counts what is under way by who has sent it.

    Parameters
    ----------
    most
        How much one sender may have under way.
    what
        For people, e.g. ``connections``.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._under_way: Counter[str] = Counter()

    def take(self, sender: str, amount: int = 1) -> Callable[[], None]:
        """Count something of a sender until the answer is called, once or more often.

        Whoever has nothing under way may always send one thing.

        Raises
        ------
        TooManyRequests
            It would be too much.
        """
        before = self._under_way[sender]
        if before and before + amount > self._most:
            raise TooManyRequests(
                f"You have more than {self._most} {self._what} under way; wait for some to end", retry_after=1
            )
        self._under_way[sender] += amount
        left = [amount]

        def give_back() -> None:
            if left:
                self._under_way[sender] -= left.pop()
                if not self._under_way[sender]:
                    del self._under_way[sender]

        return give_back

    def of(self, sender: str) -> int:
        """Give what a sender has under way."""
        return self._under_way.get(sender, 0)
