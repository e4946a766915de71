"""What is wrong with a crew, put where it belongs: at its field, at its agent or task, or above all.

A fault keeps the crew from being saved. A note does not: an unfinished crew may be stored, and a model may
get its key later.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kasal_jupyter.errors import Fault
from kasal_jupyter.kernel.crews.plan import faults_by_name
from kasal_jupyter.kernel.editor.edits import Values, members
from kasal_jupyter.kernel.editor.fields import SPELLINGS, Kind
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.readiness import content_faults
from kasal_jupyter.schemas.tasks import Task

_LINE = re.compile(r"^line (\d+): ")
_KEYS = {spelling: key for key, spellings in SPELLINGS.items() for spelling in spellings}


@dataclass(slots=True)
class Remarks:
    """Remarks by the place they are about: the list, the name in it, and the field; all may be empty."""

    _by_place: dict[tuple[Kind, str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, faults: Iterable[Fault], values: Values) -> Remarks:
        """Take in faults of a crew with those values."""
        for fault in faults:
            place = place_of(fault.field, values)
            if (reason := without_line(fault.reason)) not in self._by_place[place]:
                self._by_place[place].append(reason)
        return self

    def at(self, kind: Kind, name: str, key: str) -> str:
        """Give what is said of a field, and of what is inside it, in one line."""
        found = [
            reason
            for (each, of, where), reasons in self._by_place.items()
            if (each, of) == (kind, name) and (where == key or where.startswith(f"{key}."))
            for reason in reasons
        ]
        return "; ".join(found)

    def elsewhere(self, kind: Kind, name: str, keys: Iterable[str]) -> str:
        """Give what is said of a member besides what is said of those fields of it."""
        shown = tuple(keys)
        found = [
            f"{where}: {reason}" if where else reason
            for (each, of, where), reasons in self._by_place.items()
            if (each, of) == (kind, name)
            and not any(where == key or where.startswith(f"{key}.") for key in shown)
            for reason in reasons
        ]
        return "; ".join(found)

    def any_of(self, kind: Kind, name: str) -> bool:
        """Say whether anything is said of a member."""
        return any(
            reasons and (each, of) == (kind, name) for (each, of, _), reasons in self._by_place.items()
        )

    def count(self) -> int:
        """Give how many remarks there are."""
        return sum(map(len, self._by_place.values()))


def place_of(path: str, values: Values) -> tuple[Kind, str, str]:
    """Give the place that a fault's path names; a name in it may contain dots."""
    kinds: tuple[Kind, ...] = ("agents", "tasks")
    for kind in kinds:
        if not path.startswith(f"{kind}."):
            continue
        rest = path.removeprefix(f"{kind}.")
        for name in sorted(members(values, kind), key=len, reverse=True):
            if rest == name or rest.startswith(f"{name}."):
                return kind, name, _key(rest.removeprefix(name).removeprefix("."))
        name, _, key = rest.partition(".")
        return kind, name, _key(key)
    return "crew", "", _key(path)


def without_line(reason: str) -> str:
    """Give a reason without its line: beside a field it is the field's."""
    return _LINE.sub("", reason)


def line_of(reason: str) -> int | None:
    """Give the line that a reason names, counted from 1."""
    found = _LINE.match(reason)
    return int(found[1]) if found else None


def not_ready(crew: CrewCreate) -> list[Fault]:
    """Find what keeps a crew from running that may well be saved: the API's own rules, by field."""
    agents = [
        Agent.model_construct(**agent.model_dump(exclude={"id"}), id=agent.name or "")
        for agent in crew.agents
    ]
    tasks = [
        Task.model_construct(
            **task.model_dump(exclude={"id", "agent"}), id=f"/{place}", agent_id=task.agent, position=place
        )
        for place, task in enumerate(crew.tasks)
    ]
    return list(faults_by_name(content_faults(crew, agents, tasks), crew))


def _key(written: str) -> str:
    head, dot, rest = written.partition(".")
    head = head.partition("[")[0]
    return f"{_KEYS.get(head, head)}{dot}{rest}"
