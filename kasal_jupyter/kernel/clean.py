"""Foreign text made harmless: what a model or a tool says is data wherever it is shown.

Terminals act on escape sequences, and every renderer acts on bidirectional
controls (a text may then read other than it is). Neither survives :func:`clean`.
"""

from __future__ import annotations

import html
import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Whole escape sequences: colours and cursor moves, and strings to the terminal (titles, links, devices)."""

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

_SHOWN_AS: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    **dict.fromkeys(range(128, 160), "�"),
    **{code: f"<U+{code:04X}>" for code in _BIDI},
    0x09: "    ",
    0x0A: "\n",
    0x7F: "\N{SYMBOL FOR DELETE}",
    0x2028: "\n",
    0x2029: "\n",
}

_SUSPECT = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str) -> str:
    r"""Give the text with escape sequences removed and other controls made visible.

    Line ends become ``\n``, tabs four spaces. A lone surrogate, which no message
    can carry, becomes U+FFFD.
    """
    if not _SUSPECT.search(text):
        return text
    text = _ANSI.sub("", text).replace("\r\n", "\n").translate(_SHOWN_AS)
    return text.encode("utf-8", "replace").decode("utf-8") if _SUSPECT.search(text) else text


def one_line(text: str, most: int = 0) -> str:
    """Give the text cleaned, on one line, cut to ``most`` characters where that is given."""
    # Only the head can show: a tool's result may be a megabyte, and is previewed at every redraw.
    head = text[: 4 * most + 64] if most else text
    line = " ".join(clean(head).split())
    return f"{line[: most - 1].rstrip()}…" if most and len(line) > most else line


def escape(text: str) -> str:
    """Give the text cleaned and as HTML, fit for an element or a quoted attribute."""
    return html.escape(clean(text), quote=True)
