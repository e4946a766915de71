"""The styles and small pieces that the HTML trace is put together from.

The constraints come from where notebooks are shown.

JupyterLab's sanitiser, for a notebook that is not trusted, keeps ``details``, ``summary``,
``div``, ``span``, ``pre`` and ``dir``, and drops ``aria-*`` and ``role``. Of ``style`` it drops
each declaration whose value it does not know, ``var()`` and ``inherit`` among them, and keeps the
others. So a property that follows the theme is declared twice, see :func:`themed`: first a value
that can be read on a light and on a dark ground (translucent, a middle tone, or none, which
inherits), then the theme's variable, which wins where it is kept.

Answers have besides what Markdown makes: paragraphs, lists, tables, code, links, which all of them keep.

GitHub drops ``style`` altogether. The texts then follow each other: the words that the styles
hide make each row a sentence, and no-break spaces make the tree. A screen reader hears the same
words, so they are hidden by their size: what is not displayed is not read out.
"""

from __future__ import annotations

from kasal_jupyter.schemas.executions import Status


def themed(name: str, variable: str, fallback: str, *, plain: str | None = None) -> str:
    """Give a property by a theme's variable, after a plain declaration for where that is dropped.

    ``plain`` is that declaration's value, the fallback where not given, and none where it is empty.
    """
    plain = fallback if plain is None else plain
    return f"{f'{name}:{plain};' if plain else ''}{name}:var(--jp-{variable},{fallback})"


BLUE, GREEN, ORANGE, RED, GREY = "#4a6cf7", "#14b37d", "#f58220", "#dc3a3a", "#8a8f98"
BAR_COLOURS = {"task": BLUE, "agent": "#8d6cf0", "llm": GREEN, "tool": ORANGE}

FAILED = themed("color", "error-color1", RED)
STATUS_COLOURS: dict[Status, str] = {
    "queued": GREY,
    "running": BLUE,
    "completed": "#2a8c3f",
    "failed": RED,
    "stopped": GREY,
    "interrupted": RED,
}
STATUS_STYLES: dict[Status, str] = {
    "queued": f"color:{GREY}",
    "running": themed("color", "brand-color1", BLUE),
    "completed": themed("color", "success-color1", "#2a8c3f"),
    "failed": FAILED,
    "stopped": f"color:{GREY}",
    "interrupted": FAILED,
}

CARD = (
    "border:1px solid rgba(127,127,127,0.3);border-radius:8px;padding:12px 16px;margin:4px 0;max-width:1080px;"
    "font-size:13px;line-height:1.5;overflow:hidden;"
    f"{themed('font-family', 'content-font-family', 'system-ui,sans-serif')};"
    f"{themed('color', 'content-font-color1', 'inherit', plain='')};"
    f"{themed('background', 'layout-color0', 'transparent', plain='')}"
)
NO_FORMULAS = 'class="tex2jax_ignore mathjax_ignore"'
"""Has MathJax pass an element over: LaTeX's signs in what a model says are no mathematics."""

MUTED = "opacity:0.68"
SMALL = f"font-size:11px;{MUTED}"
TRACK = "rgba(127,127,127,0.13)"
PANEL = "rgba(127,127,127,0.09)"
PRE = (
    f"margin:1px 0 5px;padding:5px 9px;background:{PANEL};border:1px solid rgba(127,127,127,0.2);"
    "border-radius:4px;white-space:pre-wrap;overflow-wrap:break-word;font-family:monospace;"
    "font-size:12px;line-height:1.45;max-height:420px;overflow:auto;"
    f"{themed('font-family', 'code-font-family', 'monospace')};color:inherit"
)

SLIM_PRE = "margin:0 0 4px;white-space:pre-wrap;overflow-wrap:break-word;font-size:12px;max-height:420px;overflow:auto"


def hidden(text: str) -> str:
    """Give a text that is heard, and read where styles are dropped, but not seen."""
    return f'<span style="font-size:0">{text}</span>'


def separator(text: str = " · ") -> str:
    """Give what stands between two texts that styles set apart."""
    return hidden(text)
