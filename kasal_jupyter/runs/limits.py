"""How many executions may go on at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How much may go on at once.

    Attributes
    ----------
    running
        Runs at the same time; more wait in the queue.
    queued
        Runs that may wait; one more is refused.
    journal_bytes
        Bytes of events that one run may record.
    """

    running: int = 8
    queued: int = 1_000
    journal_bytes: int = 200_000_000
