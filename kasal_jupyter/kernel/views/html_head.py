"""The top of the HTML trace: how the run stands, in figures and words, and what came out of it."""

from __future__ import annotations

from kasal_jupyter.events.trace import Trace
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import (
    counted,
    duration_text,
    lineage_text,
    moment_text,
    run_cost_text,
    run_figures,
    second_text,
)
from kasal_jupyter.kernel.views.html_parts import (
    BLUE,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    STATUS_COLOURS,
    STATUS_STYLES,
    TRACK,
    separator,
)
from kasal_jupyter.kernel.views.html_texts import labelled_text
from kasal_jupyter.kernel.views.markdown import answer_html, plain_html
from kasal_jupyter.kernel.views.rows import (
    KEPT_MARK,
    STATUS_MARKS,
    elapsed_text,
    how_to_answer,
    how_to_get_all,
    memories_text,
    run_start,
    stored_note,
)


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
        f'<div style="{SMALL}">{escape(how_to_answer(trace.job_id, asked.choices, here=here))}</div></div>'
        for asked in list(trace.summary.questions.values())
    )


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
