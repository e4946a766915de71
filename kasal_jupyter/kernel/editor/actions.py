"""What is done with a crew in the editor: it is saved, looked at first, and it is run.

Nobody else's changes are lost by saving. A run starts in the background, and is seen below the editor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import ipywidgets as widgets

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import Fault, KasalError
from kasal_jupyter.kernel.crews.card import CrewCard
from kasal_jupyter.kernel.crews.history import changed_lines, diff_html
from kasal_jupyter.kernel.crews.plan import faults_by_name, inputs_of
from kasal_jupyter.kernel.editor.controls import (
    Panel,
    button,
    error_html,
    faults_html,
    folded,
    one_at_a_time,
    quiet,
)
from kasal_jupyter.kernel.editor.draft import Draft
from kasal_jupyter.kernel.editor.form import Form
from kasal_jupyter.kernel.editor.saving import Overtaken, Stored, check_unchanged, ids_of, save, text_of
from kasal_jupyter.kernel.magics.notebook_values import Notebook, read_inputs
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, moment_text
from kasal_jupyter.kernel.views.live import LiveView, View
from kasal_jupyter.kernel.views.rows import STATUS_MARKS
from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails

Then = Callable[[], object]
"""What comes after saving."""


class Edited(Protocol):
    """What the actions know of the editor that they belong to."""

    client: Client
    draft: Draft
    stored: Stored | None
    form: Form
    panel: Panel
    outputs: CellOutputs
    review: Review
    namespace: Mapping[str, Any]
    wrong: list[Fault]
    begun: list[Fault]

    @property
    def differs(self) -> bool:
        """Whether the crew is another than the stored one."""

    @property
    def unsaved(self) -> bool:
        """Whether there is something to save."""

    def not_ready(self) -> list[Fault]:
        """Give what keeps the crew from running."""

    def saved(self, stored: Stored) -> None:
        """Take note of what the server has now."""

    def refresh(self) -> None:
        """Show the draft on every side."""


class Review:
    """The way from a draft to the stored crew.

    Parameters
    ----------
    editor
        Whose draft it is.
    """

    def __init__(self, editor: Edited) -> None:
        self.editor = editor

    def open(self) -> None:
        """Show what saving would change, or what stands in its way."""
        editor = self.editor
        if not self.is_sound("saved"):
            return
        if editor.stored is not None and not editor.differs:
            told = "Nothing to save: the server has this crew."
            if editor.draft.text != editor.stored.text:
                told += " Comments and layout stay in this editor; Copy as cell takes them along."
            editor.panel.show("save", told, buttons=[button("Close", editor.panel.close)])
            return
        try:
            if editor.stored is not None:
                check_unchanged(editor.client, editor.stored)
        except Overtaken as error:
            self.overtaken(error)
            return
        except KasalError as error:
            self.failed(error, self.open)
            return
        self._ask()

    def is_sound(self, what: str) -> bool:
        """Say whether the draft has no faults; where it has, show them."""
        editor = self.editor
        if editor.draft.crew is not None:
            return True
        editor.form.insist()
        editor.refresh()
        editor.panel.show(
            "save",
            f"✖ The crew cannot be {what} yet",
            faults_html(editor.draft.faults),
            buttons=[button("Close", editor.panel.close)],
            alarm=True,
        )
        return False

    def save(self, then: Then | None = None) -> bool:
        """Store the draft; say whether that was done. What went wrong is shown, and nothing is lost."""
        editor = self.editor
        try:
            stored = save(editor.client, editor.draft, editor.stored)
        except Overtaken as error:
            self.overtaken(error)
            return False
        except KasalError as error:
            self.failed(error, lambda: self.save(then))
            return False
        editor.saved(stored)
        editor.panel.show(
            "save",
            f"✔ Saved, version {stored.details.version}",
            buttons=[button("Close", editor.panel.close)],
        )
        if then is not None:
            then()
        return True

    def overtaken(self, error: Overtaken) -> None:
        """Show what somebody else has made of the crew, and ask whose is to stay."""
        editor, theirs = self.editor, error.theirs
        assert editor.stored is not None
        if theirs is None:
            editor.panel.show(
                "conflict",
                "✖ The crew was deleted on the server while you were editing it",
                quiet("Your edits are still here."),
                buttons=[
                    button("Save it as a new crew", self._save_anew, style="primary"),
                    button("Keep editing", editor.panel.close),
                ],
                alarm=True,
            )
            return
        their_text = text_of(theirs, editor.stored.text)
        editor.panel.show(
            "conflict",
            "✖ Somebody else has saved this crew while you were editing it",
            quiet(
                f"It is at version {theirs.version} since {moment_text(theirs.updated_at)}; "
                f"you began with version {editor.stored.details.version}."
            ),
            "<div>What they have changed</div>",
            diff_html(editor.stored.text, their_text, what="What they have changed"),
            "<div>What your crew would change of theirs</div>",
            diff_html(their_text, editor.draft.text, what="What your crew would change of theirs"),
            buttons=[
                button(
                    "Take theirs",
                    lambda: self._take(theirs, their_text),
                    about="Go on with their crew; yours comes back with Undo",
                ),
                button("Overwrite with mine", lambda: self._overwrite(theirs, their_text), style="danger"),
                button("Keep editing", editor.panel.close),
            ],
            alarm=True,
        )

    def failed(self, error: KasalError, again: Then) -> None:
        """Show why the server did not do it."""
        self.editor.panel.show(
            "save",
            "✖ Not saved",
            error_html(error),
            quiet("Your edits are still here."),
            buttons=[button("Try again", again), button("Close", self.editor.panel.close)],
            alarm=True,
        )

    def _ask(self) -> None:
        editor = self.editor
        before = editor.stored.text if editor.stored is not None else ""
        added, removed = changed_lines(before, editor.draft.text)
        title = "Save these changes?" if editor.stored is not None else "Save this new crew?"
        notes = editor.not_ready()
        editor.panel.show(
            "save",
            f"{title} {added} line{'' if added == 1 else 's'} added, {removed} taken out",
            diff_html(before, editor.draft.text, what="What saving changes"),
            *(["<div>It can be saved, and not run yet:</div>", faults_html(notes)] if notes else []),
            buttons=[
                button("Save", self.save, style="primary"),
                button("Keep editing", editor.panel.close),
            ],
        )

    def _take(self, theirs: CrewDetails, text: str) -> None:
        editor = self.editor
        editor.stored = Stored(theirs, text)
        editor.draft.replace(text, ids_of(theirs))
        editor.panel.show(
            "save",
            f"Version {theirs.version} is what you edit now; your own crew comes back with Undo",
            buttons=[button("Close", editor.panel.close)],
        )
        editor.refresh()

    def _overwrite(self, theirs: CrewDetails, text: str) -> None:
        # The next one to change it in between is not overwritten unseen either.
        self.editor.stored = Stored(theirs, text)
        self.save()

    def _save_anew(self) -> None:
        self.editor.stored = None
        self.save()


def to_fill_in(editor: Edited) -> str:
    """Say how much of what was begun is still to be filled in."""
    return f"{counted(len(editor.begun), 'field')} to fill in"


def state_html(editor: Edited) -> str:
    """Say in a line which crew it is, whether it is saved, and what is wrong with it."""
    draft = editor.draft
    name = escape(str(draft.values.get("name") or "no name"))
    count = len(editor.wrong)
    if editor.stored is None:
        state = "● new, not saved yet"
    elif editor.differs:
        state = "● unsaved changes"
    elif draft.text != editor.stored.text:
        state = f"✔ saved, version {editor.stored.details.version}; only comments or layout differ"
    else:
        state = f"✔ saved, version {editor.stored.details.version}"
    unsaved = state.startswith("●")
    style = "color:var(--jp-warn-color0,#b45f06);font-weight:600" if unsaved else "opacity:.7"
    parts = [f'<b style="font-size:15px">{name}</b>', f'<span style="{style}">{state}</span>']
    if count:
        parts.append(f'<span class="kasal-fault">✖ {counted(count, "fault")}</span>')
    elif editor.begun:
        parts.append(f'<span style="opacity:.7">{to_fill_in(editor)}</span>')
    elif notes := editor.not_ready():
        parts.append(f'<span class="kasal-note" title="{escape(notes[0].reason)}">⚠ not ready to run</span>')
    return "&emsp;".join(parts)


GOING_ON = "going on"
"""What the panel is about while a run goes on."""

MOST_RECALLED = 2_000
"""Characters of an input of the latest run that is offered again."""


class Running:
    """The way from a draft to a run.

    Parameters
    ----------
    editor
        Whose draft it is.

    Attributes
    ----------
    result
        The latest run that was started here; None before the first.
    """

    def __init__(self, editor: Edited) -> None:
        self.editor = editor
        self.result: Any = None
        self.typed: dict[str, str] = {}
        self._fields: dict[str, Any] = {}

    def open(self) -> None:
        """Ask for the inputs, or show what stands in the way."""
        editor = self.editor
        if not editor.review.is_sound("run"):
            return
        crew = editor.draft.crew
        assert crew is not None
        if notes := editor.not_ready():
            self._refuse("✖ The crew cannot run yet", faults_html(notes))
            return
        self._fields = {}
        self._recall()
        for name in inputs_of(crew):
            field = widgets.Text(
                value=self.typed.get(name, ""), description=name, placeholder="a text, or $variable"
            )
            field.add_class("kasal-field")
            field.add_class("kasal-wide")
            field.observe(one_at_a_time(partial(self._note, name)), "value")
            field.on_msg(one_at_a_time(self._entered))
            self._fields[name] = field
        grid = widgets.VBox(list(self._fields.values()))
        grid.add_class("kasal-fields")
        asked = [
            quiet("What the crew's {placeholders} stand for; $name takes a variable of the notebook."),
            grid,
        ]
        editor.panel.show(
            "run",
            f"Run {escape(crew.name)}",
            *(asked if self._fields else []),
            *self._unsaved(),
            buttons=[
                button("▶ Save and start" if editor.unsaved else "▶ Start", self._start, style="primary"),
                button("Cancel", editor.panel.close),
            ],
        )

    def take_up(self, before: Running) -> None:
        """Go on with what was typed in another editor of this crew."""
        self.typed = dict(before.typed)

    def _recall(self) -> None:
        """Take the inputs of the crew's latest run, where nothing was typed here yet."""
        editor = self.editor
        if self.typed or editor.stored is None:
            return
        # Without them, there is nothing to begin with, and no fault.
        with suppress(KasalError):
            for run in editor.client.executions(1, crew_id=editor.stored.details.id):
                self.typed = {
                    name: f"${text}" if text.startswith("$") else text
                    for name, text in run.inputs.items()
                    if isinstance(text, str) and len(text) <= MOST_RECALLED
                }

    def _note(self, name: str, change: Any) -> None:
        self.typed[name] = change["new"]

    def _entered(self, field: Any, content: Any, buffers: Any) -> None:
        """Start at Enter; what an ipywidgets' text field says of that key has no name but this."""
        del field, buffers
        if content.get("event") == "submit":
            self._start()

    def _unsaved(self) -> list[str]:
        editor = self.editor
        if not editor.unsaved:
            return []
        before = editor.stored.text if editor.stored is not None else ""
        added, removed = changed_lines(before, editor.draft.text)
        return [
            folded(
                f"Your changes are saved first: {added} lines added, {removed} taken out",
                diff_html(before, editor.draft.text, what="What saving changes"),
            )
        ]

    def _start(self) -> None:
        editor = self.editor
        self.typed |= {name: field.value for name, field in self._fields.items()}
        missing = [name for name, field in self._fields.items() if not field.value.strip()]
        if missing:
            for name in missing:
                self._fields[name].placeholder = "a value is needed"
                self._fields[name].add_class("kasal-bad")
            return
        # The draft may have been edited since the panel was opened.
        if not editor.review.is_sound("run"):
            return
        if editor.unsaved:
            editor.review.save(self._launch)
        else:
            self._launch()

    def _launch(self) -> None:
        from kasal_jupyter.kernel.runs.runner import launch

        editor = self.editor
        assert editor.stored is not None
        assert editor.draft.crew is not None
        try:
            values = {
                name: read_value(name, field.value, Notebook(editor.namespace))
                for name, field in self._fields.items()
            }
            details = editor.client.crew(editor.stored.details.id)
            self.result = launch(editor.client, details, values, background=True, view=self._view_of)
        except KasalError as error:
            error.faults = faults_by_name(error.faults, editor.draft.crew)
            self._refuse("✖ Not started", error_html(error))
            return
        editor.panel.show(
            GOING_ON,
            f"▶ {escape(self.result.job_id)} runs; its trace is below the editor",
            buttons=[
                button("■ Stop", self._stop, style="danger"),
                button("Close", editor.panel.close),
            ],
        )

    def _view_of(self, result: RunResult) -> View:
        return self.editor.outputs.view_of(result, partial(one_at_a_time(self._ended), result))

    def _ended(self, result: RunResult) -> None:
        """Say how the run has ended, where the panel still says that it goes on."""
        if result is not self.result or self.editor.panel.subject != GOING_ON:
            return
        failed = result.status != "completed"
        said = f"{STATUS_MARKS[result.status]} {result.job_id} {result.status}; its trace is below the editor"
        close = button("Close", self.editor.panel.close)
        self.editor.panel.show("run", escape(said), buttons=[close], alarm=failed)

    def _stop(self) -> None:
        try:
            said = self.editor.client.stop(self.result.job_id).status
        except KasalError as error:
            self._refuse("✖ Not stopped", error_html(error))
            return
        self.editor.panel.show(
            "run",
            f"{escape(self.result.job_id)}: {escape(said)}",
            buttons=[button("Close", self.editor.panel.close)],
        )

    def _refuse(self, title: str, html: str) -> None:
        close = button("Close", self.editor.panel.close)
        self.editor.panel.show("run", title, html, buttons=[close], alarm=True)


def read_value(name: str, text: str, notebook: Notebook) -> Any:
    """Give what an input's field says: its text, ``$name`` a variable's value, ``$$`` a dollar.

    Raises
    ------
    CellError
        There is no such variable.
    """
    if not text.startswith("$"):
        return text
    return read_inputs([f"{name}={text}"], notebook).values[name]


# -- below the editor -----------------------------------------------------------------------------------

# What stands below the editor: the crew and its latest run, as HTML that is there without a kernel too.


class CellOutputs:
    """Two outputs of the cell that shows the editor: the crew as it was saved last, and its latest run."""

    def __init__(self) -> None:
        self._crew: Any = None
        self._run: Any = None

    def display(self, crew: CrewCreate | None) -> None:
        """Put both below what the cell has shown so far."""
        from IPython.display import display

        self._crew = display(_crew_bundle(crew), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        self._run = display(_NOTHING, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def show_crew(self, crew: CrewCreate | None) -> None:
        """Show the crew that was saved."""
        if self._crew is not None:
            self._crew.update(_crew_bundle(crew), raw=True)

    def view_of(self, result: RunResult, on_end: Callable[[], object]) -> View:
        """Give the view of a run, in its place below; it tells of the end."""
        return LiveView(result, self._run, on_end)


_NOTHING = {"text/plain": "", "text/html": ""}


def _crew_bundle(crew: CrewCreate | None) -> dict[str, str]:
    if crew is None:
        return _NOTHING
    card = CrewCard(crew)
    name = escape(one_line(crew.name, 80))
    return {
        "text/html": (
            "<details><summary style='cursor:pointer;opacity:.7;font-size:12px'>"
            f"{name} as it is saved: its card, which a saved notebook keeps</summary>"
            f"{card._repr_html_()}</details>"
        ),
        "text/plain": repr(card),
    }
