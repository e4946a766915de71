"""Foreign text made harmless: what a model or a tool says is data wherever it is shown.

Terminals act on escape sequences, every renderer acts on bidirectional controls (a text
may then read other than it is), and what is invisible hides instructions in plain sight
or makes two names look like one. None of these survives :func:`clean`.
"""

from __future__ import annotations

import html
import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\))")
"""Whole escape sequences: colours and cursor moves, and strings to the terminal (titles, links, devices)."""

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

_INVISIBLE = (
    *(0x00AD, 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x200B, 0x3164, 0xFEFF, 0xFFA0),
    *range(0x2060, 0x2065),
    *range(0x206A, 0x2070),
    *range(0xFFF9, 0xFFFC),
    # The tag characters: a whole alphabet that no font shows and every model reads.
    *range(0xE0000, 0xE0080),
)

_JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
"""Zero-width joiners that join nothing: between emoji, and in Persian or Hindi words, they are letters."""

_SHOWN_AS: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    **dict.fromkeys(range(128, 160), "�"),
    **dict.fromkeys(range(0xD800, 0xE000), "�"),
    **{code: f"<U+{code:04X}>" for code in (*_BIDI, *_INVISIBLE)},
    0x09: "    ",
    0x0A: "\n",
    0x7F: "\N{SYMBOL FOR DELETE}",
    0x2028: "\n",
    0x2029: "\n",
}

_SUSPECT = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    r"""Give the text with escape sequences removed, and other controls and the invisible made visible.

    Line ends become ``\n``, tabs four spaces. A lone surrogate, which no message
    can carry, becomes U+FFFD.
    """
    if not _SUSPECT.search(text):
        return text
    text = _ANSI.sub("", text).replace("\r\n", "\n").translate(_SHOWN_AS)
    return _JOINERS.sub(lambda joiner: f"<U+{ord(joiner.group()):04X}>", text)


def one_line(text: str, most: int = 0) -> str:
    """Give the text cleaned, on one line, cut to ``most`` characters where that is given."""
    # Only the head can show: a tool's result may be a megabyte, and is previewed at every redraw.
    head = text[: 4 * most + 64] if most else text
    line = " ".join(clean(head).split())
    return f"{line[: most - 1].rstrip()}…" if most and len(line) > most else line


def escape(text: str) -> str:
    """Give the text cleaned and as HTML, fit for an element or a quoted attribute."""
    return html.escape(clean(text), quote=True)
