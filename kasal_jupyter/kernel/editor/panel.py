"""The place below the toolbar where one thing is asked or told at a time: it never covers the crew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets as widgets

from kasal_jupyter.errors import Fault, KasalError
from kasal_jupyter.kernel.editor.action_order import keep_order
from kasal_jupyter.kernel.editor.controls import row
from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import escape

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
