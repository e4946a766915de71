"""The trace as one HTML string: what a notebook shows, keeps, and shows again next year.

It is made of ``details``, ``summary``, ``div``, ``span`` and ``pre`` alone, so that
it outlives the kernel and passes the sanitisers (see
:mod:`kasal_jupyter.kernel.html_parts` for what they leave).
"""

from __future__ import annotations

from kasal_jupyter.kernel import html_parts as parts
from kasal_jupyter.kernel.clean import escape, one_line
from kasal_jupyter.kernel.figures import counted, duration_text, run_figures
from kasal_jupyter.kernel.rows import KIND_WORDS, STATUS_MARKS, Row, build_rows, elapsed_text, run_start
from kasal_jupyter.kernel.sections import sections
from kasal_jupyter.schemas.trace import Trace

MOST_BYTES = 1_500_000
"""Size of a whole view; steps beyond it are counted, not drawn."""
SECTION_BYTES = 900_000
"""Size up to which steps still open to their texts."""
OPEN_ROWS = 40
"""Up to so many steps, every task is shown open; beyond, only what failed or runs."""
LIVE_ROWS = 60
"""Steps a view that is redrawn holds: the latest of the running tasks."""
LIVE_TAIL = 240
"""Characters of a growing answer that are shown."""


def render_html(trace: Trace, *, now: float | None = None, live: bool = False) -> str:
    """Draw the trace.

    Parameters
    ----------
    trace
        What is known of the run so far.
    now
        Seconds since the run's first event, for bars that still grow; else its latest event.
    live
        Whether this is one of many redraws: small, and without what opens, which a redraw would close.

    Returns
    -------
    str
        HTML of at most 2 MB, whatever the run held; every foreign text in it escaped.
    """
    return _View(trace, now=now, live=live).draw()


class _View:
    """One drawing of a trace: where it is in the tree, and how large it has become."""

    def __init__(self, trace: Trace, *, now: float | None, live: bool) -> None:
        self.trace = trace
        self.live = live
        self.origin = run_start(trace)
        self.now = trace.last_time if now is None or trace.summary.ended else max(now, trace.last_time)
        self.seconds = max(self.now - self.origin, 0.001)
        self.html: list[str] = []
        self.size = 0
        self.left_out = 0

    def draw(self) -> str:
        summary = self.trace.summary
        name = escape(one_line(summary.crew_name, 120)) or "Crew"
        # LaTeX delimiters in what a model says are not mathematics: MathJax passes these classes over.
        self.add(
            f'<div class="tex2jax_ignore mathjax_ignore" style="{parts.CARD}" role="group" '
            f'aria-label="Trace of {name}">'
        )
        self.add(_header(self.trace, name, self.now))
        self.add(_progress(self.trace))
        self.add(_outcome(self.trace))
        top = build_rows(self.trace)
        if top:
            self.add(parts.axis(self.seconds))
            self.rows(top)
        elif summary.status == "queued":
            self.add(f'<div style="{parts.MUTED};padding-top:6px">Waiting to be started …</div>')
        if self.left_out:
            self.add(
                f'<div style="{parts.MUTED};padding:6px 0 0 18px">… {counted(self.left_out, "more step")} '
                "not drawn here; the result's trace holds them all.</div>"
            )
        self.add("</div>")
        return "".join(self.html)

    def add(self, piece: str) -> None:
        self.html.append(piece)
        self.size += _bytes_of(piece)

    def rows(self, top: list[Row]) -> None:
        rows = [row for root in top for row in root.walk()]
        total = len(rows)
        if self.live:
            rows = _latest(rows)
            self.left_out = total - len(rows)
            for row in rows:
                self.add(f'<div style="{_line_style(row)}">{self.line(row)}</div>{self.tail(row)}')
            return
        opened = _opened(top, total)
        unclosed: list[tuple[int, str]] = []
        for number, row in enumerate(rows):
            self.close(unclosed, row.depth)
            if self.size > MOST_BYTES:
                self.left_out = total - number
                break
            inside = "" if self.size > SECTION_BYTES else self.sections(row)
            is_open = " open" if row.span.id in opened else ""
            label = f"{KIND_WORDS[row.span.kind]} {one_line(row.title, 60)}: {row.span.state}"
            self.add(
                f'<details{is_open}><summary style="{_line_style(row)}" title="{escape(label)}">'
                f"{self.line(row)}</summary>"
            )
            # A task's own texts stand below its steps, where they don't push those apart.
            if row.children:
                folded = self.folded(row, inside)
                unclosed.append((row.depth, f"{folded}</details>"))
            else:
                self.add(inside)
                unclosed.append((row.depth, "</details>"))
        self.close(unclosed, 0)

    def close(self, unclosed: list[tuple[int, str]], depth: int) -> None:
        while unclosed and unclosed[-1][0] >= depth:
            self.add(unclosed.pop()[1])

    def line(self, row: Row) -> str:
        """Give a row's content: sign, name, note, bar, time, tokens."""
        span = row.span
        failed = span.state == "failed"
        colour = parts.RED if failed else parts.BAR_COLOURS[span.kind]
        end = self.now if span.end is None else span.end
        weight = "font-weight:600;" if span.kind == "task" else ""
        note = (
            f'{parts.separator(":")} <span style="{parts.MUTED}">{escape(row.note)}</span>'
            if row.note
            else ""
        )
        name_colour = f"color:{parts.RED};" if failed else ""
        took = duration_text(end - span.start)
        if span.end is None:
            took = f"{took} …"
        tokens = f"{span.total_tokens:,}" if span.total_tokens else ""
        return (
            '<span style="display:inline-block;max-width:92%;overflow:hidden;text-overflow:ellipsis;'
            f'vertical-align:bottom"><span style="color:{colour}">{row.mark}</span> '
            f'<span dir="auto" style="{weight}{name_colour}">{escape(row.title)}</span>{note}</span>'
            f"{parts.track() if self.size < SECTION_BYTES else ''}"
            + parts.bar(
                (span.start - self.origin) / self.seconds,
                (end - span.start) / self.seconds,
                colour,
                running=span.end is None,
            )
            + f"{parts.separator()}"
            f'<span style="position:absolute;right:11%">{took}</span>'
            + (
                f'{parts.separator()}<span style="position:absolute;right:0;{parts.MUTED}">{tokens}'
                f"{parts.separator(' tokens')}</span>"
                if tokens
                else ""
            )
        )

    def sections(self, row: Row) -> str:
        texts = ""
        room = SECTION_BYTES - self.size
        found = sections(row)
        for place, section in enumerate(found):
            # One step alone may hold a conversation larger than a whole view may be.
            if room < 0:
                texts += parts.remark(f"{counted(len(found) - place, 'more text')} in the run's events")
                break
            text = parts.labelled_text(section.label, section.text, bad=section.bad)
            texts += text
            room -= _bytes_of(text)
        if not texts:
            return ""
        return f'<div style="margin:1px 0 6px {row.depth * 18 + 36}px">{texts}</div>'

    def folded(self, row: Row, inside: str) -> str:
        if not inside:
            return ""
        labels = ", ".join(section.label for section in sections(row)[:8])
        return (
            f'<details><summary style="cursor:pointer;font-size:11px;padding-left:{row.depth * 18 + 18}px">'
            f'<span style="{parts.MUTED}">{escape(labels)}</span></summary>{inside}</details>'
        )

    def tail(self, row: Row) -> str:
        """Give the end of what a model is saying just now."""
        text = row.span.text
        if row.span.end is not None or not text:
            return ""
        return (
            f'<div style="margin:0 0 4px {row.depth * 18 + 36}px;{parts.MUTED};font-size:12px;'
            f'white-space:pre-wrap">{escape(text[-LIVE_TAIL:])}</div>'
        )


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _header(trace: Trace, name: str, now: float) -> str:
    summary = trace.summary
    colour = parts.STATUS_COLOURS[summary.status]
    figures = [elapsed_text(trace, now)]
    if summary.total_tokens:
        figures.append(f"{summary.total_tokens:,} tokens")
    if done := run_figures(trace):
        figures.append(done)
    waited = run_start(trace)
    if waited >= 0.5 and summary.started_at:
        figures.append(f"waited {duration_text(waited)}")
    when = f"{summary.created_at[:10]} {summary.created_at[11:16]} UTC" if summary.created_at else ""
    origin = " · ".join(part for part in (escape(one_line(trace.job_id, 60)), when) if part)
    told = "".join(
        f'{parts.separator()}<span style="padding-left:14px">{figure}</span>' for figure in figures
    )
    return (
        f'<div style="font-size:15px"><span dir="auto" style="font-weight:700">{name}</span>{parts.separator()}'
        f'<span style="font-weight:700;padding-left:14px;color:{colour}">{STATUS_MARKS[summary.status]} '
        f"{summary.status}</span>{told}</div>"
        f'<div style="text-align:right;font-size:11px;{parts.MUTED}">{origin}</div>'
    )


def _progress(trace: Trace) -> str:
    summary = trace.summary
    percent = 100 if summary.ended else max(summary.progress, 2)
    colour = parts.STATUS_COLOURS[summary.status]
    return (
        f'<div style="height:4px;border-radius:2px;background:{parts.TRACK};margin:4px 0 8px" role="progressbar" '
        f'aria-valuenow="{summary.progress}" aria-valuemin="0" aria-valuemax="100" title="{summary.progress} % done">'
        f'<div style="height:4px;border-radius:2px;width:{percent}%;background:{colour}"></div></div>'
    )


def _outcome(trace: Trace) -> str:
    """Give the answer, or why there is none."""
    summary = trace.summary
    pieces = []
    if summary.error and summary.status != "completed":
        message = f"{summary.error.message} ({summary.error.code})"
        pieces.append(_panel("Error", message, parts.RED))
    if summary.result:
        pieces.append(_panel("Answer", summary.result, parts.BLUE))
    return "".join(pieces)


def _panel(label: str, text: str, colour: str) -> str:
    head, whole = text, ""
    if parts.is_long(text):
        head = "\n".join(text[: parts.LONG_TEXT].splitlines()[:12]).rstrip() + " …"
        whole = parts.labelled_text(f"whole {label.lower()}", text)
    return (
        f'<div style="border-left:3px solid {colour};background:{parts.PANEL};padding:4px 12px 6px;margin-bottom:6px">'
        f'<div style="font-size:11px;{parts.MUTED}">{label}</div>'
        f'<div dir="auto" style="font-size:14px;white-space:pre-wrap;overflow-wrap:break-word">{escape(head)}</div>'
        f"{whole}</div>"
    )


def _line_style(row: Row) -> str:
    return (
        f"position:relative;padding:1px {100 - parts.NAME_SHARE:.0f}% 1px {row.depth * 18}px;"
        "height:22px;white-space:nowrap;cursor:pointer"
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


def _latest(rows: list[Row]) -> list[Row]:
    """Give the rows that a redrawn view has room for: every task if possible, and the latest steps."""
    if len(rows) <= LIVE_ROWS:
        return rows
    tasks = [row for row in rows if row.depth == 0]
    steps = [row for row in rows if row.depth > 0]
    steps.sort(key=lambda row: (row.span.end is None, row.span.start), reverse=True)
    shown = tasks[-LIVE_ROWS // 2 :]
    shown += steps[: LIVE_ROWS - len(shown)]
    kept = {row.span.id for row in shown}
    return [row for row in rows if row.span.id in kept]
