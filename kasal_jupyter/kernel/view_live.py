"""The trace of a run that goes on, as HTML: small, and drawn in little time, for it is drawn often.

Nothing in it opens: the next redraw would close it. It holds what runs, what came last, and the tasks.
"""

from __future__ import annotations

from kasal_jupyter.kernel import html_rows
from kasal_jupyter.kernel.clean import escape
from kasal_jupyter.kernel.figures import counted, span_cost_text
from kasal_jupyter.kernel.html_head import crew_title, header, outcome, progress, questions
from kasal_jupyter.kernel.html_parts import CARD, MUTED, SMALL
from kasal_jupyter.kernel.rows import Row, build_rows
from kasal_jupyter.kernel.selection import latest_choice
from kasal_jupyter.schemas.trace import Trace

LIVE_ROWS = 40
"""Steps that are drawn: with more, a redraw takes the time and the channel that other cells need."""
LIVE_TAIL = 240
"""Characters of a growing answer that are shown."""


def render_live(trace: Trace, now: float | None = None, *, asked_here: bool = False) -> str:
    """Draw a run that goes on.

    Parameters
    ----------
    trace
        What is known of the run so far.
    now
        Seconds since the run's first event; its latest event's where not given.
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
        f'<div class="tex2jax_ignore mathjax_ignore" style="{CARD}" role="group" aria-busy="true" '
        f'aria-live="off" aria-label="Trace of {crew_title(trace)}">'
    )
    html = [
        card,
        header(trace, axis.now, live=True),
        progress(trace),
        questions(trace, here=asked_here),
        outcome(trace, most=0),
    ]
    if rows:
        costs = any(span_cost_text(root) for root in trace.roots)
        html += [f'<div style="overflow-x:auto"><div style="{html_rows.TREE}">']
        html += [html_rows.axis_line(axis, costs=costs), *(_row(row, axis) for row in rows), "</div></div>"]
    else:
        html.append(f'<div style="{MUTED};padding-top:6px">Waiting for the first task …</div>')
    shown = sum(1 if row.work is None else 2 for row in rows)
    if (missing := len(trace.spans) - shown) > 0:
        html.append(
            f'<div style="{SMALL};padding:6px 0 0 18px">… {counted(missing, "earlier step")} '
            "will be here when the run is over</div>"
        )
    html.append("</div>")
    return "".join(html)


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
