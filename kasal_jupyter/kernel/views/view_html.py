"""The trace as one HTML string: what a notebook shows, keeps, and shows again next year.

It is made of ``details``, ``summary``, ``div``, ``span`` and ``pre`` alone, and in answers of what Markdown
knows, so that it outlives the kernel and passes the sanitisers (see
:mod:`kasal_jupyter.kernel.views.html_parts` for what they leave).
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.views import html_rows
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, span_cost_text
from kasal_jupyter.kernel.views.html_head import crew_title, header, kept, outcome, progress
from kasal_jupyter.kernel.views.html_pages import Pages
from kasal_jupyter.kernel.views.html_parts import CARD, MUTED, NO_FORMULAS, SMALL
from kasal_jupyter.kernel.views.html_texts import drawn_bytes, labelled_text, remark, saved_bytes
from kasal_jupyter.kernel.views.markdown import answer_html
from kasal_jupyter.kernel.views.rows import Row, build_rows
from kasal_jupyter.kernel.views.selection import fair_choice
from kasal_jupyter.kernel.views.span_texts import Section, sections

MOST_BYTES = 1_750_000
"""Size of a whole view in a saved notebook; with the text beside it, it stays below 2 MB."""
ROWS_BYTES = 1_550_000
"""Size up to which steps are drawn; the rest is for what follows them."""
ANSWER_LENGTH = 60_000
"""Most characters of the answer that a saved view holds."""
MOST_ROWS = 1_000
"""Steps that have a row that opens; of a longer run some of every task have, and the others a line."""
TRACKED_ROWS = 600
"""Up to so many steps, the axis is drawn behind each bar."""
OPEN_ROWS = 40
"""Up to so many steps, every task is shown open; beyond, only what failed or runs."""

READ = 120_000
"""Characters of the tasks' results that are read as Markdown: some signs take the parser 70 µs each."""
SLIM_TEXTS = 400
"""Up to so many texts, each has a box that is pleasant to look at."""
TEXT_LIMITS = (1_000_000, 200_000, 60_000, 20_000, 8_000, 3_000, 1_000, 300, 100, 0)
"""Most characters of one text, tried from the left until all fit: long texts give way to many short ones."""
FRAME, SLIM_FRAME = 1_100, 280
"""Bytes that a text's label and box take, and where there are many."""


def render_html(trace: Trace, *, whole: bool = False, server_url: str = "") -> str:
    """Draw the trace, so that each step opens to its texts.

    Parameters
    ----------
    trace
        What is known of the run so far.
    whole
        Whether it is drawn whole, whatever its size: for a file of its own, not for a notebook.
    server_url
        Base URL of the server that keeps the run; its events are linked where not all is drawn.

    Returns
    -------
    str
        HTML of less than 2 MB, except of the ``whole``; every foreign text in it is escaped.
    """
    return _View(trace, whole=whole, server_url=server_url).draw()


class _View:
    """One drawing of a trace: where it is in the tree, and how large it has become."""

    def __init__(self, trace: Trace, *, whole: bool, server_url: str) -> None:
        self.trace = trace
        self.whole = whole
        self.server_url = server_url
        steps = len(trace.spans)
        self.axis = html_rows.Axis.of(trace, tracked=whole or steps <= TRACKED_ROWS)
        self.html: list[str] = []
        self.size = 0
        self.drawn: set[int] = set()
        self.pages = Pages(trace.job_id, 0, self.axis.origin)
        self.most: int | None = None
        self.slim = False
        self.reads = READ * (10 if whole else 1)

    def draw(self) -> str:
        trace = self.trace
        self.add(f'<div {NO_FORMULAS} style="{CARD}" role="group" aria-label="Trace of {crew_title(trace)}">')
        self.add(header(trace, self.axis.now))
        self.add(progress(trace))
        self.add(outcome(trace, most=None if self.whole else ANSWER_LENGTH))
        chosen = None if self.whole else fair_choice(trace, MOST_ROWS)
        if chosen is not None:
            self.pages = Pages(trace.job_id, len(trace.spans) - len(chosen), self.axis.origin)
        top = build_rows(trace, chosen)
        if top:
            self.add(f'<div style="overflow-x:auto"><div style="{html_rows.TREE}">')
            costs = any(span_cost_text(root) for root in trace.roots)
            self.add(html_rows.axis_line(self.axis, costs=costs))
            self.rows(top)
            self.add("</div></div>")
        elif trace.summary.status == "queued":
            self.add(f'<div style="{MUTED};padding-top:6px">Waiting to be started …</div>')
        self.add(kept(trace))
        self.add(self.remainder())
        self.add("</div>")
        return "".join(self.html)

    def add(self, piece: str) -> None:
        self.html.append(piece)
        self.size += saved_bytes(piece)

    def rows(self, top: list[Row]) -> None:
        rows = [row for root in top for row in root.walk()]
        texts = [sections(row) for row in rows]
        if not self.whole:
            self.slim = sum(map(len, texts)) > SLIM_TEXTS
            room = ROWS_BYTES - self.size - len(rows) * (1_000 if self.axis.tracked else 860)
            room -= self.pages.room
            self.most = _text_limit(texts, room, SLIM_FRAME if self.slim else FRAME)
        opened = _opened(top, len(rows))
        unclosed: list[tuple[int, str]] = []
        for row, found in zip(rows, texts, strict=True):
            self.close(unclosed, row.depth)
            if not self.whole and self.size > ROWS_BYTES:
                break
            self.add(self.pages.fold(row.gap, row.depth))
            self.drawn |= {span.id for span in (row.span, row.work) if span is not None}
            is_open = " open" if row.span.id in opened else ""
            self.add(
                f'<details{is_open}><summary style="{html_rows.row_style(row)};cursor:pointer"'
                f"{html_rows.tooltip(row)}>{html_rows.row_line(row, self.axis)}</summary>"
            )
            inside = self.sections(row, found)
            rest = self.pages.fold(row.rest, row.depth + 1)
            # A task's own texts stand below its steps, where they don't push those apart.
            if row.children or rest:
                unclosed.append((row.depth, f"{rest}{_folded(row, found, inside)}</details>"))
            else:
                self.add(inside)
                unclosed.append((row.depth, "</details>"))
        self.close(unclosed, 0)
        told = self.drawn | self.pages.told
        self.add(
            self.pages.fold([_alone(span) for span in self.trace.spans.values() if span.id not in told], 0)
        )

    def close(self, unclosed: list[tuple[int, str]], depth: int) -> None:
        while unclosed and unclosed[-1][0] >= depth:
            self.add(unclosed.pop()[1])

    def sections(self, row: Row, found: list[Section]) -> str:
        pieces = []
        room = MOST_BYTES - self.size
        for place, section in enumerate(found):
            # One step alone may hold a conversation larger than a whole view may be.
            if not self.whole and room < 0:
                pieces.append(remark(f"{counted(len(found) - place, 'more text')} not kept in this view"))
                break
            most = self.most
            if most == 0:
                if not section.bad:
                    continue
                most = TEXT_LIMITS[-2]
            piece = self.text(section, most)
            pieces.append(piece)
            room -= saved_bytes(piece)
        if not pieces:
            return ""
        left = row.depth * html_rows.INDENT + 36
        return f'<div style="margin:1px 0 6px {left}px;white-space:normal;line-height:1.5">{"".join(pieces)}</div>'

    def text(self, section: Section, most: int | None) -> str:
        if section.answer and section.text == self.trace.summary.result:
            return remark(f"{section.label}: the answer above")
        size = len(section.text)
        if (
            section.answer
            and not self.slim
            and size <= (self.reads if most is None else min(most, self.reads))
        ):
            self.reads -= size
            piece = f"{remark(section.label)}{answer_html(section.text)}"
            # Of many small signs, each is an element.
            if self.whole or len(piece) <= 4 * drawn_bytes(section.text) + FRAME:
                return piece
        return labelled_text(section.label, section.text, bad=section.bad, most=most, slim=self.slim)

    def remainder(self) -> str:
        """Say what is not drawn, and where it is."""
        missing = len(self.pages.told)
        if not missing and self.most is None:
            return ""
        said = f"{counted(missing, 'more step')} and the whole texts" if missing else "The whole texts"
        served = f"/v1/executions/{quote(self.trace.job_id)}/events"
        if self.server_url:
            # JupyterLab takes a path for a file of its own: only a whole address is left as it is.
            address = escape(f"{self.server_url.rstrip('/')}{served}")
            served = f'<a href="{address}" target="_blank" rel="noopener">{escape(served)}</a>'
        return (
            f'<div style="{SMALL};padding:6px 0 0 18px">{said} are in the result, .spans() as a table and '
            f".to_html(path) as a page, and at {served}.</div>"
        )


def _alone(span: Span) -> Span:
    """Give a span without those below it."""
    return replace(span, children=[])


def _text_limit(found: list[list[Section]], room: int, frame: int) -> int | None:
    """Give the most characters of one text with which all fit into the room; None where none is cut."""
    # An answer is drawn as it is read, and in a fold as it was written.
    sizes = [
        (len(section.text), (3 if section.answer else 1) * drawn_bytes(section.text))
        for texts in found
        for section in texts
    ]
    room -= len(sizes) * frame
    if sum(drawn for _, drawn in sizes) <= room:
        return None
    return next(
        (
            limit
            for limit in TEXT_LIMITS[:-1]
            if sum(drawn * min(1.0, limit / (size or 1)) for size, drawn in sizes) <= room
        ),
        0,
    )


def _folded(row: Row, found: list[Section], inside: str) -> str:
    if not inside:
        return ""
    labels = ", ".join(one_line(section.label, 40) for section in found[:8])
    left = (row.depth + 1) * html_rows.INDENT
    return (
        f'<details><summary style="cursor:pointer;padding-left:{left}px;{SMALL}">'
        f"{html_rows.indent(row.depth + 1)}{escape(labels)}</summary>{inside}</details>"
    )


def _opened(top: list[Row], total: int) -> set[int]:
    """Give the ids of the spans shown open: failed steps, and tasks where there is room or trouble."""
    opened: set[int] = set()
    for root in top:
        below = list(root.walk())
        troubled = {row.span.id for row in below if row.span.state == "failed"}
        if total <= OPEN_ROWS or troubled:
            opened |= {row.span.id for row in below if row.children}
        # Only so many: a run of a thousand failures is read better closed.
        if len(opened) < 4 * OPEN_ROWS:
            opened |= troubled
    return opened
