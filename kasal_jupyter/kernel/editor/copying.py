"""*Copy as cell*: the crew as the cell that would make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from kasal_jupyter.formats.yaml_text import names_in
from kasal_jupyter.kernel.command_line import quoted
from kasal_jupyter.kernel.editor.controls import button
from kasal_jupyter.kernel.editor.panel import quiet

if TYPE_CHECKING:
    from kasal_jupyter.kernel.editor.editor import Editor

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
