"""A row of the HTML trace: sign, name, note, bar on the time axis, time, tokens, cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kasal_jupyter.events.trace import Span, SpanState, Trace
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, duration_text, span_cost_text
from kasal_jupyter.kernel.views.html_parts import (
    BAR_COLOURS,
    FAILED,
    GREY,
    MUTED,
    RED,
    SLIM_PRE,
    SMALL,
    TRACK,
    hidden,
    saved_bytes,
    separator,
)
from kasal_jupyter.kernel.views.rows import DEEPEST, KIND_WORDS, MARKS, STATE_MARKS, Row, run_start, step_note

NAME_SHARE, AXIS_LEFT, AXIS_WIDTH = 45.0, 46.0, 32.0
"""Percent of a row: its name, where the time axis begins, how wide it is."""
TIME_RIGHT, TOKENS_RIGHT = 14.5, 7.5
"""Percent of a row right of the time and of the tokens; the cost ends the row."""

INDENT = 18
"""Pixels a level is moved to the right; also the room of the sign that a row opens by."""

LONG_NAME = 52
"""Characters of name and note beyond which they may be cut, and are told in a tooltip."""

GOING_ON = '<span style="position:absolute" aria-hidden="true"> …</span>'
"""Behind the time of what is not over, out of the column of the figures."""

TREE = (
    "min-width:600px;white-space:nowrap;line-height:22px;position:relative;"
    "font-variant:tabular-nums;font-variant-numeric:tabular-nums"
)
"""What the rows inherit: said once, it need not be said five thousand times."""

_STATE_WORDS: dict[SpanState, str] = {
    "running": "running for",
    "completed": "completed in",
    "skipped": "skipped after",
    "failed": "failed after",
    "stopped": "stopped after",
}


@dataclass(slots=True)
class Axis:
    """The one time axis of all rows.

    Attributes
    ----------
    origin, now
        Seconds since the run's first event: where the axis begins, and where bars that still grow end.
    tracked
        Whether the axis is drawn behind each bar.
    """

    origin: float
    now: float
    tracked: bool = True

    @property
    def seconds(self) -> float:
        """How long the axis is."""
        return max(self.now - self.origin, 0.001)

    @classmethod
    def of(cls, trace: Trace, now: float | None = None, *, tracked: bool = True) -> Axis:
        """Give the axis of a run, up to ``now`` or its latest event."""
        last = trace.last_time
        return cls(run_start(trace), last if now is None or trace.summary.ended else max(now, last), tracked)


def row_style(row: Row) -> str:
    """Give the style of a row's element; the depth is inside it, so that all rows have one width."""
    return (
        f"position:relative;padding:0 {100 - NAME_SHARE:.0f}% 0 {row.depth * INDENT}px;"
        "overflow:hidden;text-overflow:ellipsis"
    )


def tooltip(row: Row) -> str:
    """Give the attribute that tells a name and a note that may be cut; nothing where they are short."""
    if len(row.title) + len(row.note) <= LONG_NAME:
        return ""
    # Line by line: each would otherwise take its direction from the whole.
    return f' title="{escape(f"{row.title} · {row.note}" if row.note else row.title)}"'


def row_line(row: Row, axis: Axis) -> str:
    """Give a row's content."""
    span = row.span
    failed = span.state == "failed"
    colour = {"failed": RED, "stopped": GREY, "skipped": GREY}.get(span.state, BAR_COLOURS[span.kind])
    end = axis.now if span.end is None else span.end
    name = f"{'font-weight:600;' if span.kind == 'task' else ''}{FAILED if failed else ''}"
    took = duration_text(end - span.start)
    told = f" · at {duration_text(span.start - axis.origin)}, {_STATE_WORDS[span.state]} "
    tokens = f"{span.total_tokens:,}" if span.total_tokens else ""
    return (
        f"{indent(row.depth)}"
        f'<span style="color:{colour}" aria-hidden="true">{row.mark}</span> '
        f"{hidden(f'{KIND_WORDS[span.kind]} ')}"
        f'<span dir="auto"{f""" style="{name}" """.rstrip() if name else ""}>{escape(row.title)}</span>'
        + (
            f'{separator(": ")}<span dir="auto" style="padding-left:5px;{MUTED}">{escape(row.note)}</span>'
            if row.note
            else ""
        )
        + (track() if axis.tracked else "")
        + bar(span, axis, colour)
        + column(TIME_RIGHT, took + (GOING_ON if span.end is None else ""), before=told)
        + (column(TOKENS_RIGHT, tokens, after=" tokens", muted=True) if tokens else "")
        + (
            column(0, escape(cost), after=_cost_words(span), muted=True)
            if (cost := span_cost_text(span))
            else ""
        )
    )


def _cost_words(span: Span) -> str:
    return " cost" if span.cost is None else ""


def indent(depth: int) -> str:
    """Give the tree where styles are dropped: what is narrow and blank is not read out."""
    return hidden("\u00a0" * (4 * depth)) if depth else ""


def column(right: float, text: str, *, before: str = " · ", after: str = "", muted: bool = False) -> str:
    """Give a figure in its column; ``before`` and ``after`` make a sentence of it where it is not seen."""
    behind = hidden(after) if after else ""
    return (
        f'<span style="position:absolute;right:{right:g}%{f";{MUTED}" if muted else ""}">'
        f"{hidden(before)}{text}{behind}</span>"
    )


def bar(span: Span, axis: Axis, colour: str) -> str:
    """Give a span's bar."""
    end = axis.now if span.end is None else span.end
    left = min(max((span.start - axis.origin) / axis.seconds, 0.0), 1.0)
    width = min(max((end - span.start) / axis.seconds, 0.0), 1.0 - left)
    # A bar is never narrower than it can be seen, nor pushed off the axis by that.
    start = AXIS_LEFT + min(left * AXIS_WIDTH, AXIS_WIDTH - 0.5)
    grows = f";border-right:3px dotted {colour};box-sizing:border-box;opacity:0.7" if span.end is None else ""
    return (
        f'<span style="position:absolute;top:7px;height:8px;border-radius:4px;min-width:4px;'
        f'left:{start:.2f}%;width:{width * AXIS_WIDTH:.2f}%;background:{colour}{grows}"></span>'
    )


def fork_line(job_id: str, span: Span) -> str:
    """Give the words that leave the run at a step; a click selects them."""
    words = escape(f"%kasal fork {one_line(job_id, 60)} {span.id}")
    return f'<div style="{SMALL}"><code style="user-select:all">{words}</code></div>'


def track() -> str:
    """Give the pale line behind a bar."""
    return (
        f'<span style="position:absolute;top:7px;height:8px;border-radius:4px;left:{AXIS_LEFT:.0f}%;'
        f'width:{AXIS_WIDTH:.0f}%;background:{TRACK}"></span>'
    )


def axis_line(axis: Axis, *, costs: bool) -> str:
    """Give the head row: the columns' names, and ticks at round times along the axis."""
    names = [("time", TIME_RIGHT), ("tokens", TOKENS_RIGHT), *([("cost", 0.0)] if costs else [])]
    heads = "".join(
        f'{separator()}<span style="position:absolute;right:{right:g}%">{name}</span>'
        for name, right in names
    )
    return (
        f'<div style="position:relative;height:18px;line-height:18px;{SMALL}" aria-hidden="true">'
        f'<span style="position:absolute;left:{INDENT}px">step</span>{separator()}'
        f"{separator().join(_ticks(axis.seconds))}{heads}</div>"
    )


def _ticks(seconds: float) -> list[str]:
    ticks = []
    for at, text in axis_ticks(seconds):
        left = AXIS_LEFT + AXIS_WIDTH * at / seconds
        # The last stands before its point, so that it does not run into the next column.
        place = f"left:{left:.1f}%" if at < seconds else f"right:{100 - left:.1f}%"
        ticks.append(f'<span style="position:absolute;{place}">{text}</span>')
    return ticks


def axis_ticks(seconds: float) -> list[tuple[float, str]]:
    """Give round times for an axis of that length, two or three between its ends, with their texts."""
    if seconds <= 0:
        return [(0.0, "0")]
    step = next(size for size in _steps() if seconds / size <= 4)
    ticks = [(0.0, "0")]
    at = step
    last = duration_text(seconds)
    # A tick too close to the end would be written over by it, or say the same: 0.14 s is 0.1 s, rounded.
    while at < seconds * 0.76:
        if duration_text(at) != last:
            ticks.append((at, duration_text(at).replace(".0 s", " s")))
        at += step
    ticks.append((seconds, last))
    return ticks


def _steps() -> list[float]:
    small = [size * scale for scale in (0.001, 0.01, 0.1, 1) for size in (1, 2, 5)]
    return [*small, 10, 15, 30, 60, 120, 300, 600, 900, 1800, *(3600.0 * 2**power for power in range(24))]


# -- pages of folded rows -------------------------------------------------------------------------------

# The steps of a long run that have no row of their own in a saved view: a line each, in folds of pages.
#
# A saved notebook has room for some thousand lines. Where even these are too many, each page says with which
# words its steps are shown.

PAGE = 200
"""Steps of a page."""

MOST_PAGES = 400
"""Pages that only say how they are shown; with more steps, a page has more of them."""

ROOM = 560_000
"""Bytes that the lines of a view may take in a saved notebook."""

LINE_FRAME = 24
"""Bytes that a line takes there beside its words."""

WIDTHS = (100, 60, 32, 24, 0)
"""Characters of a line, tried from the left until all fit; 0: there is no room for lines."""


class Pages:
    """The lines of one view.

    Parameters
    ----------
    job_id
        The run.
    steps
        How many steps have no row.
    origin
        Seconds since the run's first event at which its time axis begins.
    """

    def __init__(self, job_id: str, steps: int, origin: float) -> None:
        self.told: set[int] = set()
        """The steps that have a line, or are on a page that says how they are shown."""
        self._job_id = job_id
        self._origin = origin
        self._width = next(width for width in WIDTHS if steps * (width + LINE_FRAME) <= ROOM or not width)
        self._left = ROOM
        self._page = max(PAGE, steps // MOST_PAGES)
        self.room = min(ROOM, steps * (self._width + LINE_FRAME)) if self._width else 100_000
        """Bytes that the lines will take, about."""

    def fold(self, spans: Sequence[Span], depth: int) -> str:
        """Give the fold that stands for spans and all below them; nothing where there are none."""
        steps = list(left_out(spans))
        if not steps:
            return ""
        self.told.update(span.id for _, span in steps)
        pages = [steps[at : at + self._page] for at in range(0, len(steps), self._page)]
        if len(pages) == 1:
            inside = self._lines(pages[0])
        else:
            first = [1 + at * self._page for at in range(len(pages))]
            inside = "".join(
                _fold(f"steps {begin:,} to {begin + len(page) - 1:,}", self._lines(page), depth + 1)
                for begin, page in zip(first, pages, strict=True)
            )
        return _fold(f"… {counted(len(steps), 'more step')}", inside, depth)

    def _lines(self, page: Sequence[tuple[int, Span]]) -> str:
        if self._width and self._left > 0:
            text = escape("\n".join(self._line(level, span) for level, span in page))
            self._left -= saved_bytes(text)
            return f'<pre dir="auto" style="{SLIM_PRE};margin-left:36px">{text}</pre>'
        # Rows are numbered by the events that end them.
        after = max(min(span.opened.get("seq", 1) for _, span in page) - 1, 0)
        words = f"%kasal traces {one_line(self._job_id, 60)} --after {after} --limit {len(page)}"
        return f'<div style="{SMALL}">{escape(words)}</div>'

    def _line(self, level: int, span: Span) -> str:
        mark = STATE_MARKS.get(span.state) or MARKS[span.kind]
        took = "" if span.duration is None else f", {duration_text(span.duration)}"
        end = f" · at {duration_text(span.start - self._origin)}{took}"
        note = step_note(span)
        said = f"{'  ' * min(level, DEEPEST)}{mark} {span.name}{f' · {note}' if note else ''}"
        # Its beginning is blank where it is below another.
        room = max(self._width - len(end), 8)
        return f"{said[: min(level, DEEPEST) * 2]}{one_line(said, room)}{end}"


def left_out(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """Give spans and all below them with how deep they are below these, in order, parents first."""
    stack = [(0, span) for span in reversed(list(spans))]
    while stack:
        level, span = stack.pop()
        yield level, span
        stack.extend((level + 1, child) for child in reversed(span.children))


def _fold(label: str, inside: str, depth: int) -> str:
    return (
        f'<details><summary style="cursor:pointer;padding-left:{(depth + 1) * INDENT}px;{SMALL}">'
        f"{indent(depth)}{escape(label)}</summary>{inside}</details>"
    )
