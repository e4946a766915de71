"""One control for each kind of field: its label with what is wrong beside it, and what it holds.

A message stands in the label's line, which is always there: nothing moves under the mouse while it comes and
goes, and a screen reader reads it with the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.kernel.editor.action_order import in_lane
from kasal_jupyter.kernel.editor.fields import FieldSpec, number_of
from kasal_jupyter.kernel.views.clean import clean, escape

Change = Callable[[FieldSpec, Any], None]
"""What is told of a field's new value."""


class FieldControl:
    """A field of the form.

    Parameters
    ----------
    spec
        The field.
    changed
        Told when its user has changed it: when they leave it, not at every key.
    """

    def __init__(self, spec: FieldSpec, changed: Change) -> None:
        self.spec = spec
        self._changed = changed
        self._showing = False
        self.control: Any = self._build()
        self.control.add_class("kasal-field")
        self.control.observe(in_lane(self._observed), "value")
        self.parts: list[Any] = [self.control]

    def show(self, value: Any, fault: str = "", note: str = "") -> None:
        """Show a value, with what is wrong with it (``fault``), or may be (``note``)."""
        self._showing = True
        try:
            self._put(value)
            # An error's text is another's, as is what stands in the crew.
            self.control.description = label_html(self.spec.label, fault, note)
        finally:
            self._showing = False
        (self.control.add_class if fault else self.control.remove_class)("kasal-bad")

    def freeze(self, frozen: bool) -> None:
        """Let the field be read only, or be changed again."""
        self.control.disabled = frozen

    def _build(self) -> Any:
        return widgets.Text(continuous_update=False, placeholder=self.spec.hint, description_allow_html=True)

    def _put(self, value: Any) -> None:
        self.control.value = "" if value is None else clean_value(value)

    def _read(self, shown: Any) -> Any:
        return shown

    def _observed(self, change: Any) -> None:
        if not self._showing:
            self._changed(self.spec, self._read(change["new"]))


class TextControl(FieldControl):
    """A prompt text, or a list of texts, one a line."""

    def _build(self) -> Any:
        area = widgets.Textarea(
            continuous_update=False, placeholder=self.spec.hint, rows=2, description_allow_html=True
        )
        area.add_class("kasal-wide")
        return area

    def _put(self, value: Any) -> None:
        if self.spec.control == "lines":
            value = "\n".join(map(str, value or []))
        super()._put(value)

    def _read(self, shown: Any) -> Any:
        if self.spec.control == "lines":
            return [line for line in str(shown).split("\n") if line]
        return shown


class JsonControl(TextControl):
    """A JSON value; what is no JSON stays the text that it is, for the API to refuse."""

    def _put(self, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        super()._put("" if value is None else text)

    def _read(self, shown: Any) -> Any:
        if not str(shown).strip():
            return None
        try:
            return json.loads(shown)
        except ValueError:
            return shown


class NumberControl(FieldControl):
    """A number, in a field that takes any text: what is none is refused by the API's models."""

    def _read(self, shown: Any) -> Any:
        return number_of(str(shown))


class SwitchControl(FieldControl):
    """Yes or no."""

    def _build(self) -> Any:
        box = widgets.Checkbox(indent=False, description_allow_html=True)
        box.add_class("kasal-switch")
        return box

    def _put(self, value: Any) -> None:
        self.control.value = bool(value)


class ChoiceControl(FieldControl):
    """One of a few values; one that is none of them is listed too while it is there."""

    def __init__(self, spec: FieldSpec, changed: Change, *, empty: str | None = None) -> None:
        self._empty = empty
        self._known: tuple[str, ...] = spec.choices
        super().__init__(spec, changed)

    def offer(self, known: tuple[str, ...]) -> None:
        """Set what can be chosen."""
        self._known = known

    def _build(self) -> Any:
        return widgets.Dropdown(options=self._options(None), description_allow_html=True)

    def _put(self, value: Any) -> None:
        options = self._options(value)
        if list(self.control.options) != options:
            self.control.options = options
        self.control.value = None if value is None else str(value)

    def _options(self, value: Any) -> list[tuple[str, str | None]]:
        options: list[tuple[str, str | None]] = [(self._empty, None)] if self._empty is not None else []
        options += [(clean(name), name) for name in self._known]
        if value is not None and str(value) not in self._known:
            options.append((f"{clean(str(value))} (not there)", str(value)))
        elif value is None and self._empty is None:
            options.append(("", None))
        return options


def label_html(label: str, fault: str = "", note: str = "") -> str:
    """Give a field's label with its message, which a sign and a word tell from the label."""
    parts = [escape(label)]
    if fault:
        parts.append(f'<span class="kasal-fault">✖ {escape(fault)}</span>')
    if note:
        parts.append(f'<span class="kasal-note">⚠ {escape(note)}</span>')
    return " ".join(parts)


def clean_value(value: Any) -> str:
    """Give a value as a field's text. It stays as it is: what is edited is written back."""
    return value if isinstance(value, str) else str(value)


def caption(html: str = "") -> Any:
    """Give a line of text between controls."""
    line = widgets.HTML(html)
    line.add_class("kasal-caption")
    return line


def button(text: str, pressed: Callable[[], object], *, style: str = "", about: str = "") -> Any:
    """Give a button that says what it does."""
    made = widgets.Button(description=text, tooltip=about or text, button_style=style)
    made.on_click(in_lane(lambda _: pressed()))
    return made


class Fold:
    """Controls that are seen when they are asked for.

    Parameters
    ----------
    title
        What they are about.
    inside
        The box they are in.
    """

    def __init__(self, title: str, inside: Any) -> None:
        self._title = title
        self.inside = inside
        self._button = button("", self._toggled, about=title)
        self.box = widgets.VBox([self._button, inside])
        self.box.add_class("kasal-more")
        self.unfold(seen=False)

    @property
    def unfolded(self) -> bool:
        """Whether they are seen."""
        return bool(self.inside.layout.display != "none")

    def unfold(self, *, seen: bool = True) -> None:
        """Show them, or do not."""
        self.inside.layout.display = None if seen else "none"
        (self.box.add_class if seen else self.box.remove_class)("kasal-open")
        self._button.description = f"{'▾' if seen else '▸'} {self._title}"

    def _toggled(self) -> None:
        self.unfold(seen=not self.unfolded)


def row(*children: Any, kind: str = "kasal-bar") -> Any:
    """Give controls side by side."""
    box = widgets.HBox(children)
    box.add_class(kind)
    return box
