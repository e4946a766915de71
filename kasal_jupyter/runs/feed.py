"""Feeds: a run's events as they come, to whoever follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from kasal_jupyter.runs.journal import Journal
from kasal_jupyter.schemas.summary import RunSummary

POLL_SECONDS = 0.1
"""How often the journal of a run that another server runs is looked at."""

Deliver = Callable[[int, list[bytes]], None]
"""Takes the number of the first event, and the events as they stand in the journal."""


@dataclass(slots=True, eq=False)
class Feed:
    """One run's events, to any number of subscribers.

    Attributes
    ----------
    journal
        Where the events are kept; a subscriber that comes late reads there what it missed.
    summary
        The run's state, folded from the events as they come.
    """

    journal: Journal
    summary: RunSummary = field(default_factory=RunSummary)
    _subscribers: set[Deliver] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path) -> Feed:
        """Open the feed of a run that another server runs, or that has ended.

        Raises
        ------
        NotFound
            Its journal is gone.
        """
        feed = cls(Journal.open(path))
        feed.catch_up()
        return feed

    @property
    def job_id(self) -> str:
        """The run's id."""
        return self.journal.job_id

    @property
    def followed(self) -> bool:
        """Whether anybody follows the run."""
        return bool(self._subscribers)

    def subscribe(self, deliver: Deliver) -> Callable[[], None]:
        """Have every event from now on delivered; the answer ends it.

        Events up to ``journal.seq`` have passed: a subscriber first reads those from the journal, and
        subscribes, without giving way in between, when it has read the last.
        """
        self._subscribers.add(deliver)
        return lambda: self._subscribers.discard(deliver)

    def append(self, lines: list[bytes]) -> None:
        """Write events of a run of this server, take them in, and pass them on."""
        first = self.journal.seq + 1
        self._pass_on(first, self.journal.append(lines))

    def catch_up(self) -> None:
        """Take in and pass on what another server has written."""
        before = self.summary.seq
        self.journal.refresh()
        while lines := self.journal.read(before):
            self._pass_on(before + 1, lines)
            before += len(lines)

    def _pass_on(self, first: int, lines: list[bytes]) -> None:
        for line in lines:
            self.summary.feed(orjson.loads(line))
        for deliver in tuple(self._subscribers):
            deliver(first, lines)
