"""How often somebody may ask: the reference's *Rate Limits*."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Allowance:
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


@dataclass(frozen=True, slots=True)
class _Window:
    """What was counted in the window before and in the present one, and the seconds until that ends."""

    before: int
    now: int
    left: float

    def used(self, seconds: int) -> int:
        return int(self.before * self.left / seconds + self.now)


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
        for rate in rates:
            if not self.count(name, rate):
                seconds = self.wait(name, rate)
                raise TooManyRequests(
                    f"More than {rate.words}; try again in {seconds} s",
                    retry_after=seconds,
                    limit=rate.amount,
                )
        return self.left(name, rates[-1])

    def count(self, name: str, rate: Rate) -> bool:
        """Count something against a rate, unless that is used up; say whether it was counted."""
        now = self._clock()
        if self._window(name, rate.seconds, now).used(rate.seconds) >= rate.amount:
            return False
        key = (name, rate.seconds, int(now / rate.seconds))
        if key not in self._counts and len(self._counts) >= MOST_COUNTS:
            self._drop(now)
        self._counts[key] = self._counts.get(key, 0) + 1
        return True

    def left(self, name: str, rate: Rate) -> Allowance:
        """Give what is left of a rate."""
        window = self._window(name, rate.seconds, self._clock())
        return Allowance(rate.amount, max(0, rate.amount - window.used(rate.seconds)), int(window.left) + 1)

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

    def _window(self, name: str, seconds: int, now: float) -> _Window:
        number = int(now / seconds)
        before, present = ((name, seconds, each) for each in (number - 1, number))
        left = (number + 1) * seconds - now
        return _Window(self._counts.get(before, 0), self._counts.get(present, 0), left)

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
