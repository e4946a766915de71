"""How many runs go on at once: as many as the machine holds, and as the providers of their models bear.

A run mostly waits for models, so a machine holds many more than it has processors; a provider may refuse far
fewer. Nobody can know either number beforehand, so both are felt for: each key of a model has a window of
runs, which grows with its answers and shrinks with its refusals, and no run begins while the machine is short
of memory or has nothing left of its processors. What the limits say is never passed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import Protocol

from kasal_jupyter.schemas.spec import RunModel, RunSpec

FIRST = 8
"""Runs of a key that begin before it has answered, and runs that a busy machine has nevertheless."""

SHRINK = 0.8
"""What is left of a window after a refusal."""

PAUSE_SECONDS = 1.0
"""How long after a window has shrunk it does not again: runs at the same time are refused together."""

MOST_HELD = 120.0
"""Seconds that a key's runs wait for it at the most; whoever is asked to wait longer gives the call up."""

REFUSALS = frozenset({"RATE_LIMIT", "MODEL_TIMEOUT"})
"""The codes of failures by which a provider says that it is asked too much."""

RUN_BYTES = 64_000_000
"""What is free of memory, at the least, for each run that is about to begin: itself, and what it calls."""

LOOK_SECONDS = 0.25
"""How long what was seen of the machine is believed."""

BUSY = 0.95
"""The share of the processors' time beyond which nothing is left of it."""


class Places(Protocol):
    """Where runs are executed."""

    @property
    def places(self) -> int | None:
        """How many runs fit there."""
        ...


class Machine:
    """What is left of this machine's memory and processors."""

    def __init__(self) -> None:
        self._looked = -inf
        self._room = True
        self._times: tuple[float, float] | None = None

    def has_room(self) -> bool:
        """Say whether one run more may begin. It takes 0.1 ms, a few times a second."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked, self._room = now, self._look()
        return self._room

    def _look(self) -> bool:
        import psutil  # type: ignore[import-untyped]

        times = psutil.cpu_times()
        idle, whole = times.idle + getattr(times, "iowait", 0.0), sum(times[:8])
        before, self._times = self._times, (idle, whole)
        if psutil.virtual_memory().available < RUN_BYTES * (os.cpu_count() or 1):
            return False
        if before is None or whole <= before[1]:
            return True
        return bool((idle - before[0]) / (whole - before[1]) > 1 - BUSY)


@dataclass(slots=True)
class _Key:
    """How a provider has answered one key of late."""

    window: float = FIRST
    threshold: float = inf
    """Beyond it, a window grows slowly: it was refused there."""
    running: int = 0
    shrunk: float = -inf
    held: float = -inf


class Admission:
    """Says which runs may begin, and how long those of a key wait before they ask again.

    Parameters
    ----------
    most
        Runs at the same time, whatever the machine and the providers bear.
    places
        Where they are executed.
    machine
        What is left of the machine.
    clock
        Tells the time, in seconds.
    """

    def __init__(
        self,
        most: int,
        places: Places,
        machine: Machine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._places = places
        self._machine = machine or Machine()
        self._clock = clock
        self._keys: dict[str, _Key] = {}

    def room(self, running: int) -> bool:
        """Say whether one run more fits, whosever it is.

        Parameters
        ----------
        running
            Those that run.
        """
        if running >= self._most:
            return False
        if (places := self._places.places) is not None:
            return running < places
        return running < FIRST or self._machine.has_room()

    def bears(self, keys: Collection[str]) -> bool:
        """Say whether the providers bear one run more that asks with these keys."""
        now = self._clock()
        known = [key for name in keys if (key := self._keys.get(name)) is not None]
        return all(key.running < int(key.window) and key.held <= now for key in known)

    def begin(self, keys: Iterable[str]) -> None:
        """Count a run that begins."""
        for name in keys:
            self._keys.setdefault(name, _Key()).running += 1

    def end(self, keys: Iterable[str]) -> None:
        """Count a run that has ended."""
        for name in keys:
            key = self._keys[name]
            key.running -= 1
            if not key.running and key.window >= FIRST and key.held < self._clock():
                del self._keys[name]  # What is begun anew is not far from what was learnt.

    def answered(self, name: str) -> None:
        """Hear that a provider has answered: its window grows, by one until it was refused, then slowly."""
        if (key := self._keys.get(name)) is not None and key.running + 1 > key.window / 2:
            key.window = min(key.window + (1 if key.window < key.threshold else 1 / key.window), self._most)

    def refused(self, name: str, wait: float | None = None) -> float | None:
        """Hear that a provider has refused, or not answered in time.

        Parameters
        ----------
        name
            The key.
        wait
            The seconds that it asks to wait; None where it asks for nothing.

        Returns
        -------
        float or None
            The seconds that the other runs of the key have to wait; None: not longer than they do already.
        """
        key, now = self._keys.setdefault(name, _Key()), self._clock()
        if now - key.shrunk >= PAUSE_SECONDS:
            # Of those that run, since more were not tried.
            key.window = max(1.0, SHRINK * min(key.window, max(key.running, 1)))
            key.threshold, key.shrunk = key.window, now
        until = now + min(wait or 0.0, MOST_HELD)
        if wait is None or until <= max(key.held, now):
            return None
        key.held = until
        return until - now

    def held(self, name: str) -> float:
        """Give the seconds that a key's runs have to wait still."""
        key = self._keys.get(name)
        return max(0.0, key.held - self._clock()) if key is not None else 0.0


def keys_of(spec: RunSpec) -> dict[str, str]:
    """Give the key that each of a run's models is asked with, by the model's name; none of those never asked.

    It is a digest: the key itself is for the run's process alone.
    """
    if spec.source is not None and spec.source.verb == "replay":
        return {}
    return {name: _digest(model) for name, model in spec.models.items() if model.provider != "sandbox"}


def _digest(model: RunModel) -> str:
    parts = (model.provider, model.base_url, model.api_key, *sorted(model.options.items()))
    return sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()
