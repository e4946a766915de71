"""The crew editor: a form and its YAML, two sides of one draft, with what can be done with it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import Fault
from kasal_jupyter.formats.yaml_text import names_in
from kasal_jupyter.kernel.crews.graph import graph_html
from kasal_jupyter.kernel.crews.history import diff_html
from kasal_jupyter.kernel.editor import saving
from kasal_jupyter.kernel.editor.actions import CellOutputs, Review, Running, state_html, to_fill_in
from kasal_jupyter.kernel.editor.controls import (
    Panel,
    button,
    faults_html,
    keep_order,
    one_at_a_time,
    quiet,
    row,
)
from kasal_jupyter.kernel.editor.draft import Draft
from kasal_jupyter.kernel.editor.form import Form, Remarks, not_ready, without_line
from kasal_jupyter.kernel.editor.pickers import Choices
from kasal_jupyter.kernel.editor.saving import Stored
from kasal_jupyter.kernel.magics.command_line import quoted
from kasal_jupyter.kernel.views.clean import clean, escape, one_line
from kasal_jupyter.kernel.views.figures import counted

_CHANGES = 2
"""The place of the tab that shows what differs."""


class Editor:
    """A crew in an editor; a notebook shows it as the last value of a cell.

    Parameters
    ----------
    client
        The server.
    draft
        The crew.
    stored
        What the server has; None for a new crew.
    namespace
        The notebook's variables, for the inputs of a run.
    """

    def __init__(
        self, client: Client, draft: Draft, stored: Stored | None, namespace: Mapping[str, Any]
    ) -> None:
        self.client = client
        self.draft = draft
        self.stored = stored
        self._begun = draft.text
        self.namespace = namespace
        self.choices = Choices.of(client)
        self.panel = Panel()
        self.review = Review(self)
        self.running = Running(self)
        self.outputs = CellOutputs()
        self.form = Form(draft, self.refresh)
        self.form.offer(self.choices)
        self._refreshing = False
        self.wrong: list[Fault] = []
        self.begun: list[Fault] = []
        self._build()
        self.refresh()

    @property
    def differs(self) -> bool:
        """Whether the crew is another than the stored one; comments and layout do not count."""
        if self.stored is None:
            return True
        if self.draft.text == self.stored.text:
            return False
        return self.draft.crew is None or self.draft.crew != self.stored.crew

    @property
    def unsaved(self) -> bool:
        """Whether there is something to save."""
        return self.stored is None or self.differs

    @property
    def has_edits(self) -> bool:
        """Whether something was edited that would be lost."""
        before = self._begun if self.stored is None else self.stored.text
        return self.draft.text != before and self.unsaved

    def not_ready(self) -> list[Fault]:
        """Give what keeps the crew from running that does not keep it from being saved."""
        return not_ready(self.draft.crew) if self.draft.crew is not None else []

    def saved(self, stored: Stored) -> None:
        """Take note of what the server has now."""
        self.stored = stored
        saving.remember(self.client, stored)
        self.choices = Choices.of(self.client)
        self.form.offer(self.choices)
        self.outputs.show_crew(stored.crew)
        self.refresh()

    def take_up(self, before: Editor) -> None:
        """Go on with the edits of another editor of this crew, which were not saved; Undo drops them."""
        self.draft.replace(before.draft.text, before.draft.state.ids)
        self.panel.show(
            "again",
            "Your unsaved edits of this crew are here again",
            quiet("Undo goes back to the crew as it was saved."),
            buttons=[button("Close", self.panel.close)],
        )
        self.refresh()

    def to_cell(self) -> None:
        """Put the crew as a `%%kasal crew` cell below the cell that calls this."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            name = str(self.draft.values.get("name") or "crew")
            shell.set_next_input(cell_text(name, self.draft.text))

    def refresh(self) -> None:
        """Show the draft on every side."""
        draft = self.draft
        self.wrong, self.begun = self.form.split(draft.faults)
        faults = Remarks().add(self.wrong, draft.values)
        notes = Remarks().add(self.not_ready(), draft.values)
        self._refreshing = True
        try:
            self.form.refresh(faults, notes)
            self._text.value = draft.text
        finally:
            self._refreshing = False
        self._state.value = state_html(self)
        self._undo.disabled = not draft.can_undo
        self._redo.disabled = not draft.can_redo
        self._faults.value = self._faults_html()
        self._say(self._faults_said())
        self._frozen.value = self._frozen_html()
        self._draw()

    def _build(self) -> None:
        self._state = widgets.HTML()
        self._state.add_class("kasal-state")
        self._undo = button("↶ Undo", lambda: self._step(back=True))
        self._redo = button("↷ Redo", lambda: self._step(back=False))
        bar = row(
            self._state,
            self._undo,
            self._redo,
            button("Copy as cell", lambda: show_cell(self)),
            button("▶ Run …", self.running.open),
            button("Save …", self.review.open, style="primary", about="Look at the changes and save them"),
        )
        self._frozen = widgets.HTML()
        self._said = widgets.HTML()
        self._said.add_class("kasal-said")
        self._text = widgets.Textarea(
            continuous_update=False, rows=18, description="The crew's YAML", layout={"width": "auto"}
        )
        self._text.add_class("kasal-field")
        self._text.add_class("kasal-yaml")
        self._text.observe(one_at_a_time(self._typed), "value")
        self._faults = widgets.HTML()
        hint = widgets.HTML(
            quiet(
                "The form follows when you leave the text. Comments and layout stay in this editor and in "
                "Copy as cell; the server keeps the crew alone."
            )
        )
        self._diff = widgets.HTML()
        self._pages = [
            widgets.VBox([self._frozen, self.form.box]),
            widgets.VBox([self._faults, self._text, hint]),
            widgets.VBox([self._diff]),
        ]
        for page in self._pages:
            page.add_class("kasal-page")
        # Not ipywidgets' Tab: the keyboard does not reach its tabs.
        self.tabs = widgets.ToggleButtons(options=["Form", "YAML", "Changes"], description="")
        self.tabs.add_class("kasal-tabs")
        self.tabs.observe(one_at_a_time(lambda _: self._draw()), "index")
        self._graph = widgets.HTML()
        self._graph.add_class("kasal-graph")
        self.widget = widgets.VBox(
            [
                widgets.HTML(style_html()),
                bar,
                self._said,
                self.panel.box,
                self.tabs,
                *self._pages,
                self._graph,
            ]
        )
        for name in (ROOT, "tex2jax_ignore", "mathjax_ignore"):
            self.widget.add_class(name)
        keep_order(self.widget)

    def _typed(self, change: Any) -> None:
        if not self._refreshing:
            self.draft.set_text(change["new"])
            self.refresh()

    def _step(self, *, back: bool) -> None:
        self.form.go(self.draft.undo() if back else self.draft.redo())
        self.refresh()

    def _draw(self) -> None:
        if self.draft.good is not None:
            stale = "" if self.draft.crew is not None else quiet("As the crew was when it was last complete:")
            self._graph.value = stale + graph_html(self.draft.good)
        for place, page in enumerate(self._pages):
            page.layout.display = None if place == self.tabs.index else "none"
        if self.tabs.index == _CHANGES:
            before = self.stored.text if self.stored is not None else ""
            self._diff.value = diff_html(before, self.draft.text, what="What differs from the stored crew")

    def _faults_html(self) -> str:
        told = ""
        if self.wrong:
            title = f"✖ {counted(len(self.wrong), 'fault')}"
            told = f'<div><span class="kasal-fault">{title}</span>{faults_html(self.wrong)}</div>'
        return f"{told}{quiet(f'{to_fill_in(self)}.') if self.begun else ''}"

    def _faults_said(self) -> str:
        """Give what a screen reader says when it changes: a fault beside a field is not heard by itself."""
        if not self.wrong:
            return ""
        first = self.wrong[0]
        more = f", and {len(self.wrong) - 1} more" if len(self.wrong) > 1 else ""
        return f"Fault: {first.field}: {without_line(first.reason)}{more}"

    def _say(self, text: str) -> None:
        if (said := escape(text)) != self._said.value:
            self._said.value = said

    def _frozen_html(self) -> str:
        if not self.draft.frozen:
            return ""
        first = self.draft.faults[0]
        return (
            '<div role="alert"><span class="kasal-fault">✖ The YAML cannot be shown as a form</span> — '
            f"{escape(first.field)}: {escape(first.reason)}. The form shows the crew as it was before; "
            "mend the YAML, or undo.</div>"
        )

    def __repr__(self) -> str:
        name = one_line(str(self.draft.values.get("name") or "a crew"), 80)
        return f"The editor of {name}: run the cell to edit it"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        bundle = dict(self.widget._repr_mimebundle_() or {})
        bundle["text/plain"] = clean(repr(self))
        bundle["text/html"] = f'<div style="opacity:.7">{escape(repr(self))}</div>'
        display(bundle, raw=True)  # type: ignore[no-untyped-call]
        self.outputs.display(self.stored.crew if self.stored is not None else None)


# *Copy as cell*: the crew as the cell that would make it.

# The text is read from the page, never written into this.
_COPY = (
    "<button type='button' class='jupyter-button mod-primary' onclick=\"var box=this.closest('.kasal-panel')"
    ".querySelector('textarea'); box.select(); var done=document.execCommand('copy');"
    "if (navigator.clipboard) navigator.clipboard.writeText(box.value).catch(function () {});"
    "this.textContent = done ? '✔ Copied' : 'Press Ctrl+C'\">Copy to the clipboard</button>"
)


def cell_text(name: str, text: str) -> str:
    """Give the cell that makes the crew of that YAML."""
    return f"%%kasal crew {quoted(name)}\n{text if text.endswith(chr(10)) else text + chr(10)}"


def show_cell(editor: Editor) -> None:
    """Show the cell, to be copied.

    A kernel can put a text into the next cell only in answer to a cell that is run, and not to a button:
    `Editor.to_cell` does that.
    """
    area: Any = widgets.Textarea(
        cell_text(str(editor.draft.values.get("name") or "crew"), editor.draft.text),
        description="The cell",
        disabled=False,
    )
    area.add_class("kasal-field")
    area.add_class("kasal-cell")
    taken = names_in(editor.draft.text)
    told = (
        f"A cell takes {{{{{taken[0]}}}}} from the notebook's variables; the crew has it as a text."
        if taken
        else ""
    )
    editor.panel.show(
        "copy",
        "The crew as a cell, comments included",
        area,
        *([quiet(told)] if told else []),
        buttons=[widgets.HTML(_COPY), button("Close", editor.panel.close)],
    )


# -- its looks ------------------------------------------------------------------------------------------

# How the editor looks: quiet, in the notebook's own colours, on one screen's width or on half of one.

ROOT = "kasal-editor"
"""The class of the editor's outermost box; every rule begins with it."""


def style_html() -> str:
    """Give the rules, and what the page does by itself, for an HTML widget in the editor.

    That is: it keeps the editor's keys from the notebook, and tells screen readers of tabs, folds and faults.
    Static output has its styles inline and does nothing; these widgets live only with a kernel.
    """
    here = files(__package__)
    rules = here.joinpath("editor.css").read_text(encoding="utf-8")
    script = here.joinpath("editor.js").read_text(encoding="utf-8")
    return f'<style onload="{html.escape(script)}">{rules}</style>'
