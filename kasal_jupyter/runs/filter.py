"""Which of a run's events are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kasal_jupyter.errors import Fault, InvalidRequest, nearest
from kasal_jupyter.schemas.executions import KINDS

TYPES: frozenset[str] = frozenset().union(*KINDS.values())
"""Every type of event."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What an event must be to be wanted.

    Attributes
    ----------
    types
        One of these types; any, if it is None.
    agent
        That agent's, by its name.
    task
        That task's, by its id or its title.
    """

    types: frozenset[str] | None = None
    agent: str | None = None
    task: str | None = None

    @classmethod
    def read(cls, kind: str | None, agent: str | None, task: str | None) -> Self:
        """Read a filter as a query gives it; ``kind`` has kinds and types, separated by commas.

        Raises
        ------
        InvalidRequest
            There is no such kind.
        """
        types: set[str] = set()
        for word in (kind or "").split(","):
            name = word.strip()
            if name in KINDS:
                types |= KINDS[name]
            elif name in TYPES:
                types.add(name)
            elif name:
                known = [*KINDS, *sorted(TYPES - KINDS.keys())]
                reason = f"There is no kind {name!r}{nearest(name, known)}; there are {', '.join(known)}"
                raise InvalidRequest("Invalid query", faults=[Fault("kind", reason)])
        return cls(frozenset(types) if types else None, agent or None, task or None)

    @property
    def takes_all(self) -> bool:
        """Whether every event is wanted."""
        return self.types is None and self.agent is None and self.task is None

    def takes(self, event: Mapping[str, Any]) -> bool:
        """Say whether an event is wanted."""
        return (
            (self.types is None or event["type"] in self.types)
            and (self.agent is None or event.get("agent") == self.agent)
            and (self.task is None or self.task in {event.get("task_id"), event.get("task")})
        )
