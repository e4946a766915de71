"""What is different between two texts, as lines in colour."""

from __future__ import annotations

from difflib import unified_diff

from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import escape

_BOX = (
    "margin:4px 0;padding:6px 0;border:1px solid rgba(127,127,127,0.25);border-radius:4px;overflow:auto;"
    "max-height:340px;font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.5"
)
_LINE = "white-space:pre-wrap;overflow-wrap:anywhere;padding:0 10px"
_COLOURS = {"+": "background:rgba(42,140,63,0.16)", "-": "background:rgba(220,58,58,0.14)"}


def changed_lines(before: str, after: str) -> tuple[int, int]:
    """Give how many lines were added and how many taken out."""
    lines = list(unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff_html(before: str, after: str, *, what: str) -> str:
    """Draw what changes from one text to another, with three lines around it.

    Each changed line begins with its sign: the colour is not needed to read it.

    Parameters
    ----------
    before, after
        The texts.
    what
        What the box is, for who cannot see it.
    """
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    if not lines:
        return f'<div style="{parts.MUTED}">Nothing is different.</div>'
    rows: list[str] = []
    for line in lines:
        sign = line[:1]
        if line.startswith("@@"):
            rows.append(f'<div style="{_LINE};{parts.MUTED}">{"⋯" if rows else ""}</div>' if rows else "")
            continue
        style = f"{_LINE};{_COLOURS.get(sign, '')}"
        rows.append(f'<div style="{style}">{escape(f"{sign} {line[1:]}")}</div>')
    return f'<div role="group" tabindex="0" aria-label="{escape(what)}" style="{_BOX}">{"".join(rows)}</div>'
