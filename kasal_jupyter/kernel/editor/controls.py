"""One control for each kind of field: its label with what is wrong beside it, and what it holds.

A message stands in the label's line, which is always there: nothing moves under the mouse while it comes and
goes, and a screen reader reads it with the field.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec

import ipywidgets as widgets

from kasal_jupyter.errors import Fault, KasalError
from kasal_jupyter.kernel.editor.fields import FieldSpec, number_of
from kasal_jupyter.kernel.views import html_parts as parts
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
        self.control.observe(one_at_a_time(self._observed), "value")
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
    made.on_click(one_at_a_time(lambda _: pressed()))
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


# -- one lane -------------------------------------------------------------------------------------------

# One lane for what is done in the page: in the order it was done, and one after the other.
#
# A JupyterLab sends what its user does in widgets to a thread of the kernel beside the one of the cells.
# Newer ipykernels answer with a thread for each widget: the one that has updated it last. Two widgets then
# have two threads, and a click on *Save* overtakes the text that was typed just before it.

P = ParamSpec("P")

_lock = threading.RLock()


def one_at_a_time(work: Callable[P, object]) -> Callable[P, None]:
    """Give a callback that waits until another has ended: two pages may show the same editor."""

    def wait_and_work(*args: P.args, **kwargs: P.kwargs) -> None:
        with _lock:
            work(*args, **kwargs)

    return wait_and_work


def keep_order(widget: Any) -> None:
    """Have what is done in a widget, and in those inside it, go where the page sends it: to one thread.

    The attribute is what an ipykernel asks for the thread; one that does not ask has but one anyway.
    """
    for each in _walk(widget):
        if each.comm is not None:
            each.comm._reply_subshell_for = _as_sent  # noqa: SLF001 - it has no public name


def _as_sent(data: Any, sent_to: str | None) -> str | None:
    del data
    return sent_to


def _walk(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child)


# -- the panel ------------------------------------------------------------------------------------------

# The place below the toolbar where one thing is asked or told at a time: it never covers the crew.

_CODE = "font-family:var(--jp-code-font-family,monospace);font-size:12px"


class Panel:
    """The panel; empty and unseen until something is shown in it."""

    def __init__(self) -> None:
        self._told = widgets.HTML()
        self._told.add_class("kasal-told")
        self.box = widgets.VBox([], layout={"display": "none"})
        self.box.add_class("kasal-panel")
        self.subject = ""
        """What it is about at the moment: ``save``, ``run`` …; nothing while it is closed."""

    def show(
        self, subject: str, title: str, *content: Any, buttons: Sequence[Any] = (), alarm: bool = False
    ) -> None:
        """Show something, in place of what was there.

        Parameters
        ----------
        subject
            What it is about.
        title
            A sentence, as HTML.
        content
            HTML texts and controls.
        buttons
            What can be answered.
        alarm
            Whether something went wrong.
        """
        self.subject = subject
        self._told.value = (
            f'<div role="{"alert" if alarm else "status"}" style="font-weight:600">{title}</div>'
        )
        shown = [widgets.HTML(each) if isinstance(each, str) else each for each in content]
        (self.box.add_class if alarm else self.box.remove_class)("kasal-alarm")
        self.box.children = [self._told, *shown, *([row(*buttons)] if buttons else [])]
        keep_order(self.box)
        self.box.layout.display = "flex"

    def close(self, subject: str | None = None) -> None:
        """Empty it; with a subject, only where it is about that."""
        if subject is None or subject == self.subject:
            self.subject = ""
            self.box.children = []
            self.box.layout.display = "none"


def faults_html(faults: Iterable[Fault]) -> str:
    """Give faults as a list, each with its field and its line."""
    items = "".join(
        f'<li style="margin:1px 0"><span style="{_CODE}">{escape(fault.field)}</span> — '
        f"{escape(fault.reason)}</li>"
        for fault in faults
    )
    return f'<ul style="margin:2px 0;padding-left:20px">{items}</ul>' if items else ""


def error_html(error: KasalError) -> str:
    """Give an error's message, and its faults where they say more."""
    faults = [fault for fault in error.faults if fault.reason not in error.message or len(error.faults) > 1]
    return f"<div>{escape(error.message)}</div>{faults_html(faults)}"


def quiet(text: str) -> str:
    """Give a sentence that may be passed over."""
    return f'<div style="{parts.MUTED};font-size:12px">{escape(text)}</div>'


def folded(title: str, html: str) -> str:
    """Give something that opens at a click."""
    return f'<details><summary style="cursor:pointer">{escape(title)}</summary>{html}</details>'
