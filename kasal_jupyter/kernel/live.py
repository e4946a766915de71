"""The live trace under a cell: redrawn as events come, static when the run is over."""

from __future__ import annotations

import time

from IPython.display import display

from kasal_jupyter.kernel.result import RunResult, bundle
from kasal_jupyter.schemas.events import Event

REDRAW_SECONDS = 0.2
"""Least time between two redraws: the kernel's output channel takes 1,000 messages a second in all."""


class LiveView:
    """A run's trace under a display id, which goes on to work from another thread or a later cell.

    Parameters
    ----------
    result
        The run; events that are fed here are fed there.
    """

    def __init__(self, result: RunResult) -> None:
        self.result = result
        self._began = time.monotonic()
        self._drawn_at = 0.0
        self._handle = display({"text/plain": "Starting …"}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def feed(self, event: Event) -> None:
        """Take in the next event, and redraw unless that was done just now."""
        self.result.feed(event)
        if self.result.trace.summary.ended:
            self._draw(live=False)
        else:
            self.tick()

    def tick(self) -> None:
        """Redraw if it is time: elapsed times go on where no event comes."""
        if time.monotonic() - self._drawn_at >= REDRAW_SECONDS:
            self._draw(live=True)

    def _draw(self, *, live: bool) -> None:
        if self._handle is not None:
            now = time.monotonic() - self._began if live else None
            self._handle.update(bundle(self.result.trace, live=live, now=now), raw=True)
        self._drawn_at = time.monotonic()
