"""Which of a run's events are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from kasal_jupyter.errors import Fault, InvalidRequest, nearest
from kasal_jupyter.events.event import FAILING
from kasal_jupyter.schemas.executions import KINDS

TYPES: frozenset[str] = frozenset().union(*KINDS.values())
"""Every type of event."""

FAILED = FAILING | {"error"}
"""Those that tell of a failure."""


_MARKS = frozenset({"seq", "job_id", "time", "type", "span_id", "parent_id", "task_id", "call_id"})


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
    find
        Those that have this text somewhere, in capitals or not.
    failed
        Those that tell of a failure.
    """

    types: frozenset[str] | None = None
    agent: str | None = None
    task: str | None = None
    find: str = ""
    failed: bool = False

    @classmethod
    def read(
        cls,
        kind: str | None,
        agent: str | None,
        task: str | None,
        *,
        find: str | None = None,
        failed: bool = False,
    ) -> Self:
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
        wanted = frozenset(types) if types else None
        return cls(wanted, agent or None, task or None, (find or "").casefold(), failed)

    @property
    def takes_all(self) -> bool:
        """Whether every event is wanted."""
        return self == EventFilter()

    def takes(self, event: Mapping[str, Any], *more: Any) -> bool:
        """Say whether an event is wanted; the text that is looked for may stand in ``more`` as well."""
        return (
            (not self.failed or event["type"] in FAILED)
            and self._concerns(event)
            and (not self.find or has_text((*_said(event), *more), self.find))
        )

    def _concerns(self, event: Mapping[str, Any]) -> bool:
        return (
            (self.types is None or event["type"] in self.types)
            and (self.agent is None or event.get("agent") == self.agent)
            and (self.task is None or self.task in {event.get("task_id"), event.get("task")})
        )


def _said(event: Mapping[str, Any]) -> Iterator[Any]:
    """Give what an event tells of the run, without what it is told apart by."""
    return (value for name, value in event.items() if name not in _MARKS)


def has_text(value: Any, wanted: str) -> bool:
    """Say whether a text stands in a value of JSON, however deep; ``wanted`` is folded to small letters."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            if wanted in each.casefold():
                return True
        elif isinstance(each, Mapping):
            stack.extend(each.values())
        elif isinstance(each, (list, tuple)):
            stack.extend(each)
        elif isinstance(each, (int, float)) and wanted in str(each):
            return True
    return False
