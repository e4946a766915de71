"""The result of a run, as the notebook holds it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from kasal_jupyter.events.event import Event
from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.figures import place_text, rating_text
from kasal_jupyter.kernel.views.rows import spans_within
from kasal_jupyter.kernel.views.view_html import pick_up, render_html, render_live
from kasal_jupyter.kernel.views.view_text import header_line, render_text

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from kasal_jupyter.kernel.runs.artifacts import Artifacts

    # Not for the kernel: jedi, which completes `result.` with Tab, fails on a property whose type it can
    # look up and that is a Literal, and knows nothing of the fields of one that is a pydantic model.
    from kasal_jupyter.schemas.datasets import RatingGiven, Thumb
    from kasal_jupyter.schemas.executions import Calls, Recorded, Status
    from kasal_jupyter.schemas.usage import Usage


_FOR_VIEWS = frozenset({"asked_here", "bundle", "drawn", "drawn_here", "feed", "live_bundle", "server_url"})


class Drawn:
    """What is drawn while a cell waits for it: as the cell's value, it is not drawn again."""

    _drawn_in: int | None = None

    def drawn(self) -> Self:
        """Note that the view stands under this cell already."""
        self._drawn_in = _cell_number()
        return self

    @property
    def drawn_here(self) -> bool:
        """Whether the view stands under the cell that runs now."""
        return self._drawn_in is not None and self._drawn_in == _cell_number()

    def _ipython_display_(self) -> None:
        if self.drawn_here:
            return
        # IPython then asks for the representations.
        raise NotImplementedError


class RunResult(Drawn):
    """A run: what came out of it and what happened in it.

    Shown in a notebook it is the trace, and printed its text. Everything here is of the
    events that have come so far: it grows while a run in the background goes on.

    Parameters
    ----------
    job_id
        The execution's id.
    server_url
        Base URL of the server that keeps the run, for the link to its events; empty where not known.

    Attributes
    ----------
    job_id
        The execution's id.
    trace
        The spans of the run.
    events
        The events of the run, in order.
    frames
        The frames (pandas, polars, pyarrow …) that the notebook's own tools returned, by the tool's name,
        in the order they came. They stay in this kernel: the agent was given a description of each.
    queue_position
        While it waits and is followed: its place in the server's line, counted from 1.
    recorded
        Where an earlier run answers for one that was asked for with ``once``: which, how old it is, and what
        that has saved; else None.
    rating
        What somebody has said of it, as far as it is known here; see :meth:`rate`.
    asked_here
        Whether the cell that waits for the run asks what its agents want to know.

    Examples
    --------
    >>> run = crew.run(topic="tea prices")  # doctest: +SKIP
    >>> run.output, run.cost  # doctest: +SKIP
    ('Tea prices fell 4 % …', 0.015)
    >>> run.spans().groupby("kind").duration.sum()  # doctest: +SKIP
    """

    def __init__(self, job_id: str, server_url: str = "") -> None:
        self.job_id = job_id
        self.trace = Trace(job_id=job_id)
        self.events: list[Event] = []
        self.frames: dict[str, list[Any]] = {}
        self.server_url = server_url
        self.queue_position: int | None = None
        self.recorded: Recorded | None = None
        self.rating: RatingGiven | None = None
        self.asked_here = False
        self._whole: str | None = None
        # The events may come in another thread than the one that looks at them.
        self._lock = threading.RLock()

    def __dir__(self) -> list[str]:
        """Give what Tab offers: nothing that only the views use."""
        return [name for name in super().__dir__() if name not in _FOR_VIEWS]

    def feed(self, event: Event) -> None:
        """Take in the next event."""
        with self._lock:
            self.events.append(self.trace.feed(event))

    @property
    def crew(self) -> str:
        """The crew's name; empty before the run's first event."""
        return self.trace.summary.crew_name

    @property
    def status(self) -> Status:
        """``queued``, ``running``, ``completed``, ``failed``, ``stopped`` or ``interrupted``."""
        return self.trace.summary.status

    @property
    def output(self) -> str | None:
        """The crew's final answer, whole; of a :attr:`partial` run, what it had; None where there is none.

        Of a very long one the run's events, and so its views, have the beginning alone: the server is asked
        for the rest, once.

        Raises
        ------
        KasalError
            The server that keeps the rest cannot be reached, or has deleted the run.
        """
        summary = self.trace.summary
        if summary.result_file is None:
            return summary.result if summary.result is not None else summary.partial_result
        if self._whole is None:
            from kasal_jupyter.kernel.session import the_session

            self._whole = the_session().client.result(self.job_id).result
        return self._whole

    @property
    def partial(self) -> bool:
        """Whether the run ended before its time: ``output`` is then what its last task that was done gave."""
        return self.trace.summary.ended and self.status != "completed"

    @property
    def usage(self) -> Usage:
        """Tokens, calls and cost."""
        return self.trace.summary.usage()

    @property
    def cost(self) -> float | None:
        """US dollars; None as soon as the price or the tokens of one model call are unknown."""
        return self.trace.summary.cost

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while the run goes on."""
        return self.trace.summary.duration

    @property
    def tasks(self) -> list[Span]:
        """The spans of the tasks, in the order they began."""
        return list(self.trace.roots)

    def df(self) -> pd.DataFrame:
        """Give one row a task, those that did not begin last.

        Returns
        -------
        pandas.DataFrame
            ``task``, ``agent``, ``state``, ``start`` (UTC), ``duration`` (seconds), ``prompt_tokens``,
            ``completion_tokens``, ``tokens``, ``cost`` (US dollars; missing where unknown), ``llm_calls``,
            ``tool_calls``, ``result``, ``error``.

        Raises
        ------
        CellError
            pandas is not installed in this kernel.
        """
        with self._lock:
            return task_table(self.trace)

    def spans(self) -> pd.DataFrame:
        """Give one row a span: a task, an agent's work on it, a model call, a tool call.

        Returns
        -------
        pandas.DataFrame
            ``span_id``, ``parent_id``, ``depth``, ``kind``, ``name``, ``task``, ``agent``, ``model``,
            ``tool``, ``state``, ``start`` (UTC), ``duration`` (seconds), ``prompt_tokens``,
            ``completion_tokens``, ``tokens``, ``cost`` (US dollars; missing where unknown), ``arguments``,
            ``messages``, ``result``, ``text``, ``error``; parents before what is in them. Tokens and cost
            are of a span and all below it.

        Raises
        ------
        CellError
            pandas is not installed in this kernel.
        """
        with self._lock:
            return span_table(self.trace)

    @property
    def calls(self) -> Calls:
        """How many calls an earlier run's record has answered, how many were made, and what that saved."""
        return self.trace.summary.answers.calls()

    def artifacts(self) -> Artifacts:
        """Give the files that the run has written so far, with what reads and saves them.

        Raises
        ------
        KasalError
            The server that keeps them cannot be reached, or has deleted the run.
        """
        from kasal_jupyter.kernel.runs.artifacts import artifacts_of
        from kasal_jupyter.kernel.session import the_session

        return artifacts_of(the_session().client, self.job_id)

    def rate(self, thumb: Thumb, answer: str | None = None, *, note: str | None = None) -> RunResult:
        """Say whether its answer is good, and what it should have been; see :func:`kasal_jupyter.rate`."""
        from kasal_jupyter.kernel.runs.ratings import rate

        self.rating = rate(self.job_id, thumb, answer, note=note)
        return self

    def to_json(self) -> str:
        """Give the run as JSON: its id, crew, state, output, figures and events.

        Raises
        ------
        KasalError
            The output is very long, and the server that keeps all of it cannot be reached.
        """
        return json.dumps(
            {
                "job_id": self.job_id,
                "crew": self.crew,
                "status": self.status,
                "output": self.output,
                "duration": self.duration,
                "usage": self.usage.model_dump(),
                "events": list(self.events),
            },
            ensure_ascii=False,
        )

    def to_otel(self, *, content: bool = True) -> dict[str, Any]:
        """Give the run as OpenTelemetry spans, in the names of the GenAI semantic conventions.

        Parameters
        ----------
        content
            Whether messages, arguments and results are in it, and not the figures alone.

        Returns
        -------
        dict
            A ``resourceSpans`` document: as JSON it is what an OTLP/HTTP collector takes at
            ``/v1/traces``. A run has the same ids at every export.
        """
        from kasal_jupyter.kernel.runs.otel import otel_document

        with self._lock:
            return otel_document(self.trace, self.events, content=content)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the trace, whole, as one HTML page that needs nothing else.

        Returns
        -------
        pathlib.Path
            Where it is.

        Raises
        ------
        CellError
            It could not be written there.
        """
        from kasal_jupyter.kernel.views.view_html import save_page

        with self._lock:
            return save_page(self.trace, path)

    def bundle(self) -> dict[str, Any]:
        """Give the trace in every form that a notebook may show, in less than 2 MB."""
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def live_bundle(self, now: float, remark: str = "") -> dict[str, Any]:
        """Give the running trace in small: several such are sent a second."""
        with self._lock:
            position = self.queue_position if self.status == "queued" else None
            place = "" if position is None else f"  {place_text(position)}"
            head = f"{header_line(self.trace, now)}{place}"
            text = "\n".join([head, *filter(None, [remark]), pick_up(self.job_id)])
            html = render_live(self.trace, now, position=position, remark=remark, asked_here=self.asked_here)
            return {"text/html": html, "text/plain": text}

    def __repr__(self) -> str:
        with self._lock:
            return render_text(self.trace, rating=rating_text(self.rating))

    def _repr_html_(self) -> str:
        with self._lock:
            return render_html(self.trace, server_url=self.server_url, rating=rating_text(self.rating))


def _cell_number() -> int | None:
    """Give the number of the cell that runs; None where there is no notebook."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return None if shell is None else int(shell.execution_count)


class RunFailed(CellError):
    """A run that ended otherwise than completed.

    Attributes
    ----------
    result
        The run, with its trace, as far as it is known here.
    """

    result: RunResult | None = None


# -- tables ---------------------------------------------------------------------------------------------

# Runs as tables: one row a run, and of one run one row a task, or one row a span.

_TABLE_TYPES = {
    "span_id": "int64",
    "parent_id": "Int64",
    "depth": "int64",
    "progress": "int64",
    "duration": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "tokens": "int64",
    "cost": "float64",
    "llm_calls": "int64",
    "tool_calls": "int64",
}
"""The types of the columns that hold figures: also of a run that has none yet."""

_TASK_COLUMNS = (
    *("task", "agent", "state", "start", "duration", "prompt_tokens", "completion_tokens", "tokens", "cost"),
    *("llm_calls", "tool_calls", "result", "error"),
)
_SPAN_COLUMNS = (
    *("span_id", "parent_id", "depth", "kind", "name", "task", "agent", "model", "tool", "state", "start"),
    *("duration", "prompt_tokens", "completion_tokens", "tokens", "cost", "arguments", "messages"),
    *("result", "text", "error"),
)


def task_table(trace: Trace) -> pd.DataFrame:
    """Give one row a task: those that ran in the order they began, then those that did not.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    # The crew's planner is none.
    tasks = [span for span in trace.roots if span.kind == "task"]
    begun = {span.opened.get("task_id") for span in tasks}
    rows = [_task_row(span) for span in tasks]
    states = trace.summary.task_states
    rows += [
        {
            **dict.fromkeys(_TASK_COLUMNS),
            "task": task["title"],
            "agent": task["agent"],
            "state": states.get(task["id"], "created"),
            **dict.fromkeys(("prompt_tokens", "completion_tokens", "tokens", "llm_calls", "tool_calls"), 0),
            "cost": 0.0,
        }
        for task in trace.queued.get("tasks", ())
        if task["id"] not in begun
    ]
    return table_of(rows, _TASK_COLUMNS)


def span_table(trace: Trace) -> pd.DataFrame:
    """Give one row a span, in the order they began, parents first.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    return table_of([_span_row(span, depth) for depth, span in trace.walk()], _SPAN_COLUMNS)


def _figures(span: Span) -> dict[str, Any]:
    return {
        "state": span.state,
        "start": span.opened["time"],
        "duration": span.duration,
        "prompt_tokens": span.prompt_tokens,
        "completion_tokens": span.completion_tokens,
        "tokens": span.total_tokens,
        "cost": span.cost,
        "error": span.error,
    }


def _task_row(span: Span) -> dict[str, Any]:
    kinds = [inner.kind for inner in spans_within(span)]
    return {
        **_figures(span),
        "task": span.name,
        "agent": span.agent,
        "llm_calls": kinds.count("llm"),
        "tool_calls": kinds.count("tool"),
        "result": span.closed.get("result"),
    }


def _span_row(span: Span, depth: int) -> dict[str, Any]:
    model = span.kind == "llm"
    return {
        **_figures(span),
        "span_id": span.id,
        "parent_id": span.parent_id,
        "depth": depth,
        "kind": span.kind,
        "name": span.name,
        "task": span.task,
        "agent": span.agent,
        "model": span.name if model else None,
        "tool": span.name if span.kind == "tool" else None,
        "arguments": span.opened.get("arguments"),
        "messages": span.opened.get("messages"),
        "result": span.closed.get("result"),
        "text": (span.closed.get("text") or span.text or None) if model else None,
    }


def table_of(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    """Make a table; whatever a column holds stays what it is."""
    try:
        import pandas as pd
    except ImportError:
        raise CellError(
            "A DataFrame needs pandas, which is not installed in this kernel: %pip install pandas"
        ) from None
    # By column: from rows, pandas would make a date or a number of what an agent happened to say.
    table = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in columns})
    for name in {"start", "created"}.intersection(columns):
        table[name] = pd.to_datetime(table[name], utc=True, format="ISO8601")
    return table.astype({name: kind for name, kind in _TABLE_TYPES.items() if name in columns})


def inputs_again(
    job_id: str, inputs: Mapping[str, Any], changes: Mapping[str, Any], word: str = "run --again"
) -> dict[str, Any]:
    """Give a run's inputs for the next, with some changed; ``word`` is what that is asked for by.

    Raises
    ------
    CellError
        One was a frame, of which nothing but its description is known.
    """
    from kasal_jupyter.kernel.frames.frames import is_card

    given = {**inputs, **changes}
    for name, value in given.items():
        if name not in changes and is_card(value, name):
            raise CellError(
                f"{name} was a frame of a notebook, of which {job_id} had a description and tools; give it "
                f"again: %kasal {word} {job_id} {name}=…"
            )
    return given
