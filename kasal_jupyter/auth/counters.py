"""The counters behind every rate limit, in this process's memory."""

from __future__ import annotations

import time

from limits.storage import MemoryStorage

MOST_KEYS = 50_000
"""Counters that are kept; 0.4 kB each."""


class Counters(MemoryStorage):
    """The library's storage in memory, bounded, and without its threads.

    The library's own starts a thread for nearly every request of a server that is not very busy, to throw
    away what has expired: 0.4 ms each time, where counting takes 0.004. Here that is done by the request
    which makes the counters too many. For one thread: the server's loop.
    """

    def get(self, key: str) -> int:
        """Give the count for a key."""
        return self.storage[key] if self.expirations.get(key, 0) > time.time() else 0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count for a key, which is forgotten after `expiry` seconds."""
        now = time.time()
        if self.expirations.get(key, 0) > now:
            count = self.storage[key] + amount
        else:
            if len(self.expirations) >= MOST_KEYS:
                self._drop(now)
            self.expirations[key] = now + expiry
            count = amount
        self.storage[key] = count
        return count

    def decr(self, key: str, amount: int = 1) -> int:
        """Take back what was counted for a key."""
        count = max(0, self.get(key) - amount)
        if key in self.expirations:
            self.storage[key] = count
        return count

    def _drop(self, now: float) -> None:
        """Forget what has expired, and of the rest the half that would expire first."""
        live = sorted((expires, key) for key, expires in self.expirations.items() if expires > now)
        kept = {key for _, key in live[-MOST_KEYS // 2 :]}
        for key in [key for key in self.expirations if key not in kept]:
            del self.storage[key], self.expirations[key]
