"""The steps of a long run that have no row of their own in a saved view: a line each, in folds of pages.

A saved notebook has room for some thousand lines. Where even these are too many, each page says with which
words its steps are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kasal_jupyter.events.trace import Span
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, duration_text
from kasal_jupyter.kernel.views.html_parts import SLIM_PRE, SMALL
from kasal_jupyter.kernel.views.html_rows import INDENT, indent
from kasal_jupyter.kernel.views.html_texts import saved_bytes
from kasal_jupyter.kernel.views.rows import DEEPEST, MARKS, STATE_MARKS, step_note

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
