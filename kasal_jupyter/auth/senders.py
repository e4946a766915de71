"""Senders: how much each may have under way, so that nobody's crowd keeps others out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kasal_jupyter.errors import TooManyRequests


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
