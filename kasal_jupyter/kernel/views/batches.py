"""A batch as it goes on and as it has ended: a bar, what its rows do, what they cost, and which failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kasal_jupyter.client.connection import print_line
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import cost_text, counted, duration_text
from kasal_jupyter.kernel.views.html_parts import (
    BLUE,
    CARD,
    GREY,
    MUTED,
    NO_FORMULAS,
    ORANGE,
    PANEL,
    RED,
    SMALL,
    STATUS_COLOURS,
    STATUS_STYLES,
    TRACK,
    hidden,
    separator,
)
from kasal_jupyter.kernel.views.live import REDRAW_SECONDS
from kasal_jupyter.kernel.views.rows import STATUS_MARKS
from kasal_jupyter.schemas.base import parse_time
from kasal_jupyter.schemas.batches import FINISHED

if TYPE_CHECKING:
    from kasal_jupyter.kernel.runs.batches import BatchResult
    from kasal_jupyter.schemas.batches import Batch, BatchRow, BatchState

MARKS: dict[BatchState, str] = {
    "running": STATUS_MARKS["running"],
    "paused": "⏸\N{VARIATION SELECTOR-15}",
    "completed": STATUS_MARKS["completed"],
    "stopped": STATUS_MARKS["stopped"],
    "failed": STATUS_MARKS["failed"],
}

_STYLES: dict[BatchState, str] = {
    "running": STATUS_STYLES["running"],
    "paused": f"color:{ORANGE}",
    "completed": STATUS_STYLES["completed"],
    "stopped": STATUS_STYLES["stopped"],
    "failed": STATUS_STYLES["failed"],
}

MOST_FAILED = 20
"""Rows that have failed and that a view lists."""

_REASON = f"margin-top:6px;padding:3px 9px;border-left:3px solid {ORANGE};background:{PANEL}"

BAR = 24
"""Characters of the bar in text."""

# -- figures ----------------------------------------------------------------------------------------------


def done_rows(batch: Batch) -> int:
    """Give how many rows are done, with whatever came of them."""
    counts = batch.counts
    return counts.completed + counts.shared + counts.failed + counts.stopped


def share(batch: Batch) -> float:
    """Give the share of the rows that are done."""
    return done_rows(batch) / batch.total if batch.total else 1.0


def took(batch: Batch) -> float | None:
    """Give the seconds from a batch's beginning to its end; None before that."""
    if batch.ended_at is None:
        return None
    return (parse_time(batch.ended_at) - parse_time(batch.created_at)).total_seconds()


def rows_text(batch: Batch) -> str:
    """Write how many rows are done: ``42 of 100 rows``, ``100 rows``."""
    done = done_rows(batch)
    rows = counted(batch.total, "row")
    return rows if done == batch.total else f"{done:,} of {rows}"


def counts_text(batch: Batch) -> str:
    """Write what the rows do: ``40 completed · 2 failed · 8 running · 50 waiting``."""
    counts = batch.counts
    said = [
        f"{number:,} {word}"
        for word, number in (
            ("completed", counts.completed),
            ("shared", counts.shared),
            ("failed", counts.failed),
            ("stopped", counts.stopped),
            ("running", counts.running),
            ("waiting", counts.waiting),
        )
        if number
    ]
    return " · ".join(said)


def rate_text(rate: float) -> str:
    """Write how quickly rows are done: ``12.4 rows a second``, ``3.2 rows a minute``."""
    if rate >= 0.95:
        return f"{rate:,.1f} rows a second"
    return f"{rate * 60:,.1f} rows a minute" if rate * 60 >= 0.95 else f"{rate * 3600:,.1f} rows an hour"


def pace_text(batch: Batch) -> str:
    """Write how quickly a batch goes on, and how long it may take; of one that is over, what it took."""
    seconds = took(batch)
    if seconds is not None:
        ran = done_rows(batch) - batch.counts.stopped
        rate = f" · {rate_text(ran / seconds)}" if seconds > 0 and ran > 1 else ""
        return f"{roughly_text(seconds)}{rate}"
    parts = [rate_text(batch.rate)] if batch.rate else []
    if batch.status == "running" and batch.seconds_left is not None:
        parts.append(f"about {roughly_text(batch.seconds_left)} left")
    return " · ".join(parts)


def roughly_text(seconds: float) -> str:
    """Write a duration that is a guess, without the tenths of a second that it does not know."""
    return (
        "1 s"
        if seconds < 1
        else duration_text(seconds).replace(".0 s", " s")
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def spent_text(batch: Batch) -> str:
    """Write what a batch has cost, and may: ``$0.4200, about $1.00 in all, budget $5.00 · 12,400 tokens``."""
    parts = [cost_text(batch.cost) if batch.cost is not None else "cost unknown"]
    forecast = batch.forecast_cost
    if forecast and batch.status in {"running", "paused"} and (batch.cost is None or forecast > batch.cost):
        parts.append(f"about {cost_text(forecast)} in all")
    if batch.budget is not None and batch.budget.max_cost is not None:
        parts.append(f"budget {cost_text(batch.budget.max_cost)}")
    tokens = f" · {counted(batch.tokens, 'token')}" if batch.tokens else ""
    return f"{', '.join(parts)}{tokens}"


def title_text(batch: Batch) -> str:
    """Name a batch: by its name, where it has one, and its crew."""
    crew = one_line(batch.crew_name, 80)
    return f"{one_line(batch.name, 80)} · {crew}" if batch.name and batch.name != batch.crew_name else crew


def reason_text(batch: Batch) -> str:
    """Say why a batch stands still; nothing where it does not."""
    return one_line(f"{batch.reason.code}: {batch.reason.message}", 400) if batch.reason is not None else ""


def is_spent(batch: Batch) -> bool:
    """Say whether a batch stands still because its budget is used up."""
    return batch.status == "paused" and batch.reason is not None and batch.reason.code == "BUDGET_EXCEEDED"


def way_on(batch: Batch) -> str:
    """Say how to go on with a batch, or with what of it failed; nothing where nothing is left."""
    if is_spent(batch):
        return f"run the cell again with a larger budget, or %kasal batches resume {batch.id} --budget N"
    if batch.status in {"paused", "stopped", "failed"}:
        return f"run the cell again to go on, or %kasal batches resume {batch.id}"
    if batch.status == "completed" and batch.counts.failed:
        return f"--retry-failed does only those that failed, as %kasal batches retry {batch.id} does"
    return ""


# -- text ---------------------------------------------------------------------------------------------------


def bar_text(batch: Batch, width: int = BAR) -> str:
    """Draw how much of a batch is done: ``█████▒░░░░ 42 %``."""
    # What is not all is never drawn full.
    full = width if done_rows(batch) == batch.total else min(int(share(batch) * width), width - 1)
    runs = min(width - full, round(batch.counts.running / max(batch.total, 1) * width))
    return f"{'█' * full}{'▒' * runs}{'░' * (width - full - runs)} {percent(batch)} %"


def percent(batch: Batch) -> int:
    """Give how much of a batch is done, in whole percent: 100 only for all of it."""
    return int(100 * share(batch))


def line_text(batch: Batch) -> str:
    """Write a batch on one line."""
    parts = [
        f"{MARKS[batch.status]} {batch.status}",
        f"{percent(batch)} %",
        rows_text(batch),
        f"{batch.counts.failed:,} failed" if batch.counts.failed else "",
        pace_text(batch),
        spent_text(batch),
    ]
    return "  ".join(each for each in parts if each)


def text_of(batch: Batch, failed: Sequence[BatchRow] = (), remark: str | None = None) -> str:
    """Give a batch as text: what a terminal shows, and a notebook that takes no HTML."""
    lines = [
        f"{title_text(batch)}  {MARKS[batch.status]} {batch.status}  {batch.id}",
        f"{bar_text(batch)}  {rows_text(batch)}",
        " · ".join(filter(None, [counts_text(batch), pace_text(batch)])),
        spent_text(batch),
        reason_text(batch),
        *(_failed_line(row) for row in failed[:MOST_FAILED]),
        _more_failed(batch, failed),
        way_on(batch) if remark is None else remark,
    ]
    return "\n".join(filter(None, lines))


def _failed_line(row: BatchRow) -> str:
    return f"✖ row {row.index:,}  {one_line(row.failure or row.status, 200)}  {row.job_id or ''}".rstrip()


def _more_failed(batch: Batch, failed: Sequence[BatchRow]) -> str:
    shown = min(len(failed), MOST_FAILED)
    more = batch.counts.failed - shown
    return f"and {counted(more, 'row')} more failed" if shown and more > 0 else ""


# -- HTML ---------------------------------------------------------------------------------------------------


def html_of(batch: Batch, failed: Sequence[BatchRow] = (), remark: str | None = None) -> str:
    """Draw a batch: made of what JupyterLab's sanitiser keeps; without any style its lines are sentences.

    Parameters
    ----------
    batch
        The batch.
    failed
        Rows that have failed; some of them are listed.
    remark
        What is said in the place of how to go on.
    """
    title = escape(title_text(batch))
    state = f"{MARKS[batch.status]} {batch.status}"
    details = [each for each in (counts_text(batch), pace_text(batch), spent_text(batch)) if each]
    reason = reason_text(batch)
    told = way_on(batch) if remark is None else remark
    return (
        f'<div {NO_FORMULAS} style="{CARD}" role="group" aria-label="Batch {title}">'
        f'<div><span style="font-weight:600;font-size:15px">{title}</span>&emsp;{separator()}'
        f'<span style="font-weight:600;{_STYLES[batch.status]}">{escape(state)}</span>&emsp;{separator()}'
        f"<span>{escape(rows_text(batch))}</span>&emsp;{separator()}"
        f'<span style="{SMALL}">{escape(batch.id)}</span></div>'
        f"{_bar(batch)}"
        f'<div style="font-size:12px">{separator(" · ").join(_fact(each) for each in details)}</div>'
        + (f'<div style="{_REASON}">{escape(reason)}</div>' if reason else "")
        + _failed_html(batch, failed)
        + (f'<div style="margin-top:6px;{SMALL}">{escape(told)}</div>' if told else "")
        + "</div>"
    )


def _fact(text: str) -> str:
    return f'<span style="{MUTED};margin-right:22px">{escape(text)}</span>'


def _bar(batch: Batch) -> str:
    """Draw the bar: what is completed, what failed, what runs."""
    counts = batch.counts
    parts = (
        ("completed", counts.completed + counts.shared, STATUS_COLOURS["completed"]),
        ("failed", counts.failed, RED),
        ("stopped", counts.stopped, GREY),
        ("running", counts.running, f"{BLUE}66"),
    )
    drawn = "".join(
        f'<div style="display:inline-block;vertical-align:top;height:10px;background:{colour};'
        f'width:{100 * number / batch.total:.2f}%" title="{number:,} {word}"></div>'
        for word, number, colour in parts
        if number and batch.total
    )
    return (
        f'<div style="height:10px;margin:9px 0 8px;border-radius:5px;overflow:hidden;font-size:0;'
        f'background:{TRACK}" role="progressbar" aria-valuemin="0" aria-valuemax="{batch.total}" '
        f'aria-valuenow="{done_rows(batch)}">{hidden(f"{percent(batch)} %")}{drawn}</div>'
    )


def _failed_html(batch: Batch, failed: Sequence[BatchRow]) -> str:
    if not failed:
        return ""
    rows = "".join(
        f'<div style="margin:3px 0;padding-left:9px;border-left:3px solid {RED}">'
        f'<span style="font-weight:600">row {row.index:,}</span>&emsp;{separator()}'
        f"{escape(one_line(row.failure or row.status, 300))}"
        f'<span style="{SMALL}">&emsp;{separator()}{escape(row.job_id or "")}</span></div>'
        for row in failed[:MOST_FAILED]
    )
    more = _more_failed(batch, failed)
    return (
        f'<details style="margin-top:8px"><summary style="cursor:pointer;font-size:12px;color:{RED}">'
        f"{counted(batch.counts.failed or len(failed), 'row')} failed</summary>"
        f'<div style="font-size:12px">{rows}{f"<div>{escape(more)}</div>" if more else ""}</div></details>'
    )


# -- views that go on ---------------------------------------------------------------------------------------


class BatchView(Protocol):
    """What shows a batch while it goes on."""

    def show(self, batch: Batch) -> None:
        """Show how it stands, in time."""

    def tick(self) -> None:
        """Show what was held back, if it is time to."""

    def end(self, bundle: dict[str, Any]) -> None:
        """Show how it has ended: what stays."""

    def cut_off(self, reason: str) -> None:
        """Show that nothing more will come, though the batch may go on."""


def view_of(result: BatchResult) -> BatchView:
    """Give the view that this IPython can show: a terminal's past cannot be redrawn."""
    from IPython.core.getipython import get_ipython

    return LiveBatch(result.batch) if hasattr(get_ipython(), "kernel") else PrintedBatch()


class LiveBatch:
    """A batch under a display id, redrawn at most eight times a second.

    The output's metadata, ``{"kasal": {"batch_id": …}}``, tell which batch it shows, in the saved file too.

    Parameters
    ----------
    batch
        How it stands as this begins.
    """

    def __init__(self, batch: Batch) -> None:
        from IPython.display import display

        self._batch = batch
        self._about = {"kasal": {"batch_id": batch.id}}
        self._drawn_at = time.monotonic()
        self._waits = False
        self._handle: Any = display(  # type: ignore[no-untyped-call]
            self._bundle(), raw=True, display_id=True, metadata=self._about
        )

    def show(self, batch: Batch) -> None:
        """Show how it stands, now or with the next tick."""
        self._batch, self._waits = batch, True
        self.tick()

    def tick(self) -> None:
        """Redraw, where something has changed and the latest drawing is old enough."""
        if self._waits and time.monotonic() - self._drawn_at >= REDRAW_SECONDS:
            self._draw(self._bundle())

    def end(self, bundle: dict[str, Any]) -> None:
        """Show how it has ended."""
        self._draw(bundle)

    def cut_off(self, reason: str) -> None:
        """Say why nothing more will come; what was seen so far stays."""
        self._draw(self._bundle(reason))

    def _bundle(self, remark: str | None = None) -> dict[str, Any]:
        return {
            "text/html": html_of(self._batch, remark=remark),
            "text/plain": text_of(self._batch, remark=remark),
        }

    def _draw(self, bundle: dict[str, Any]) -> None:
        if self._handle is not None:
            self._handle.update(bundle, raw=True, metadata=self._about)
        self._drawn_at = time.monotonic()
        self._waits = False


class PrintedBatch:
    """A batch as lines, for IPython in a terminal, a file or a pipe: one for each tenth that is done.

    Parameters
    ----------
    say
        Prints a line.
    """

    def __init__(self, say: Callable[[str], object] = print_line) -> None:
        self._say = say
        self._told: tuple[str, int] | None = None

    def show(self, batch: Batch) -> None:
        """Print a line, where a tenth of it has been done since the last."""
        now = (batch.status, int(10 * share(batch)))
        if now != self._told and batch.status not in FINISHED:
            self._told = now
            self._say(line_text(batch))

    def tick(self) -> None:
        """Do nothing: a line that is printed stays."""

    def end(self, bundle: dict[str, Any]) -> None:
        """Print how it has ended."""
        self._say(bundle["text/plain"])

    def cut_off(self, reason: str) -> None:
        """Print why nothing more will come."""
        self._say(reason)
