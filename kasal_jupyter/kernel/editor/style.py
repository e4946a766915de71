"""How the editor looks: quiet, in the notebook's own colours, on one screen's width or on half of one."""

from __future__ import annotations

from importlib.resources import files

ROOT = "kasal-editor"
"""The class of the editor's outermost box; every rule begins with it."""


# In command mode a notebook takes the arrow keys of a list for its own, and Enter runs the cell anew. It
# passes over what has this attribute itself. Ctrl+S and the like are still the notebook's.
_KEYS = (
    "var editor = new WeakRef(this.closest('.kasal-editor'));"
    "window.addEventListener('keydown', function (event) {"
    " var box = editor.deref();"
    " if (box && box.contains(event.target)) event.target.toggleAttribute('data-lm-suppress-shortcuts',"
    " event.key === 'Enter' || !(event.ctrlKey || event.metaKey || event.altKey));"
    "}, true)"
)


def style_html() -> str:
    """Give the rules, and what keeps the editor's keys from the notebook, for an HTML widget in the editor.

    Static output has its styles inline and does nothing; these widgets live only with a kernel.
    """
    rules = files(__package__).joinpath("editor.css").read_text(encoding="utf-8")
    return f'<style onload="{_KEYS}">{rules}</style>'
