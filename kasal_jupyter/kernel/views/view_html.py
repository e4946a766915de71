"""The trace as one HTML string: what a notebook shows, keeps, and shows again next year.

It is made of ``details``, ``summary``, ``div``, ``span`` and ``pre`` alone, and in answers of what Markdown
knows, so that it outlives the kernel and passes the sanitisers (see
:mod:`kasal_jupyter.kernel.views.html_parts` for what they leave).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from kasal_jupyter.events.event import TaskPlan
from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views import html_rows
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import (
    counted,
    duration_text,
    lineage_text,
    moment_text,
    place_text,
    run_cost_text,
    run_figures,
    second_text,
    span_cost_text,
)
from kasal_jupyter.kernel.views.html_parts import (
    BLUE,
    CARD,
    MUTED,
    NO_FORMULAS,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    STATUS_COLOURS,
    STATUS_STYLES,
    TRACK,
    drawn_bytes,
    hidden,
    labelled_text,
    remark,
    saved_bytes,
    separator,
)
from kasal_jupyter.kernel.views.html_rows import Pages
from kasal_jupyter.kernel.views.markdown import answer_html, plain_html
from kasal_jupyter.kernel.views.rows import (
    KEPT_MARK,
    STATUS_MARKS,
    Row,
    Section,
    about_text,
    build_rows,
    elapsed_text,
    fair_choice,
    how_to_answer,
    how_to_get_all,
    latest_choice,
    memories_text,
    run_start,
    sections,
    stored_note,
)
from kasal_jupyter.schemas.executions import OpenQuestion
from kasal_jupyter.whole_file import write_whole

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


def render_html(trace: Trace, *, whole: bool = False, server_url: str = "", rating: str = "") -> str:
    """Draw the trace, so that each step opens to its texts.

    Parameters
    ----------
    trace
        What is known of the run so far.
    whole
        Whether it is drawn whole, whatever its size: for a file of its own, not for a notebook.
    server_url
        Base URL of the server that keeps the run; its events are linked where not all is drawn.
    rating
        What somebody makes of it; empty where nobody does.

    Returns
    -------
    str
        HTML of less than 2 MB, except of the ``whole``; every foreign text in it is escaped.
    """
    return _View(trace, whole=whole, server_url=server_url, rating=rating).draw()


class _View:
    """One drawing of a trace: where it is in the tree, and how large it has become."""

    def __init__(self, trace: Trace, *, whole: bool, server_url: str, rating: str = "") -> None:
        self.trace = trace
        self.rating = rating
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
        if self.rating:
            self.add(remark(f"Rated {self.rating}"))
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
            room = ROWS_BYTES - self.size - len(rows) * (1_150 if self.axis.tracked else 1_010)
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
        if not self.slim and self.trace.summary.ended and "key" in row.span.opened:
            pieces.append(html_rows.fork_line(self.trace.job_id, row.span))
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


# -- the head -------------------------------------------------------------------------------------------

# The top of the HTML trace: how the run stands, in figures and words, and what came out of it.


def crew_title(trace: Trace) -> str:
    """Give the crew's name as HTML."""
    return escape(one_line(trace.summary.crew_name, 120)) or "Crew"


def header(trace: Trace, now: float, *, live: bool = False) -> str:
    """Give the crew, the state, the figures, the id and the date.

    ``now`` is in seconds since the run's first event. A ``live`` header tells what time it is of: where the
    page is closed or the kernel ends, it stays in the notebook, and must be true next year.
    """
    summary = trace.summary
    figures = [elapsed_text(trace, now)]
    if summary.total_tokens:
        figures.append(f"{summary.total_tokens:,} tokens")
    figures += [text for text in (escape(run_cost_text(trace)), run_figures(trace)) if text]
    if summary.started_at and (waited := run_start(trace)) >= 0.5:
        figures.append(f"waited {duration_text(waited)}")
    told = "".join(
        f'{separator()}<span style="display:inline-block;padding-right:14px">{figure}</span>'
        for figure in figures
    )
    when = moment_text(summary.created_at) if summary.created_at else ""
    lineage = escape(one_line(lineage_text(summary.verb, summary.parent), 80))
    about = [_stands(trace, now) if live else "", escape(one_line(trace.job_id, 60)), lineage, when]
    return (
        '<div style="font-size:15px"><span dir="auto" style="font-weight:700;padding-right:14px">'
        f"{crew_title(trace)}</span>"
        f'{separator()}<span style="display:inline-block;font-weight:700;padding-right:14px;'
        f'{STATUS_STYLES[summary.status]}"><span aria-hidden="true">{STATUS_MARKS[summary.status]}</span> '
        f"{summary.status}</span>{told}</div>"
        f'<div style="text-align:right;{SMALL}">{" · ".join(part for part in about if part)}</div>'
    )


def _stands(trace: Trace, now: float) -> str:
    latest = trace.summary.latest_at
    if not latest:
        return ""
    drawn = second_text(latest, now - trace.last_time)
    return f"as it stood at {drawn} · last event at {second_text(latest)[-12:]}"


def pick_up(job_id: str) -> str:
    """Say how a view that has stopped moving is gone on with."""
    return f"Where nothing moves any more, `%kasal status {one_line(job_id, 60)}` picks the run up"


def progress(trace: Trace) -> str:
    """Give the progress bar."""
    summary = trace.summary
    percent = 100 if summary.ended else max(summary.progress, 2)
    return (
        f'<div style="height:4px;border-radius:2px;background:{TRACK};margin:4px 0 8px" role="progressbar" '
        f'aria-label="tasks done" aria-valuenow="{summary.progress}" aria-valuemin="0" aria-valuemax="100" '
        f'title="{summary.progress} % done"><div style="height:4px;border-radius:2px;width:{percent}%;'
        f'background:{STATUS_COLOURS[summary.status]}"></div></div>'
    )


def questions(trace: Trace, *, here: bool = False) -> str:
    """Give what agents ask and nobody has answered yet, with how to answer; ``here``: the cell asks."""
    return "".join(
        f'<div style="border-left:3px solid {ORANGE};background:{PANEL};padding:4px 12px 7px;'
        f'margin-bottom:8px"><div style="font-weight:700;color:{ORANGE}">Waiting for an answer</div>'
        f'<div dir="auto" style="font-size:14px;white-space:pre-wrap;overflow-wrap:break-word">'
        f"{escape(one_line(asked.agent or 'An agent', 80))} asks: {escape(asked.question)}</div>"
        f"{_asked_about(asked)}"
        f'<div style="{SMALL}">{escape(how_to_answer(trace.job_id, asked.choices, here=here))}</div></div>'
        for asked in list(trace.summary.questions.values())
    )


def _asked_about(question: OpenQuestion) -> str:
    text = about_text(question)
    style = "white-space:pre-wrap;overflow-wrap:break-word;max-height:12em;overflow-y:auto"
    return f'<div dir="auto" style="{style}">{escape(text)}</div>' if text else ""


def outcome(trace: Trace, *, most: int | None = None) -> str:
    """Give the answer, or why there is none; of a long one ``most`` characters."""
    summary = trace.summary
    pieces = []
    if summary.error and summary.status != "completed":
        said = f"{summary.error.message} ({summary.error.code})"
        pieces.append(_panel("Error", plain_html(said, most=most), RED))
    if summary.result:
        # One that ended before its time, for its budget say, keeps what it has.
        whole = summary.status == "completed" or not summary.ended
        pieces.append(_panel("Answer" if whole else "So far", answer_html(summary.result, most=most), BLUE))
        if summary.result_file is not None:
            pieces.append(f'<div style="{SMALL}">{escape(how_to_get_all(trace.job_id))}</div>')
    elif summary.partial_result is not None and summary.latest_done is not None:
        done = f"{summary.tasks_done} of {counted(summary.tasks_total, 'task')} done"
        label = f"So far, {done}: {escape(one_line(summary.latest_done[0], 80))}"
        pieces.append(_panel(label, answer_html(summary.partial_result, most=most), BLUE))
    if summary.remarks:
        pieces.append(_panel("Remark", plain_html("\n".join(summary.told_remarks())), ORANGE))
    return "".join(pieces)


def kept(trace: Trace) -> str:
    """Give what the crew will remember of the run, folded; nothing where that is nothing."""
    if not trace.stored:
        return ""
    said = f"{KEPT_MARK} {stored_note(trace.stored)}"
    return (
        f'<details style="padding-top:6px"><summary style="cursor:pointer;{SMALL}">{escape(said)}</summary>'
        f"{labelled_text('memories', memories_text(trace.stored))}</details>"
    )


def _panel(label: str, inside: str, colour: str) -> str:
    return (
        f'<div style="border-left:3px solid {colour};background:{PANEL};padding:4px 12px 7px;'
        f'margin-bottom:8px"><div style="{SMALL}">{label}</div>{inside}</div>'
    )


# -- a page of its own ----------------------------------------------------------------------------------

# A trace as a file of its own: one HTML page that needs nothing else, not even scripts.

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark;
  --jp-layout-color0: #ffffff; --jp-content-font-color1: #212121;
  --jp-error-color1: #d32f2f; --jp-success-color1: #2a8c3f; --jp-brand-color1: #3b5bdb;
}}
@media (prefers-color-scheme: dark) {{
  :root {{
    --jp-layout-color0: #161616; --jp-content-font-color1: #ececec;
    --jp-error-color1: #ff6b61; --jp-success-color1: #4caf50; --jp-brand-color1: #7f97ff;
  }}
}}
body {{ margin: 24px auto; max-width: 1112px; padding: 0 16px; background: var(--jp-layout-color0); }}
summary:focus-visible {{ outline: 2px solid #4a6cf7; outline-offset: -2px; border-radius: 3px; }}
@media print {{ pre {{ max-height: none !important; }} }}
</style>
</head>
<body>
{trace}
</body>
</html>
"""
"""The policy lets nothing run and nothing be fetched, should a foreign text ever get through as HTML."""


def save_page(trace: Trace, path: str | os.PathLike[str]) -> Path:
    """Write a trace, whole, as an HTML page.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    CellError
        It could not be written there.
    """
    place = Path(path).expanduser()
    title = escape(f"{one_line(trace.summary.crew_name, 120) or 'Crew'} · {trace.summary.status}")
    page = _PAGE.format(title=title, trace=render_html(trace, whole=True))
    try:
        write_whole(place, page.encode())
    except OSError as error:
        raise CellError(f"The trace cannot be written to {place}: {error.strerror or error}") from error
    return place


# -- while it runs -----------------------------------------------------------------------------------------

# The trace of a run that goes on: small, and drawn in little time, for it is drawn often.
#
# Nothing in it opens: the next redraw would close it. It holds what runs, what came last, and the tasks, those
# that have not begun as well. Each may be the last that is drawn, and then stays in the saved notebook.

LIVE_ROWS = 40
"""Steps that are drawn: with more, a redraw takes the time and the channel that other cells need."""
LIVE_PENDING = 10
"""Tasks that have not begun and are drawn; the others are counted."""
LIVE_TAIL = 240
"""Characters of a growing answer that are shown."""


def render_live(
    trace: Trace,
    now: float | None = None,
    *,
    position: int | None = None,
    remark: str = "",
    asked_here: bool = False,
) -> str:
    """Draw a run that goes on.

    Parameters
    ----------
    trace
        What is known of the run so far.
    now
        Seconds since the run's first event; its latest event's where not given.
    position
        The run's place in the server's line, where it waits.
    remark
        Why nothing more will come.
    asked_here
        Whether the cell itself asks what agents want to know.

    Returns
    -------
    str
        HTML of at most 100 kB, in a time that hardly grows with the run.
    """
    axis = html_rows.Axis.of(trace, now)
    wanted = None if len(trace.spans) <= LIVE_ROWS else latest_choice(trace, LIVE_ROWS)
    rows = [row for root in build_rows(trace, wanted) for row in root.walk()]
    # Not a live region: who cannot see it would be read the whole view at every redraw.
    card = (
        f'<div {NO_FORMULAS} style="{CARD}" role="group" aria-busy="true" '
        f'aria-live="off" aria-label="Trace of {crew_title(trace)}">'
    )
    html = [
        card,
        header(trace, axis.now, live=True),
        progress(trace),
        questions(trace, here=asked_here),
        outcome(trace, most=0),
    ]
    pending = [] if trace.summary.ended else pending_tasks(trace)
    if not rows:
        html.append(f'<div style="{MUTED};padding:2px 0 6px 18px">{waits_for(trace, position)}</div>')
    if rows or pending:
        costs = any(span_cost_text(root) for root in trace.roots)
        html += [f'<div style="overflow-x:auto"><div style="{html_rows.TREE}">']
        if rows:
            html += [html_rows.axis_line(axis, costs=costs), *(_row(row, axis) for row in rows)]
        html += [*map(_pending, pending[:LIVE_PENDING]), "</div></div>"]
    if len(pending) > LIVE_PENDING:
        html.append(_small(f"… {counted(len(pending) - LIVE_PENDING, 'more task')}"))
    shown = sum(1 if row.work is None else 2 for row in rows)
    if (missing := len(trace.spans) - shown) > 0:
        html.append(_small(f"… {counted(missing, 'earlier step')} will be here when the run is over"))
    html += [_small(remark) if remark else "", _small(pick_up(trace.job_id)), "</div>"]
    return "".join(html)


def pending_tasks(trace: Trace) -> list[TaskPlan]:
    """Give the tasks that have not begun, in their order."""
    states = trace.summary.task_states
    return [task for task in trace.queued.get("tasks", ()) if states.get(task["id"]) == "created"]


def waits_for(trace: Trace, position: int | None = None) -> str:
    """Say what a run waits for whose first task has not begun."""
    if position is not None:
        return f"Waiting: {place_text(position)} …"
    if trace.summary.status == "queued":
        return "Waiting for its turn, or starting the engine (CrewAI takes some seconds to load at first) …"
    return "The engine is there; waiting for the first task …"


def _small(text: str) -> str:
    return f'<div style="{SMALL};padding:6px 0 0 18px">{escape(text)}</div>'


def _pending(task: TaskPlan) -> str:
    agent = f" · {escape(one_line(task['agent'], 80))}" if task["agent"] else ""
    return (
        f'<div style="{MUTED};padding-left:{html_rows.INDENT}px;overflow:hidden;text-overflow:ellipsis">'
        f'<span aria-hidden="true">▢</span> {hidden("task ")}<span dir="auto">'
        f"{escape(one_line(task['title'], 160))}</span>{agent} · not begun</div>"
    )


def _row(row: Row, axis: html_rows.Axis) -> str:
    text = row.span.text if row.span.end is None else ""
    tail = (
        f'<div dir="auto" style="margin:0 0 4px {(row.depth + 2) * html_rows.INDENT}px;{MUTED};'
        f'font-size:12px;line-height:1.45;white-space:pre-wrap;overflow-wrap:break-word">{escape(text[-LIVE_TAIL:])}</div>'
        if text
        else ""
    )
    # A row of the saved view opens by a sign of its own; the same room is left here, so that nothing moves.
    return (
        f'<div style="{html_rows.row_style(row)}"><span style="display:inline-block;'
        f'width:{html_rows.INDENT}px"></span>{html_rows.row_line(row, axis)}</div>{tail}'
    )
