"""Texts in the HTML trace: under their labels, and folded behind their size where they are long."""

from __future__ import annotations

from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import size_text
from kasal_jupyter.kernel.views.html_parts import PRE, RED, SLIM_PRE, SMALL

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
