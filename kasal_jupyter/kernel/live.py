"""The live trace under a cell: redrawn as events come, static when the run is over."""

from __future__ import annotations

import time
from typing import Protocol

from kasal_jupyter.kernel.result import RunResult, bundle, live_bundle
from kasal_jupyter.kernel.view_lines import LineView
from kasal_jupyter.schemas.events import Event

REDRAW_SECONDS = 0.2
"""Least time between two redraws: the kernel's output channel takes a megabyte a second in all."""

DRAWING_SHARE = 0.1
"""Most of the kernel's time that redraws take: those of a run of thousands of steps come less often."""

IDLE_SECONDS = 1.0
"""Time between two redraws while nothing happens but that time goes on."""


class View(Protocol):
    """What shows a run while it goes on."""

    def feed(self, event: Event) -> None:
        """Take in the next event, and show it in time."""

    def tick(self) -> None:
        """Go on with the times where no event comes."""


def view_of(result: RunResult) -> View:
    """Give the view that this IPython can show: a terminal's past cannot be redrawn."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return LiveView(result) if hasattr(shell, "kernel") else PrintedView(result)


class LiveView:
    """A run's trace under a display id, which goes on to work from another thread or a later cell.

    Parameters
    ----------
    result
        The run; events that are fed here are fed there.
    """

    def __init__(self, result: RunResult) -> None:
        from IPython.display import display

        self.result = result
        self._fed_at = time.monotonic()
        self._drawn_at = 0.0
        self._cost = 0.0
        self._handle = display({"text/plain": "Starting …"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def feed(self, event: Event) -> None:
        """Take in the next event, and redraw unless that was done just now."""
        self.result.feed(event)
        self._fed_at = time.monotonic()
        if self.result.trace.summary.ended:
            self._update(bundle(self.result.trace))
        else:
            self.tick()

    def tick(self) -> None:
        """Redraw if it is time: at once for an event, now and then for the time that goes on."""
        now = time.monotonic()
        wait = max(
            REDRAW_SECONDS if self._fed_at > self._drawn_at else IDLE_SECONDS, self._cost / DRAWING_SHARE
        )
        if now - self._drawn_at >= wait and not self.result.trace.summary.ended:
            # The run's clock is the server's; what has passed since its latest event is the same on ours.
            trace = self.result.trace
            self._update(live_bundle(trace, trace.last_time + now - self._fed_at))
            self._cost = self._drawn_at - now

    def _update(self, shown: dict[str, object]) -> None:
        if self._handle is not None:
            self._handle.update(shown, raw=True)
        self._drawn_at = time.monotonic()


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
        for line in self._lines.feed(event):
            print(line, flush=True)  # noqa: T201 - a terminal is where it is shown

    def tick(self) -> None:
        """Do nothing: a line that is printed stays."""
