"""Controls that offer what there is: a model with its price, tools by their category, earlier tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.kernel.editor.controls import (
    Change,
    FieldControl,
    button,
    keep_order,
    label_html,
    one_at_a_time,
    row,
)
from kasal_jupyter.kernel.editor.fields import EMPTY, FieldSpec
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.schemas.models import ModelInfo
from kasal_jupyter.schemas.tools import ClientTool, ToolInfo

MOST_SUGGESTED = 500
"""Models that are offered while a name is typed."""

_NOTHING = "\0"
"""The entry of an empty list; no name."""


class ModelControl(FieldControl):
    """A model: any name may be typed; those that the server knows are offered with key and price."""

    def __init__(self, spec: FieldSpec, changed: Change) -> None:
        super().__init__(spec, changed)
        self._choices = Choices()
        self._facts = widgets.HTML()
        self._facts.add_class("kasal-quiet")
        self._list = widgets.Select(rows=7, layout={"display": "none"}, description="All models")
        self._list.add_class("kasal-field")
        self._list.observe(one_at_a_time(self._picked), "value")
        self._toggle = button(
            "All models …", self._toggled, about="List the server's models with their prices"
        )
        picker = widgets.VBox([row(self.control, self._toggle, kind="kasal-picker-row"), self._facts])
        picker.add_class("kasal-picker")
        # A line of its own: a model's name is long, and the button stands beside it.
        picker.add_class("kasal-wide")
        self._list.add_class("kasal-wide")
        self.parts = [picker, self._list]

    def offer(self, choices: Choices) -> None:
        """Set what the server knows."""
        self._choices = choices
        self.control.options = [model.name for model in choices.models[:MOST_SUGGESTED]]
        if self._open:
            self._fill()

    def show(self, value: Any, fault: str = "", note: str = "") -> None:
        """Show a model's name, and what is known of it."""
        name = str(value or "")
        super().show(value, fault, note or self._choices.model_note(name))
        self._facts.value = self._about(name)
        self._showing = True
        try:
            self._select(name)
        finally:
            self._showing = False

    def freeze(self, frozen: bool) -> None:
        """Let the field be read only, or be changed again."""
        super().freeze(frozen)
        self._list.disabled = frozen

    def _build(self) -> Any:
        return widgets.Combobox(
            continuous_update=False,
            placeholder=self.spec.hint,
            ensure_option=False,
            description_allow_html=True,
        )

    @property
    def _open(self) -> bool:
        return bool(self._list.layout.display != "none")

    def _about(self, name: str) -> str:
        if not name:
            model = self._choices.default_model()
            return f"{escape(model.name)}: {escape(model_facts(model))}" if model else ""
        if model := self._choices.model(name):
            return escape(model_facts(model))
        if self._choices.models:
            return "not in the server's list: whether it has a key and what it costs are unknown"
        return escape(one_line(self._choices.trouble, 160)) or "the server lists no models"

    def _toggled(self) -> None:
        if self._open:
            self._list.layout.display = "none"
        else:
            self._fill()
            self._list.layout.display = "flex"
        self._toggle.description = "Close the list" if self._open else "All models …"

    def _fill(self) -> None:
        self._showing = True
        try:
            self._list.options = self._choices.model_rows()
            self._select(str(self.control.value or ""))
        finally:
            self._showing = False

    def _select(self, name: str) -> None:
        names = [value for _, value in self._list.options]
        self._list.index = names.index(name) if name in names else None

    def _picked(self, change: Any) -> None:
        if not self._showing and change["new"] is not None:
            self._changed(self.spec, change["new"])


class ListControl(FieldControl):
    """A list of names: those that are in it, each to be taken out again, and those that may be added.

    Parameters
    ----------
    spec, changed
        As of every field.
    prompt
        What the list of those that may be added says first.
    text_label
        The label of a field for free texts; without one there is none.
    text_hint
        What may be written there.
    nothing
        What to say of a list that is empty and stands there, where that is not the same as none.
    """

    def __init__(
        self,
        spec: FieldSpec,
        changed: Change,
        *,
        prompt: str,
        text_label: str = "",
        text_hint: str = "several words",
        nothing: str = "",
    ) -> None:
        self._prompt = prompt
        self._nothing = nothing
        self._rows: list[tuple[str, str]] = []
        self._items: list[str] = []
        self._name: Callable[[str], str] = str
        super().__init__(spec, changed)
        self._add = button("Add", self._added, about=f"Add what is chosen to {spec.label}")
        self._chips = row(kind="kasal-chips")
        lines = [row(self.control, self._add, kind="kasal-picker-row"), self._chips]
        self._text: Any = None
        if text_label:
            self._text = widgets.Text(description=text_label, continuous_update=False, placeholder=text_hint)
            self._text.add_class("kasal-field")
            self._add_text = button("Add text", self._text_added, about="Add the text as it is")
            lines.append(row(self._text, self._add_text, kind="kasal-picker-row"))
        picker = widgets.VBox(lines)
        picker.add_class("kasal-picker")
        picker.add_class("kasal-wide")
        self.parts = [picker]

    def offer(self, rows: Sequence[tuple[str, str]], name: Callable[[str], str] = str) -> None:
        """Set what may be added, each with its line for the list, and how an entry is shown."""
        self._rows, self._name = list(rows), name

    def show(self, value: Any, fault: str = "", note: str = "") -> None:
        """Show the entries."""
        items = [_NOTHING] if self._nothing and value == [] else [str(item) for item in value or []]
        free = [(line, name) for line, name in self._rows if name not in items]
        if self._nothing and not items:
            free.append((self._nothing, _NOTHING))
        options = [(self._prompt if free else "nothing more to add", ""), *free]
        self._showing = True
        try:
            if list(self.control.options) != options:
                self.control.options = options
                self.control.value = ""
        finally:
            self._showing = False
        self.control.description = label_html(self.spec.label, fault, note)
        (self.control.add_class if fault else self.control.remove_class)("kasal-bad")
        if items != self._items or len(self._chips.children) != len(items):
            self._items = items
            self._chips.children = [self._chip(place, item) for place, item in enumerate(items)]
            keep_order(self._chips)

    def freeze(self, frozen: bool) -> None:
        """Let the list be read only, or be changed again."""
        for control in (self.control, self._add, self._text, *self._chips.children):
            if control is not None:
                control.disabled = frozen

    def _build(self) -> Any:
        return widgets.Dropdown(options=[(self._prompt, "")], value="", description_allow_html=True)

    def _chip(self, place: int, item: str) -> Any:
        shown = self._nothing if item == _NOTHING else one_line(self._name(item), 80)
        return button(
            f"{shown} ✕", lambda: self._removed(place), about=f"Take {shown} out of {self.spec.label}"
        )

    def _observed(self, change: Any) -> None:
        """Wait for *Add*: with the keyboard, one passes the other entries on the way."""

    def _added(self) -> None:
        if chosen := self.control.value:
            self._changed(self.spec, EMPTY if chosen == _NOTHING else [*self._there(), chosen])

    def _text_added(self) -> None:
        text = self._text.value.strip()
        if text:
            self._changed(self.spec, [*self._there(), text])
            self._text.value = ""

    def _there(self) -> list[str]:
        return [item for item in self._items if item != _NOTHING]

    def _removed(self, place: int) -> None:
        self._changed(self.spec, self._items[:place] + self._items[place + 1 :])


# -- what there is --------------------------------------------------------------------------------------

# What can be chosen: the server's models and tools, and the notebook's functions.

NOTEBOOK = "notebook"
"""The category of the notebook's own functions."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen.

    Attributes
    ----------
    models
        The server's.
    tools
        The server's.
    functions
        The notebook's functions that are tools, by name.
    trouble
        Why the server's are not there, where they are not.
    """

    models: tuple[ModelInfo, ...] = ()
    tools: tuple[ToolInfo, ...] = ()
    functions: Mapping[str, ClientTool] = field(default_factory=dict)
    trouble: str = ""

    @classmethod
    def of(cls, client: Client) -> Choices:
        """Ask the server; where it does not answer, there are the notebook's functions still."""
        try:
            return cls(_models(client), tuple(client.tools()), notebook_functions())
        except KasalError as error:
            return cls(functions=notebook_functions(), trouble=error.message)

    def model(self, name: str) -> ModelInfo | None:
        """Give what is known of a model; None where nothing is."""
        return next((model for model in self.models if model.name == name), None)

    def default_model(self) -> ModelInfo | None:
        """Give the model of agents that name none."""
        return next((model for model in self.models if model.default), None)

    def model_note(self, name: str) -> str:
        """Say why a model cannot run here now; nothing where it can, or where that is not known."""
        model = self.model(name) if name else None
        return (model.reason or "it cannot run now") if model and not model.available else ""

    def model_rows(self) -> list[tuple[str, str]]:
        """Give each model's line for a list, and its name; those that can run first."""
        ranked = sorted(self.models, key=lambda model: (not model.available, model.provider, model.name))
        return [(f"{model.name} · {model_facts(model)}", model.name) for model in ranked]

    def tool_rows(self) -> list[tuple[str, str]]:
        """Give each tool's line for a list, by category, and its name; the notebook's first."""
        rows = [
            (_tool_line(NOTEBOOK, name, tool.description), name)
            for name, tool in sorted(self.functions.items())
        ]
        listed = sorted(self.tools, key=lambda tool: (tool.custom, tool.category, tool.name))
        return rows + [(_tool_line(tool.category, tool.name, tool.description), tool.name) for tool in listed]

    def tool_note(self, name: str) -> str:
        """Say that a tool is not there; nothing where it is, or where that is not known."""
        known = {tool.name for tool in self.tools} | set(self.functions)
        if name in known or self.trouble:
            return ""
        return f"{name!r} is no tool of the server's, nor of this notebook's"


def notebook_functions() -> dict[str, ClientTool]:
    """Give the functions that are tools in this kernel now, by name."""
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    return {name: tool.definition for name, tool in registered().items()}


def model_facts(model: ModelInfo) -> str:
    """Say of a model in one line what one chooses by: provider, key, price."""
    if not model.available:
        return f"{model.provider} · ✖ {one_line(model.reason or 'it cannot run now', 120)}"
    return f"{model.provider} · ✔ ready · {price_text(model)}"


def price_text(model: ModelInfo) -> str:
    """Give a model's price a million tokens."""
    if model.price is None:
        return "price unknown"
    return f"${model.price.input:,.2f} in, ${model.price.output:,.2f} out a million tokens"


def _models(client: Client) -> tuple[ModelInfo, ...]:
    try:
        return tuple(client.models())
    except NotFound:
        # A server of an older version lists none; their names can be typed.
        return ()


def _tool_line(category: str, name: str, description: str) -> str:
    about = one_line(description, 70)
    return f"{category} · {name}{f' · {about}' if about else ''}"
