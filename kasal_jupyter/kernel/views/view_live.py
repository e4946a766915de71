"""The trace of a run that goes on, as HTML: small, and drawn in little time, for it is drawn often.

Nothing in it opens: the next redraw would close it. It holds what runs, what came last, and the tasks, those
that have not begun as well. Each may be the last that is drawn, and then stays in the saved notebook.
"""

from __future__ import annotations

from kasal_jupyter.events.event import TaskPlan
from kasal_jupyter.events.trace import Trace
from kasal_jupyter.kernel.views import html_rows
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import counted, place_text, span_cost_text
from kasal_jupyter.kernel.views.html_parts import CARD, MUTED, NO_FORMULAS, SMALL, hidden
from kasal_jupyter.kernel.views.rows import Row, build_rows, latest_choice
from kasal_jupyter.kernel.views.view_html import crew_title, header, outcome, pick_up, progress, questions

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
