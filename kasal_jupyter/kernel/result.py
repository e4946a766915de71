"""The result of a run, as the notebook holds it."""

from __future__ import annotations

import json
from typing import Any

from kasal_jupyter.kernel.view_html import render_html
from kasal_jupyter.kernel.view_text import header_line, render_text
from kasal_jupyter.schemas.events import Event
from kasal_jupyter.schemas.executions import Status, Usage
from kasal_jupyter.schemas.trace import Span, Trace


class RunResult:
    """A run: what came out of it and what happened in it.

    Parameters
    ----------
    job_id
        The execution's id.

    Attributes
    ----------
    trace
        The spans of the run; it grows while a run in the background goes on.
    events
        The events of the run, in order.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.trace = Trace(job_id=job_id)
        self.events: list[Event] = []
        self._drawn_in: int | None = None

    def feed(self, event: Event) -> None:
        """Take in the next event."""
        self.events.append(event)
        self.trace.feed(event)

    @property
    def status(self) -> Status:
        """``queued``, ``running``, ``completed``, ``failed``, ``stopped`` or ``interrupted``."""
        return self.trace.summary.status

    @property
    def output(self) -> str | None:
        """The crew's final answer; None where there is none (yet)."""
        return self.trace.summary.result

    @property
    def usage(self) -> Usage:
        """Tokens and calls."""
        return self.trace.summary.usage()

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while the run goes on."""
        return self.trace.summary.duration

    @property
    def tasks(self) -> list[Span]:
        """The spans of the tasks, in the order they began."""
        return list(self.trace.roots)

    def to_json(self) -> str:
        """Give the run as JSON: its id, state, output, figures and events."""
        return json.dumps(
            {
                "job_id": self.job_id,
                "status": self.status,
                "output": self.output,
                "duration": self.duration,
                "usage": self.usage.model_dump(),
                "events": self.events,
            },
            ensure_ascii=False,
        )

    def drawn(self) -> RunResult:
        """Note that the view stands under this cell already: as the cell's value it is not drawn again."""
        self._drawn_in = _cell_number()
        return self

    def __repr__(self) -> str:
        return render_text(self.trace)

    def _repr_html_(self) -> str:
        return render_html(self.trace)

    def _ipython_display_(self) -> None:
        if self._drawn_in is not None and self._drawn_in == _cell_number():
            return
        # IPython then asks for the representations above.
        raise NotImplementedError


def bundle(trace: Trace) -> dict[str, Any]:
    """Give a trace in every form that a notebook may show."""
    return {"text/html": render_html(trace), "text/plain": render_text(trace)}


def live_bundle(trace: Trace, now: float) -> dict[str, Any]:
    """Give a running trace in small: several such are sent a second."""
    return {"text/html": render_html(trace, live=True, now=now), "text/plain": header_line(trace, now)}


def _cell_number() -> int | None:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return None if shell is None else int(shell.execution_count)
