"""The live trace under a cell: redrawn as events come, static when the run is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kasal_jupyter.events.event import Event
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.view_html import pick_up
from kasal_jupyter.kernel.views.view_text import LineView

if TYPE_CHECKING:
    from kasal_jupyter.kernel.views.buttons import QuestionButtons
    from kasal_jupyter.schemas.executions import ToolAnswer

REDRAW_SECONDS = 0.12
"""Time between two redraws while events go on coming. Who feeds a view ticks it every 50 ms: an event is seen
within 200 ms.

A redraw is some 40 kB, and the kernel's output channel takes a megabyte and a thousand messages a second in
all before its server holds it up.
"""

BURST = 3
"""Redraws that may follow each other sooner after a pause: the events of a step come within milliseconds, and
only the first of them is in the redraw that it brings about."""

BURST_SECONDS = 0.04
"""Least time between two of these."""

DRAWING_SHARE = 0.1
"""Most of the kernel's time that redraws take: on a slow machine they come less often."""

IDLE_SECONDS = 1.0
"""Time between two redraws while nothing happens but that time goes on."""


def _starting(job_id: str) -> dict[str, str]:
    """Give what stands there before the first event, and stays where that never comes."""
    text = f"Starting {one_line(job_id, 60)} … {pick_up(job_id)}"
    style = "font-family:system-ui,sans-serif;opacity:0.68"
    return {"text/html": f'<div style="{style}">{escape(text)}</div>', "text/plain": text}


class View(Protocol):
    """What shows a run while it goes on."""

    def feed(self, event: Event) -> None:
        """Take in the next event, and show it in time."""

    def tick(self) -> None:
        """Go on with the times where no event comes."""

    def settle(self) -> None:
        """Show the end of the run once more, for the cell that has waited for it."""

    def cut_off(self, reason: str) -> None:
        """Show that nothing more will come, though the run may go on."""


def view_of(result: RunResult) -> View:
    """Give the view that this IPython can show: a terminal's past cannot be redrawn."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return LiveView(result) if hasattr(shell, "kernel") else PrintedView(result)


class LiveView:
    """A run's trace under a display id, which goes on to work from another thread or a later cell.

    It is fed and ticked from one thread at a time. The output's metadata, ``{"kasal": {"job_id": …,
    "seq": …}}``, tell which run it shows, in the saved notebook too, and which event was the latest drawn.

    Parameters
    ----------
    result
        The run; events that are fed here are fed there.
    handle
        The output to draw in, one with a display id; a new one where not given.
    on_end
        Called when the run has ended and that is shown, on the thread that feeds.
    """

    def __init__(
        self, result: RunResult, handle: Any = None, on_end: Callable[[], object] | None = None
    ) -> None:
        from IPython.display import display

        self.result = result
        self._on_end = on_end
        self._fed_at = time.monotonic()
        self._drawn_at = 0.0
        self._burst = float(BURST)
        self._waits = False
        self._cost = 0.0
        self.answering: Callable[[str, ToolAnswer], None] | None = None
        """Sends an answer to a question; where it is given, there are buttons under the view."""
        self._buttons: QuestionButtons | None = None
        about = {"kasal": {"job_id": result.job_id}}
        self._handle = handle
        if handle is not None:
            handle.update(_starting(result.job_id), raw=True, metadata=about)
        else:
            self._handle = display(  # type: ignore[no-untyped-call]
                _starting(result.job_id), raw=True, display_id=True, metadata=about
            )

    def feed(self, event: Event) -> None:
        """Take in the next event, and redraw unless that was done just now."""
        self.result.feed(event)
        self._fed_at = time.monotonic()
        self._waits = True
        if self.result.trace.summary.ended:
            self._update(self.result.bundle())
            if self._on_end is not None:
                on_end, self._on_end = self._on_end, None
                on_end()
        else:
            self.tick()

    def tick(self) -> None:
        """Redraw if it is time: at once for an event, now and then for the time that goes on."""
        now = time.monotonic()
        trace = self.result.trace
        if trace.summary.ended or now - self._drawn_at < self._least(now):
            return
        # The run's clock is the server's; what has passed since its latest event is the same on ours.
        self._update(self.result.live_bundle(trace.last_time + now - self._fed_at))
        self._cost = time.monotonic() - now

    def settle(self) -> None:
        """Show the end once more: what runs notebooks without a page hears the running cell alone.

        The thread that follows a run speaks for the cell that started it, to which nbclient, and so papermill
        and nbconvert, listen no more.
        """
        if not self.result.drawn_here:
            self._update(self.result.bundle())

    def cut_off(self, reason: str) -> None:
        """Say why nothing more will come; what was seen so far stays."""
        self._update(self.result.live_bundle(self.result.trace.last_time, reason))

    def _asked(self, html: str) -> dict[str, Any] | None:
        """Give the buttons for what is asked, which a page shows in the place of the view, with it in them.

        None where they stand there already, and have taken the view in.
        """
        questions = list(self.result.trace.summary.questions.values())
        if not questions or self.answering is None:
            if self._buttons is not None:
                self._buttons.close()
                self._buttons = None
            return {}
        if self._buttons is None:
            try:
                from kasal_jupyter.kernel.views.buttons import QuestionButtons
            except ImportError:
                self.answering = None  # The view says how to answer without.
                return {}
            self._buttons = QuestionButtons(self.answering)
        return self._buttons.show(questions, html)

    def _least(self, now: float) -> float:
        """Give the least time from the latest redraw to the next."""
        if not self._waits:
            return IDLE_SECONDS
        saved = self._burst + (now - self._drawn_at) / REDRAW_SECONDS
        return max(BURST_SECONDS if saved >= 1 else REDRAW_SECONDS, self._cost / DRAWING_SHARE)

    def _update(self, shown: dict[str, Any]) -> None:
        about = {"job_id": self.result.job_id, "seq": self.result.trace.summary.seq}
        asked = self._asked(shown["text/html"])
        if self._handle is not None and asked is not None:
            shown = shown | asked
            self._handle.update(shown, raw=True, metadata={"kasal": about})
        now = time.monotonic()
        self._burst = min(self._burst + (now - self._drawn_at) / REDRAW_SECONDS, BURST) - 1
        self._drawn_at = now
        self._waits = False


class PrintedView:
    """A run's trace as lines, for IPython in a terminal.

    Parameters
    ----------
    result
        The run; events that are fed here are fed there.
    """

    def __init__(self, result: RunResult) -> None:
        from shutil import get_terminal_size

        self.result = result
        self._lines = LineView(get_terminal_size((110, 24)).columns)

    def feed(self, event: Event) -> None:
        """Take in the next event, and print the lines that it finishes."""
        self.result.feed(event)
        self._lines.asked_here = self.result.asked_here
        for line in self._lines.feed(event):
            print(line, flush=True)  # noqa: T201 - a terminal is where it is shown

    def tick(self) -> None:
        """Do nothing: a line that is printed stays."""

    def settle(self) -> None:
        """Do nothing: a line that is printed stays."""

    def cut_off(self, reason: str) -> None:
        """Print why nothing more will come."""
        print(reason, flush=True)  # noqa: T201 - a terminal is where it is shown
