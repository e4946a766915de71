"""How often somebody may ask: the reference's *Rate Limits*."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kasal_jupyter.errors import TooManyRequests
from kasal_jupyter.schemas.users import Tier

if TYPE_CHECKING:
    from kasal_jupyter.auth.counters import Counters

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


class RateMeter:
    """Counts requests, in windows that slide: a weighted part of the one before counts as well.

    The counts are this process's own, and begin anew with it.
    """

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
            # The library's limiter does the same with a key that it builds at each call, for 1.5 µs.
            if not self._counters.acquire_sliding_window_entry(name, rate.amount, rate.seconds):
                seconds = self.wait(name, rate)
                raise TooManyRequests(
                    f"More than {rate.words}; try again in {seconds} s",
                    retry_after=seconds,
                    limit=rate.amount,
                )
        return self.left(name, rates[-1])

    def count(self, name: str, rate: Rate) -> None:
        """Count something against a rate, also if that is used up."""
        self._counters.acquire_sliding_window_entry(name, rate.amount, rate.seconds)

    def left(self, name: str, rate: Rate) -> Allowance:
        """Give what is left of a rate."""
        before, ttl, now, until = self._counters.get_sliding_window(name, rate.seconds)
        used = int(before * ttl / rate.seconds + now)
        # The library counts until the window has wholly slid by: one window more than it lasts.
        return Allowance(rate.amount, max(0, rate.amount - used), int(until - rate.seconds) + 1)

    def wait(self, name: str, rate: Rate) -> int:
        """Give the seconds until a rate that is used up admits one more."""
        before, ttl, now, until = self._counters.get_sliding_window(name, rate.seconds)
        if now < rate.amount:
            # The window before weighs less and less: until the two come below the limit.
            seconds = ttl - (rate.amount - now) * rate.seconds / max(before, 1)
        else:
            # This window is full. Once it is the one before, it has to lose the weight of one.
            seconds = until - rate.seconds * rate.amount / now
        return max(1, math.ceil(seconds + 0.001))

    @cached_property
    def _counters(self) -> Counters:
        # Imported here, since most servers have no other caller than their owner, who is not counted.
        from kasal_jupyter.auth.counters import Counters

        return Counters()
