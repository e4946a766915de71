"""Changes to a crew's plain values, as its YAML has them: agents and tasks by name."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.kernel.editor.fields import FIELDS, Kind, fits

Values = dict[str, Any]

_SINGULAR = {"agents": "agent", "tasks": "task"}


def members(values: Values, kind: Kind) -> dict[str, Values]:
    """Give the agents or the tasks by name; one without any field has none."""
    return {name: member or {} for name, member in (values.get(kind) or {}).items()}


def member_of(values: Values, kind: Kind, name: str) -> Values:
    """Give the values in which a member's fields stand; for the crew, all of them."""
    return values if kind == "crew" else members(values, kind).get(name, {})


def value_at(values: Values, path: list[str]) -> Any:
    """Give what stands at a path; None where nothing does."""
    found: Any = values
    for step in path:
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found


def put(values: Values, path: list[str], value: Any) -> Values:
    """Give the values with one changed; None takes it out, and a part that is empty then with it."""
    values = copy.deepcopy(values)
    around = [values]
    for step in path[:-1]:
        inner = around[-1].get(step)
        if not isinstance(inner, dict):
            if value is None:
                return values
            inner = around[-1][step] = {}
        around.append(inner)
    if value is not None:
        keys = before_lists(values, path) if len(path) == 1 else [*values]
        around[-1][path[-1]] = value
        return {key: values[key] for key in keys}
    around[-1].pop(path[-1], None)
    for depth in range(len(path) - 1, 0, -1):
        # An agent without fields is still an agent; its settings without any are none.
        if around[depth] or (path[0] in _SINGULAR and depth <= 2):
            break
        del around[depth - 1][path[depth - 1]]
    return values


def before_lists(known: Iterable[str], new: Iterable[str]) -> list[str]:
    """Give a crew's keys with new ones where one looks for them: before its agents and tasks."""
    keys = list(known)
    place = min((keys.index(kind) for kind in _SINGULAR if kind in keys), default=len(keys))
    return [*keys[:place], *(key for key in new if key not in keys), *keys[place:]]


def add(values: Values, kind: Kind, fields: Values, *, after: str | None, like: str | None = None) -> str:
    """Put a new member behind another, or last; change the values and give its name."""
    known = members(values, kind)
    name = free_name(like or _SINGULAR[kind], known)
    entries = list((values.get(kind) or {}).items())
    place = next((at + 1 for at, (each, _) in enumerate(entries) if each == after), len(entries))
    entries.insert(place, (name, fields))
    values[kind] = dict(entries)
    return name


def free_name(wanted: str, known: dict[str, Any]) -> str:
    """Give the name, numbered where it is taken."""
    stem = wanted.rstrip("0123456789").removesuffix("_") or wanted
    number, name = 1, wanted
    while name in known:
        number += 1
        name = f"{stem}_{number}"
    return name


def remove(values: Values, kind: Kind, name: str) -> None:
    """Take a member out, and what other tasks and the crew say of it."""
    values[kind].pop(name)
    if kind == "agents" and values.get("manager_agent") == name:
        del values["manager_agent"]
    for task in members(values, "tasks").values():
        if kind == "agents":
            if task.get("agent") == name:
                del task["agent"]
        elif isinstance(context := task.get("context"), list) and name in context:
            task["context"] = [entry for entry in context if entry != name]
            if not task["context"]:
                del task["context"]


def move(values: Values, kind: Kind, name: str, by: int) -> bool:
    """Move a member up or down in its list; say whether there was room."""
    entries = list((values.get(kind) or {}).items())
    place = [each for each, _ in entries].index(name)
    if not 0 <= place + by < len(entries):
        return False
    entries.insert(place + by, entries.pop(place))
    values[kind] = dict(entries)
    return True


def follow_rename(values: Values, kind: Kind, old: str, new: str) -> None:
    """Have tasks and the crew call a member by its new name; it has that name already."""
    if kind == "agents" and values.get("manager_agent") == old:
        values["manager_agent"] = new
    for task in members(values, "tasks").values():
        if kind == "agents":
            if task.get("agent") == old:
                task["agent"] = new
        elif isinstance(context := task.get("context"), list) and old in context:
            task["context"] = [new if entry == old else entry for entry in context]


def check_shape(values: Values) -> None:
    """See whether the form can show the values, whether they are right or wrong.

    Raises
    ------
    InvalidRequest
        It cannot: a text stands where a list belongs, say.
    """
    faults = [_misfit("", values, "crew")]
    for kind in ("agents", "tasks"):
        listed = values.get(kind)
        if listed is not None and not isinstance(listed, dict):
            faults.append(Fault(kind, "the form shows them by name, each with its fields below"))
            continue
        for name, member in (listed or {}).items():
            if member is not None and not isinstance(member, dict):
                faults.append(
                    Fault(f"{kind}.{name}", "the form shows its fields, which stand below its name")
                )
            else:
                faults.append(_misfit(f"{kind}.{name}.", member or {}, kind))
    if found := [fault for fault in faults if fault is not None]:
        raise InvalidRequest("The form cannot show this crew", faults=found)


def _misfit(prefix: str, member: Values, kind: Kind) -> Fault | None:
    for spec in FIELDS[kind]:
        path = spec.path(member)
        part = member.get(path[0])
        misplaced = len(path) > 1 and part is not None and not isinstance(part, dict)
        if misplaced or not fits(spec, value_at(member, path)):
            return Fault(f"{prefix}{spec.key}", "the form has no room for a value of this kind")
    return None
