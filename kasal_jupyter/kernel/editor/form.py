"""The form: an outline of the crew, and the fields of what is chosen in it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.kernel.crews.plan import faults_by_name
from kasal_jupyter.kernel.editor import fields
from kasal_jupyter.kernel.editor.controls import (
    ChoiceControl,
    FieldControl,
    Fold,
    JsonControl,
    NumberControl,
    SwitchControl,
    TextControl,
    button,
    caption,
    keep_order,
    label_html,
    one_at_a_time,
    row,
)
from kasal_jupyter.kernel.editor.draft import Draft, Values, members
from kasal_jupyter.kernel.editor.fields import SPELLINGS, FieldSpec, Kind
from kasal_jupyter.kernel.editor.pickers import Choices, ListControl, ModelControl
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.readiness import content_faults
from kasal_jupyter.schemas.tasks import Task

NAME = FieldSpec("name", "Name", "line", required=True)
"""What an agent or a task is called by: its key in the YAML."""

WANTED = "to be filled in"
"""What an empty field says that a crew cannot do without."""

_GROUPS: dict[Kind, list[tuple[str, tuple[FieldSpec, ...]]]] = {
    "crew": [
        ("", fields.CREW),
        ("More: manager, plan", fields.CREW_MANAGER),
        ("More: memory, webhook", fields.CREW_MORE),
    ],
    "agents": [
        ("", (NAME, *fields.AGENT)),
        ("More: limits, model settings, delegation", fields.AGENT_MORE),
        ("Sandbox model: how it behaves", fields.AGENT_SANDBOX),
    ],
    "tasks": [
        ("", (NAME, *fields.TASK)),
        ("More: tools, order, result", fields.TASK_MORE),
        ("Guardrail: what the result must be like", fields.TASK_CHECK),
        ("Condition: when it is done at all", fields.TASK_CONDITION),
    ],
}
"""The fields under their titles; those with a title are folded away."""

_WORDS = {"crew": "Crew", "agents": "Agent", "tasks": "Task"}


class MemberForm:
    """The fields of the crew, of an agent, or of a task; one form for all agents, bound to the chosen one.

    Parameters
    ----------
    kind
        Of which of the three.
    changed
        Told of a field's new value.
    """

    def __init__(self, kind: Kind, changed: Callable[[FieldSpec, Any], None]) -> None:
        self.kind = kind
        self.controls: dict[str, FieldControl] = {}
        self.folds: list[Fold] = []
        parts: list[Any] = []
        self.message = caption()
        self.message.add_class("kasal-message")
        for title, specs in _GROUPS[kind]:
            for spec in specs:
                self.controls[spec.key] = _control(kind, spec, changed)
                self.controls[spec.key].control.tooltip = fields.about(kind, spec.key) or None
            grid = widgets.VBox([part for spec in specs for part in self.controls[spec.key].parts])
            grid.add_class("kasal-fields")
            if title:
                self.folds.append(Fold(title, grid))
                grid = self.folds[-1].box
            parts.append(grid)
        self.box = widgets.VBox([self.message, *parts])
        self.box.add_class("kasal-member")

    def show(self, draft: Draft, name: str, faults: Remarks, notes: Remarks, choices: Choices) -> None:
        """Show a member of the crew with what is said of its fields."""
        for key, control in self.controls.items():
            if control.spec is NAME:
                value: Any = name
            else:
                value = draft.value(self.kind, name, control.spec)
            note = notes.at(self.kind, name, key)
            self._offer(control, draft, name, choices)
            if control.spec.control == "tools" and not note:
                note = "; ".join(filter(None, map(choices.tool_note, map(str, value or []))))
            if control.spec.control == "models" and not note:
                names = [str(each) for each in value or []]
                told = [(each, choices.model_note(each)) for each in names]
                note = "; ".join(f"{each}: {reason}" for each, reason in told if reason)
            control.show(value, faults.at(self.kind, name, key), note)
            if control.spec.required:
                control.control.placeholder = WANTED if not value else control.spec.hint
            control.freeze(draft.frozen)
        self.message.value = label_html(
            "",
            faults.elsewhere(self.kind, name, self.controls),
            notes.elsewhere(self.kind, name, self.controls),
        )

    def refuse_name(self, name: str, reason: str) -> None:
        """Show the name that was typed and cannot be used, and why."""
        self.controls["name"].show(name, reason)

    def _offer(self, control: FieldControl, draft: Draft, name: str, choices: Choices) -> None:
        agents = members(draft.values, "agents")
        if isinstance(control, ListControl) and control.spec.control == "tools":
            control.offer(choices.tool_rows())
        elif isinstance(control, ListControl) and control.spec.control == "models":
            control.offer(choices.model_rows())
        elif isinstance(control, ListControl):
            tasks = list(members(draft.values, "tasks"))
            earlier = tasks[: tasks.index(name)] if name in tasks else []
            control.offer(
                [(f"{place} · {one_line(task, 60)}", task) for place, task in enumerate(earlier, 1)],
                lambda entry: f"← {entry}" if entry in tasks else f"“{entry}”",
            )
        elif isinstance(control, ChoiceControl) and control.spec.control in {"agent", "manager"}:
            control.offer(tuple(agents))


class Form:
    """The outline, and the three forms of which one is seen.

    Parameters
    ----------
    draft
        The crew.
    changed
        Called after a change that the form has made.
    """

    def __init__(self, draft: Draft, changed: Callable[[], None]) -> None:
        self.draft = draft
        self.place: tuple[Kind, str] = ("crew", "")
        self.choices = Choices()
        self._changed = changed
        self._listing = False
        self._begun: set[tuple[Kind, str, str]] = set()
        self.forms: dict[Kind, MemberForm] = {
            "crew": MemberForm("crew", self._set),
            "agents": MemberForm("agents", self._set),
            "tasks": MemberForm("tasks", self._set),
        }
        self.outline = widgets.Select(rows=10, description="Crew, agents, tasks")
        self.outline.add_class("kasal-field")
        self.outline.observe(one_at_a_time(self._chosen), "index")
        self._buttons = {
            "agent": button("+ Agent", lambda: self._add("agents"), about="Add an agent"),
            "task": button("+ Task", lambda: self._add("tasks"), about="Add a task behind the chosen one"),
            "copy": button("Duplicate", self._duplicate, about="Add a copy of the chosen agent or task"),
            "up": button("↑ Up", lambda: self._move(-1), about="Move the chosen agent or task up"),
            "down": button("↓ Down", lambda: self._move(1), about="Move the chosen agent or task down"),
            "remove": button("Remove", self._remove, style="danger", about="Remove the chosen agent or task"),
        }
        outline = widgets.VBox([self.outline, row(*self._buttons.values())])
        outline.add_class("kasal-outline")
        self._member = widgets.VBox([self.forms["crew"].box])
        self._member.add_class("kasal-member")
        self.box = row(outline, self._member, kind="kasal-columns")
        for form in self.forms.values():
            keep_order(form.box)

    def split(self, faults: Iterable[Fault]) -> tuple[list[Fault], list[Fault]]:
        """Tell what is wrong from what was only begun: fields of a new agent or task that nobody came to yet.

        Returns
        -------
        tuple of list
            What is wrong, and what is still to be filled in.
        """
        wrong: list[Fault] = []
        begun: list[Fault] = []
        for fault in faults:
            (begun if place_of(fault.field, self.draft.values) in self._begun else wrong).append(fault)
        return wrong, begun

    def insist(self) -> None:
        """Take what is not filled in for a fault from now on: the crew is to be saved or run."""
        self._begun.clear()

    def offer(self, choices: Choices) -> None:
        """Set what can be chosen."""
        self.choices = choices
        for form in self.forms.values():
            for control in form.controls.values():
                if isinstance(control, ModelControl):
                    control.offer(choices)

    def go(self, place: tuple[Kind, str] | None) -> None:
        """Choose a place in the outline; where it is not there, the crew. None stays."""
        kind, name = place or self.place
        there = kind == "crew" or name in members(self.draft.values, kind)
        self.place = (kind, name) if there else ("crew", "")

    def refresh(self, faults: Remarks, notes: Remarks) -> None:
        """Show the draft, with what is wrong with it."""
        self.go(self.place)
        places = self._list(faults, notes)
        kind, name = self.place
        self.forms[kind].show(self.draft, name, faults, notes, self.choices)
        if self._member.children[0] is not self.forms[kind].box:
            self._member.children = [self.forms[kind].box]
        movable = kind != "crew" and not self.draft.frozen
        at = places.index(self.place)
        for key in ("copy", "remove"):
            self._buttons[key].disabled = not movable
        self._buttons["up"].disabled = not movable or places[at - 1][0] != kind
        last = at + 1 >= len(places) or places[at + 1][0] != kind
        self._buttons["down"].disabled = not movable or last
        for key in ("agent", "task"):
            self._buttons[key].disabled = self.draft.frozen

    def _list(self, faults: Remarks, notes: Remarks) -> list[tuple[Kind, str]]:
        values = self.draft.values
        places: list[tuple[Kind, str]] = [("crew", "")]
        places += [("agents", name) for name in members(values, "agents")]
        places += [("tasks", name) for name in members(values, "tasks")]
        lines = []
        numbers = {"agents": 0, "tasks": 0, "crew": 0}
        for kind, name in places:
            numbers[kind] += 1
            number = f" {numbers[kind]}" if kind == "tasks" else ""
            title = str(values.get("name") or "no name") if kind == "crew" else name
            begun = " …" if any((each, of) == (kind, name) for each, of, _ in self._begun) else ""
            mark = " ✖" if faults.any_of(kind, name) else " ⚠" if notes.any_of(kind, name) else begun
            lines.append(f"{_WORDS[kind]}{number} · {one_line(title, 40)}{mark}")
        self._listing = True
        try:
            if list(self.outline.options) != lines:
                self.outline.options = lines
            self.outline.index = places.index(self.place)
        finally:
            self._listing = False
        return places

    def _places(self) -> list[tuple[Kind, str]]:
        values = self.draft.values
        return [
            ("crew", ""),
            *(("agents", name) for name in members(values, "agents")),
            *(("tasks", name) for name in members(values, "tasks")),
        ]

    def _chosen(self, change: Any) -> None:
        if self._listing or change["new"] is None:
            return
        self.place = self._places()[change["new"]]
        self._changed()

    def _set(self, spec: FieldSpec, value: Any) -> None:
        kind, name = self.place
        self._begun.discard((kind, name, spec.key))
        if spec is not NAME:
            self.draft.set_value(kind, name, spec, value)
            self._changed()
            return
        try:
            self.draft.rename(kind, name, str(value))
        except InvalidRequest as error:
            self.forms[kind].refuse_name(str(value), error.faults[0].reason)
            return
        new = str(value).strip()
        self._begun = {
            (each, new if (each, of) == (kind, name) else of, key) for each, of, key in self._begun
        }
        self.place = (kind, new)
        self._changed()

    def _add(self, kind: Kind) -> None:
        after = self.place[1] if self.place[0] == kind else None
        self.place = (kind, self.draft.add(kind, after=after))
        self._begun |= {(*self.place, spec.key) for spec in fields.FIELDS[kind] if spec.required}
        self._changed()

    def _duplicate(self) -> None:
        kind, name = self.place
        self.place = (kind, self.draft.duplicate(kind, name))
        self._begun |= {(*self.place, key) for each, of, key in self._begun if (each, of) == (kind, name)}
        self._changed()

    def _move(self, by: int) -> None:
        kind, name = self.place
        self.draft.move(kind, name, by)
        self._changed()

    def _remove(self) -> None:
        kind, name = self.place
        names = list(members(self.draft.values, kind))
        self.draft.remove(kind, name)
        left = [each for each in names if each != name]
        self.place = (kind, left[min(names.index(name), len(left) - 1)]) if left else ("crew", "")
        self._changed()


def _control(kind: Kind, spec: FieldSpec, changed: Callable[[FieldSpec, Any], None]) -> FieldControl:
    match spec.control:
        case "text" | "lines":
            return TextControl(spec, changed)
        case "json":
            return JsonControl(spec, changed)
        case "number":
            return NumberControl(spec, changed)
        case "switch":
            return SwitchControl(spec, changed)
        case "choice":
            return ChoiceControl(spec, changed)
        case "agent":
            return ChoiceControl(spec, changed, empty="nobody: a manager hands it out")
        case "manager":
            return ChoiceControl(spec, changed, empty="CrewAI's own manager, where it is hierarchical")
        case "model":
            return ModelControl(spec, changed)
        case "models":
            return ListControl(
                spec, changed, prompt="choose a model …", text_label="Or a name", text_hint="openai/…"
            )
        case "tools":
            return ListControl(spec, changed, prompt="choose a tool …")
        case "context":
            return ListControl(
                spec,
                changed,
                prompt="choose an earlier task …",
                text_label="Or a text it is told",
                nothing="no task's result",
            )
    assert spec.control == "line", kind
    return FieldControl(spec, changed)


# -- what is wrong --------------------------------------------------------------------------------------

# What is wrong with a crew, put where it belongs: at its field, at its agent or task, or above all.
#
# A fault keeps the crew from being saved. A note does not: an unfinished crew may be stored, and a model may
# get its key later.

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
