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

from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import size_text
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
    "waiting_for_input": ORANGE,
    "completed": "#2a8c3f",
    "failed": RED,
    "stopped": GREY,
    "interrupted": RED,
}
STATUS_STYLES: dict[Status, str] = {
    "queued": f"color:{GREY}",
    "running": themed("color", "brand-color1", BLUE),
    "waiting_for_input": f"color:{ORANGE}",
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


# -- texts ----------------------------------------------------------------------------------------------

# Texts in the HTML trace: under their labels, and folded behind their size where they are long.

LONG_TEXT = 700
"""Characters beyond which a text is folded behind its size."""
LONG_LINES = 14
"""Lines beyond which it is."""
HEAD = 420
"""Characters of a folded text that are shown before the fold."""
SAMPLE = 10_000
"""Characters of a text by which the size of the whole is estimated."""
HEAD_LINES = 8
"""Lines of it that are."""


def is_long(text: str) -> bool:
    """Say whether a text is folded rather than shown whole."""
    return len(text) > LONG_TEXT or text.count("\n") >= LONG_LINES


def split_long(text: str) -> tuple[str, str]:
    """Give what of a long text is shown, and what is folded: cut at the end of a line or a word."""
    end = 0
    for _ in range(HEAD_LINES):
        line_end = text.find("\n", end)
        if not 0 <= line_end < HEAD:
            break
        end = line_end + 1
    # A text of many short lines is long, and may be shorter than this.
    if end < HEAD // 2 and len(text) > HEAD:
        end = HEAD
        while end > HEAD // 2 and not text[end - 1].isspace():
            end -= 1
        if end == HEAD // 2:
            end = HEAD
    return text[:end], text[end:]


def remark(text: str) -> str:
    """Give a small line without a text below it."""
    return f'<div style="{SMALL}">{escape(text)}</div>'


def labelled_text(
    label: str, text: str, *, bad: bool = False, most: int | None = None, slim: bool = False
) -> str:
    """Give a text under its label, or the label alone.

    Parameters
    ----------
    label
        What the text is; it may be a foreign text as well: the role of a message is what its sender wrote.
    text
        The text. Of a long one the beginning is shown, and the rest is in a fold that names its size.
    bad
        Whether it tells of an error.
    most
        Characters of it that are kept; all, where not given.
    slim
        Whether its box is drawn in few bytes: there are thousands of them.
    """
    label = remark(one_line(label, 60))
    if not text:
        return label
    edge = f";border-left:3px solid {RED};padding-left:9px" if bad else ""
    box = f'<pre dir="auto" style="{SLIM_PRE if slim else PRE}{edge}">'
    if len(text) <= (LONG_TEXT if most is None else min(most, LONG_TEXT)) and not is_long(text):
        return f"{label}{box}{escape(text)}</pre>"
    head, rest = split_long(text) if most is None or most >= HEAD else (text[:most], text[most:])
    size = bytes_of(rest)
    kept = rest if most is None else rest[: max(most - len(head), 0)]
    shown = f"{label}{box}{escape(head.removesuffix(chr(10)))}</pre>"
    if not kept:
        return f"{shown}{remark(f'… {size_text(size)} more, not kept in this view')}"
    more = f"… {size_text(size)} more"
    cut = len(kept) < len(rest)
    if cut:
        more += f", of which {size_text(bytes_of(kept))} are kept in this view"
    return (
        f'{shown}<details><summary style="cursor:pointer;{SMALL}">{more}</summary>'
        f"{box}{escape(kept)}{' …' if cut else ''}</pre></details>"
    )


def bytes_of(text: str) -> int:
    """Count a text's bytes in UTF-8; a lone surrogate counts as what stands in for it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def drawn_bytes(text: str) -> int:
    """Estimate the bytes that a text takes in a saved notebook as HTML; of a long one by its beginning."""
    # A run's texts may be hundreds of megabytes: a look at each letter would take seconds.
    if len(text) > SAMPLE:
        return drawn_bytes(text[:SAMPLE]) * len(text) // SAMPLE
    return saved_bytes(text) + 4 * sum(map(text.count, "<>&'\""))


def saved_bytes(text: str) -> int:
    """Count the bytes a text takes in a saved notebook: JSON, each line of the text on one of its own."""
    return bytes_of(text) + text.count('"') + text.count("\\") + 14 * text.count("\n")
