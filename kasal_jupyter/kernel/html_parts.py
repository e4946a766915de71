"""The styles and small pieces that the HTML trace is put together from.

The constraints come from where notebooks are shown. JupyterLab's sanitiser, for a
notebook that is not trusted, keeps ``details``, ``summary``, ``div``, ``span``,
``pre`` and of ``style`` only plain values: it drops ``var()``, ``flex``, ``grid``
areas, gaps, ``aria-*`` and ``role``. So colours are inherited or translucent, or
are middle tones that can be read on a light and on a dark ground; and columns are
absolute percentages of rows that all have the full width, whatever their depth.
GitHub drops ``style`` altogether: the texts then follow each other, and the
separators that style hides make them a sentence.
"""

from __future__ import annotations

from kasal_jupyter.kernel.clean import escape, one_line
from kasal_jupyter.kernel.figures import counted, duration_text

BLUE, GREEN, ORANGE, RED, GREY = "#4a6cf7", "#14b37d", "#f58220", "#dc3a3a", "#8a8f98"
BAR_COLOURS = {"task": BLUE, "agent": "#8d6cf0", "llm": GREEN, "tool": ORANGE}
STATUS_COLOURS = {
    "queued": GREY,
    "running": BLUE,
    "completed": "#2a8c3f",
    "failed": RED,
    "stopped": GREY,
    "interrupted": RED,
}

NAME_SHARE, AXIS_LEFT, AXIS_WIDTH = 45.0, 46.0, 32.0
"""Percent of a row: its name, where the time axis begins, how wide it is. Time and tokens follow."""

CARD = (
    "border:1px solid rgba(127,127,127,0.3);border-radius:8px;padding:12px 16px;margin:4px 0;"
    "max-width:1080px;font-family:system-ui,sans-serif;font-size:13px;line-height:1.5;overflow:hidden"
)
MUTED = "opacity:0.65"
TRACK = "rgba(127,127,127,0.13)"
PANEL = "rgba(127,127,127,0.09)"
HIDDEN = '<span style="display:none">'
PRE = (
    f"margin:1px 0 5px;padding:5px 9px;background:{PANEL};border:1px solid rgba(127,127,127,0.2);"
    "border-radius:4px;white-space:pre-wrap;overflow-wrap:break-word;font-family:monospace;"
    "font-size:12px;line-height:1.45;color:inherit;max-height:360px;overflow:auto"
)

LONG_TEXT = 600
"""Characters beyond which a text is folded behind its size."""
LONGEST_TEXT = 20_000
"""Characters of one text that a view holds; the whole is in the run's events."""


def separator(text: str = " · ") -> str:
    """Give a text that is read only where styles are dropped."""
    return f"{HIDDEN}{text}</span>"


def is_long(text: str) -> bool:
    """Say whether a text is folded rather than shown."""
    return len(text) > LONG_TEXT or text.count("\n") >= 12


def remark(text: str) -> str:
    """Give a small line without a text below it."""
    return f'<div style="font-size:11px;{MUTED}">{escape(text)}</div>'


def labelled_text(label: str, text: str, *, bad: bool = False) -> str:
    """Give a text under its label, folded behind its size where it is long; or the label alone."""
    # A label may be a foreign text as well: the role of a message is what its sender wrote.
    label = one_line(label, 60)
    if not text:
        return remark(label)
    size = len(text)
    shown = escape(text[:LONGEST_TEXT])
    if size > LONGEST_TEXT:
        shown += f"\n… {counted(size - LONGEST_TEXT, 'more character')} in the run's events"
    edge = f";border-left:3px solid {RED}" if bad else ""
    box = f'<pre style="{PRE}{edge}">{shown}</pre>'
    if not is_long(text):
        return f"{remark(label)}{box}"
    return (
        '<details><summary style="font-size:11px;cursor:pointer">'
        f'<span style="{MUTED}">{escape(label)}, {counted(size, "character")}</span></summary>{box}</details>'
    )


def bar(left: float, width: float, colour: str, *, running: bool = False) -> str:
    """Give a span's bar; ``left`` and ``width`` are shares of the time axis, 0 to 1."""
    left = min(max(left, 0.0), 1.0)
    width = min(max(width, 0.0), 1.0 - left)
    # A bar is never narrower than it can be seen, nor pushed off the axis by that.
    start = AXIS_LEFT + min(left * AXIS_WIDTH, AXIS_WIDTH - 0.5)
    marked = f";border-right:3px dotted {colour};box-sizing:border-box;opacity:0.7" if running else ""
    return (
        f'<span style="position:absolute;top:8px;height:8px;border-radius:4px;min-width:4px;left:{start:.2f}%;'
        f'width:{width * AXIS_WIDTH:.2f}%;background:{colour}{marked}"></span>'
    )


def track() -> str:
    """Give the pale line behind a bar."""
    return (
        f'<span style="position:absolute;top:8px;height:8px;border-radius:4px;left:{AXIS_LEFT:.0f}%;'
        f'width:{AXIS_WIDTH:.0f}%;background:{TRACK}"></span>'
    )


def axis(seconds: float) -> str:
    """Give the head row: the columns' names, and ticks at round times along the axis."""
    return (
        f'<div style="position:relative;height:17px;font-size:11px;margin-top:8px;{MUTED};white-space:nowrap" '
        'aria-hidden="true">'
        f'<span style="position:absolute;left:18px">step</span>{separator()}'
        f"{''.join(_ticks(seconds))}"
        f'<span style="position:absolute;right:11%">time</span>{separator()}'
        '<span style="position:absolute;right:0">tokens</span></div>'
    )


def _ticks(seconds: float) -> list[str]:
    ticks = []
    for at, text in axis_ticks(seconds):
        left = AXIS_LEFT + AXIS_WIDTH * at / seconds
        # The last stands before its point, so that it does not run into the next column.
        place = f"left:{left:.1f}%" if at < seconds else f"right:{100 - left:.1f}%"
        ticks.append(f'<span style="position:absolute;{place}">{text}</span>{separator()}')
    return ticks


def axis_ticks(seconds: float) -> list[tuple[float, str]]:
    """Give round times for an axis of that length, two or three between its ends, with their texts."""
    if seconds <= 0:
        return [(0.0, "0")]
    step = next(size for size in _steps() if seconds / size <= 4)
    ticks = [(0.0, "0")]
    at = step
    # A tick too close to the end would be written over by it.
    while at < seconds * 0.76:
        text = duration_text(at)
        ticks.append((at, text.replace(".0 s", " s")))
        at += step
    ticks.append((seconds, duration_text(seconds)))
    return ticks


def _steps() -> list[float]:
    small = [size * scale for scale in (0.001, 0.01, 0.1, 1) for size in (1, 2, 5)]
    return [*small, 10, 15, 30, 60, 120, 300, 600, 900, 1800, *(3600.0 * 2**power for power in range(24))]
