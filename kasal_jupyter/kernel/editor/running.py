"""*Run*: saved first, its inputs asked for, started in the background, and seen below the editor."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.crews.plan import faults_by_name, inputs_of
from kasal_jupyter.kernel.editor.action_order import in_lane
from kasal_jupyter.kernel.editor.changes import changed_lines, diff_html
from kasal_jupyter.kernel.editor.controls import button
from kasal_jupyter.kernel.editor.panel import error_html, faults_html, folded, quiet
from kasal_jupyter.kernel.magics.notebook_values import Notebook, read_inputs
from kasal_jupyter.kernel.views.clean import escape
from kasal_jupyter.kernel.views.rows import STATUS_MARKS

if TYPE_CHECKING:
    from kasal_jupyter.kernel.editor.editor import Editor
    from kasal_jupyter.kernel.runs.result import RunResult
    from kasal_jupyter.kernel.views.live import View

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

    def __init__(self, editor: Editor) -> None:
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
            field.observe(in_lane(partial(self._note, name)), "value")
            field.on_msg(in_lane(self._entered))
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
        return self.editor.below.view_of(result, partial(in_lane(self._ended), result))

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
