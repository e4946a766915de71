"""Saving: the changes are looked at first, and nobody else's are lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.editor.changes import changed_lines, diff_html
from kasal_jupyter.kernel.editor.controls import button
from kasal_jupyter.kernel.editor.panel import error_html, faults_html, quiet
from kasal_jupyter.kernel.editor.saving import (
    Overtaken,
    Stored,
    check_unchanged,
    ids_of,
    save,
    text_of,
)
from kasal_jupyter.kernel.views.clean import escape
from kasal_jupyter.kernel.views.figures import counted, moment_text
from kasal_jupyter.schemas.crews import CrewDetails

if TYPE_CHECKING:
    from kasal_jupyter.kernel.editor.editor import Editor

Then = Callable[[], object]
"""What comes after saving."""


class Review:
    """The way from a draft to the stored crew.

    Parameters
    ----------
    editor
        Whose draft it is.
    """

    def __init__(self, editor: Editor) -> None:
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


def to_fill_in(editor: Editor) -> str:
    """Say how much of what was begun is still to be filled in."""
    return f"{counted(len(editor.begun), 'field')} to fill in"


def state_html(editor: Editor) -> str:
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
