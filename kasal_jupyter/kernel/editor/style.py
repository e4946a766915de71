"""How the editor looks: quiet, in the notebook's own colours, on one screen's width or on half of one."""

from __future__ import annotations

from html import escape
from importlib.resources import files

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
    return f'<style onload="{escape(script)}">{rules}</style>'
