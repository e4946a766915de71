"""A crew that is being edited: its YAML, every earlier state of it, and what is wrong with it.

The YAML is the crew. A form's change is made in it, so that both sides are always equal, faults included,
and an undo is an earlier text. Where the YAML is such that no form can show it, the form's side stays as it
was, and is not edited until the YAML can be read again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.formats.yaml_edit import read_plain, rename_key, rewrite
from kasal_jupyter.kernel.editor.fields import EMPTY, FIELDS, FieldSpec, Kind, fits
from kasal_jupyter.schemas.crews import CrewCreate

Ids = Mapping[tuple[Kind, str], str]
"""The stored agents' and tasks' ids by their names here: a renamed agent is still that agent."""

MOST_STATES = 500
"""Earlier states that are kept."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of the draft.

    Attributes
    ----------
    text
        The YAML.
    ids
        See :data:`Ids`.
    place
        The list and the name of what the change that led here was about; None where it was the text.
    """

    text: str
    ids: Ids = field(default_factory=dict)
    place: tuple[Kind, str] | None = None


class Draft:
    """A crew that is being edited.

    Parameters
    ----------
    text
        Its YAML to begin with; the form can show it.
    ids
        The stored agents' and tasks' ids.

    Attributes
    ----------
    values
        What the form shows: the plain values of the latest YAML that it could show.
    crew
        The crew, where it has no faults.
    good
        The latest crew that had none.
    faults
        Every fault, by field (``agents.writer.role``), each with its line; the API's own models found them.
    frozen
        Whether the form is behind the YAML, because it cannot show what that says.
    """

    def __init__(self, text: str, ids: Ids | None = None) -> None:
        self.values: Values = {}
        self.crew: CrewCreate | None = None
        self.good: CrewCreate | None = None
        self.faults: tuple[Fault, ...] = ()
        self.frozen = False
        self._states = [State(text, dict(ids or {}))]
        self._at = 0
        self._read()

    @property
    def state(self) -> State:
        """The state it is in."""
        return self._states[self._at]

    @property
    def text(self) -> str:
        """The YAML."""
        return self.state.text

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier state."""
        return self._at > 0

    @property
    def can_redo(self) -> bool:
        """Whether a state was undone."""
        return self._at + 1 < len(self._states)

    def undo(self) -> tuple[Kind, str] | None:
        """Go back to the state before; give the place that has changed."""
        place = self.state.place
        if self.can_undo:
            self._at -= 1
            self._read()
        return place

    def redo(self) -> tuple[Kind, str] | None:
        """Go to the state that was undone; give the place that has changed."""
        if self.can_redo:
            self._at += 1
            self._read()
        return self.state.place

    def set_text(self, text: str) -> None:
        """Take the YAML as somebody has written it."""
        if text == self.text:
            return
        ids = dict(self.state.ids)
        # Where it cannot be read its names are not known; they may be again in the next text.
        with suppress(InvalidRequest):
            ids |= _renamed(self.values, read_plain(text), ids)
        self._push(text, ids, None)

    def replace(self, text: str, ids: Ids) -> None:
        """Take another crew's YAML, with its ids; it can be undone."""
        self._push(text, ids, None)

    def renew_ids(self, ids: Ids) -> None:
        """Take the ids that the server has given, in every state that has those names."""
        self._states = [State(each.text, {**each.ids, **ids}, each.place) for each in self._states]

    def value(self, kind: Kind, name: str, spec: FieldSpec) -> Any:
        """Give what a field holds; its default where it is not there."""
        member = member_of(self.values, kind, name)
        found = value_at(member, spec.path(member))
        return spec.default if found is None else found

    def set_value(self, kind: Kind, name: str, spec: FieldSpec, value: Any) -> None:
        """Change a field; where it is empty and need not be there, it is taken out."""
        member = member_of(self.values, kind, name)
        path = spec.path(member)
        there = value_at(member, path) is not None
        if value is EMPTY:
            value = []
        elif value in ("", [], None):
            value = "" if spec.required else None
        if not there and value == spec.default:
            return
        prefix = [] if kind == "crew" else [kind, name]
        self._change(lambda values: put(values, [*prefix, *path], value), (kind, name))

    def rename(self, kind: Kind, old: str, new: str) -> None:
        """Give an agent or a task another name; tasks that mention it follow.

        Raises
        ------
        InvalidRequest
            It is no name, or another's.
        """
        new = new.strip()
        if new == old or self.frozen:
            return
        where = f"{kind}.{old}.name"
        if not new:
            raise InvalidRequest("A name is needed", faults=[Fault(where, "a name is needed")])
        if new in members(self.values, kind):
            reason = f"there is another {new!r}; names are unique in a crew"
            raise InvalidRequest(reason, faults=[Fault(where, reason)])
        text = rename_key(self.text, [kind, old], new)
        values = read_plain(text)
        follow_rename(values, kind, old, new)
        ids = {
            (each, new if (each, name) == (kind, old) else name): identity
            for (each, name), identity in self.state.ids.items()
        }
        self._push(rewrite(text, values), ids, (kind, new))

    def add(self, kind: Kind, *, after: str | None = None) -> str:
        """Add an agent or a task, still to be described; give its name."""
        fields: Values
        if kind == "agents":
            models = [agent.get("llm") for agent in members(self.values, "agents").values()]
            fields = {"role": "", "goal": ""}
            if models and isinstance(models[0], str):
                fields["llm"] = models[0]
        else:
            fields = {"description": "", "expected_output": ""}
            if agents := list(members(self.values, "agents")):
                fields["agent"] = agents[-1]
        return self._add(kind, fields, after=after)

    def duplicate(self, kind: Kind, name: str) -> str:
        """Add a copy of an agent or a task right behind it; give its name."""
        fields = copy.deepcopy(member_of(self.values, kind, name))
        return self._add(kind, fields, after=name, like=name)

    def remove(self, kind: Kind, name: str) -> None:
        """Take an agent or a task out, and what tasks say of it."""

        def change(values: Values) -> Values:
            remove(values, kind, name)
            return values

        self._change(change, ("crew", ""))

    def move(self, kind: Kind, name: str, by: int) -> None:
        """Move an agent or a task up (-1) or down (1) in its list."""

        def change(values: Values) -> Values:
            move(values, kind, name, by)
            return values

        self._change(change, (kind, name))

    def _add(self, kind: Kind, fields: Values, *, after: str | None, like: str | None = None) -> str:
        name = ""

        def change(values: Values) -> Values:
            nonlocal name
            name = add(values, kind, fields, after=after, like=like)
            return values

        if self.frozen:
            return after or ""
        values = change(copy.deepcopy(self.values))
        self._push(rewrite(self.text, values), self.state.ids, (kind, name))
        return name

    def _change(self, change: Callable[[Values], Values], place: tuple[Kind, str]) -> None:
        if self.frozen:
            return
        text = rewrite(self.text, change(copy.deepcopy(self.values)))
        if text != self.text:
            self._push(text, self.state.ids, place)

    def _push(self, text: str, ids: Ids, place: tuple[Kind, str] | None) -> None:
        del self._states[self._at + 1 :]
        self._states.append(State(text, ids, place))
        del self._states[:-MOST_STATES]
        self._at = len(self._states) - 1
        self._read()

    def _read(self) -> None:
        shape: tuple[Fault, ...] = ()
        self.crew, self.faults, self.frozen = None, (), False
        try:
            values = read_plain(self.text)
            check_shape(values)
        except InvalidRequest as error:
            self.frozen, shape = True, error.faults
        else:
            self.values = values
        try:
            self.crew = self.good = load_crew(self.text)
        except InvalidRequest as error:
            self.faults = error.faults
        if self.frozen and not self.faults:
            self.faults = shape


def _renamed(before: Values, after: Values, ids: Ids) -> dict[tuple[Kind, str], str]:
    """Find the members that have another name in the same place, with the ids they had."""
    found: dict[tuple[Kind, str], str] = {}
    kinds: tuple[Kind, ...] = ("agents", "tasks")
    for kind in kinds:
        old, new = before.get(kind), after.get(kind)
        if not isinstance(old, dict) or not isinstance(new, dict) or len(old) != len(new):
            continue
        for was, now in zip(old, new, strict=True):
            if was != now and was not in new and now not in old and (kind, was) in ids:
                found[kind, str(now)] = ids[kind, was]
    return found


# -- changes to plain values ----------------------------------------------------------------------------

# Changes to a crew's plain values, as its YAML has them: agents and tasks by name.

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
