"""The latest runs, as a list of objects: what `%kasal ps` and `kasal.runs()` show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from kasal_jupyter.kernel.cards import Shown
from kasal_jupyter.kernel.clean import escape, one_line
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.figures import cost_text, duration_text, moment_text
from kasal_jupyter.kernel.result import RunResult
from kasal_jupyter.kernel.rows import STATUS_MARKS
from kasal_jupyter.schemas.executions import ENDED, ExecutionError, Status, TraceRow
from kasal_jupyter.schemas.usage import Usage

if TYPE_CHECKING:
    import pandas as pd

    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.schemas.executions import ExecutionStatus

HEADS = ["#", "job", "crew", "status", "inputs", "progress", "time", "tokens", "cost", "created"]

STEP_HEADS = ["#", "time", "agent", "action", "result", "took"]

HINT = (
    "%kasal status 1 shows the first of them, %kasal traces 1 its steps, %kasal run --again 1 repeats it; "
    ".df() gives them as a table"
)

MOST_LISTED = 500
"""Runs of one list, and so the largest number that names one."""


@dataclass(slots=True)
class Run:
    """A run as the server knows it at the moment; it may have been started anywhere.

    Attributes
    ----------
    job_id, crew_id, crew_name, crew_version
        What it is, and of which crew, in which of its versions; None where that is not known.
    status
        ``queued``, ``running``, ``completed``, ``failed``, ``stopped`` or ``interrupted``.
    progress
        Percent of its tasks that are done.
    inputs
        What it was given.
    output
        The crew's final answer; None where there is none (yet).
    error
        Why it failed; None where it did not.
    usage
        Tokens, calls and cost.
    created_at
        When it was asked for, UTC.
    duration
        Seconds from start to end; None while it goes on.
    asks
        Whether an agent waits for an answer; `%kasal answer` shows the question.
    """

    job_id: str
    crew_id: str
    crew_name: str
    crew_version: int | None
    status: Status
    progress: int
    inputs: dict[str, Any]
    output: str | None
    error: ExecutionError | None
    usage: Usage
    created_at: str
    duration: float | None
    asks: bool
    number: int = field(default=0, compare=False)
    """Its place in the list that it is from, counted from 1: `%kasal status 2` means the second."""
    _client: Client = field(kw_only=True, repr=False, compare=False)

    @classmethod
    def of(cls, client: Client, state: ExecutionStatus, number: int = 0) -> Run:
        """Make it of what the API answers."""
        return cls(
            job_id=state.job_id,
            crew_id=state.crew_id,
            crew_name=state.crew_name,
            crew_version=state.crew_version,
            status=state.status,
            progress=state.progress,
            inputs=state.inputs,
            output=state.result,
            error=state.error,
            usage=state.usage,
            created_at=state.created_at,
            duration=state.duration,
            asks=bool(state.questions),
            number=number,
            _client=client,
        )

    def refreshed(self) -> Run:
        """Give the run as it is now."""
        return Run.of(self._client, self._client.execution(self.job_id), self.number)

    def result(self) -> RunResult:
        """Give the run whole, with its trace; one that still goes on is waited for, and drawn meanwhile.

        A run that has ended is given however it ended.

        Raises
        ------
        RunFailed
            It went on, and ended otherwise than completed.
        """
        if self.refreshed().status not in ENDED:
            from kasal_jupyter.kernel.runner import follow

            return follow(self._client, self.job_id)
        result = RunResult(self.job_id, self._client.url)
        for event in self._client.follow(self.job_id):
            result.feed(event)
        return result

    def again(self, *, background: bool = False, **values: Any) -> RunResult:
        """Run its crew, as it is now, once more with the same inputs, and watch it.

        Parameters
        ----------
        background
            Whether to go on at once.
        **values
            Inputs that shall be others. One that was a frame must be given again: the run had its
            description, and tools that are gone.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        CellError
            It cannot run; with everything that keeps it from that.
        """
        from kasal_jupyter.kernel.runner import launch
        from kasal_jupyter.kernel.session import the_session

        inputs = inputs_again(self.job_id, self.inputs, values)
        return launch(
            self._client,
            self._client.crew(self.crew_id),
            inputs,
            background=background,
            on_start=the_session().note_job,
        )

    def stop(self) -> Run:
        """Stop it, and give it as it is then; its processes are gone by then."""
        self._client.stop(self.job_id)
        return self.refreshed()

    def delete(self) -> None:
        """Delete it, with its trace and its files, once it has ended; what it has cost stays in the books."""
        self._client.delete_execution(self.job_id)

    def _cells(self) -> list[str]:
        return [
            str(self.number or ""),
            self.job_id,
            self.crew_name,
            f"{STATUS_MARKS[self.status]} {self.status}{' · waits for an answer' if self.asks else ''}",
            inputs_text(self.inputs),
            f"{self.progress} %",
            duration_text(self.duration) if self.duration is not None else "",
            f"{self.usage.total_tokens:,}",
            cost_text(self.usage.cost) if self.usage.llm_calls else "",
            moment_text(self.created_at),
        ]

    def _repr_html_(self) -> str:
        return Shown("", HEADS, [self._cells()])._repr_html_()


class Runs(Sequence[Run]):
    """The latest runs, newest first: a list that a notebook shows as a table."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)

    @overload
    def __getitem__(self, place: int) -> Run: ...

    @overload
    def __getitem__(self, place: slice) -> Runs: ...

    def __getitem__(self, place: int | slice) -> Run | Runs:
        return Runs(self._runs[place]) if isinstance(place, slice) else self._runs[place]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and self._runs == other._runs

    __hash__ = None  # type: ignore[assignment]

    def df(self) -> pd.DataFrame:
        """Give one row a run.

        Returns
        -------
        pandas.DataFrame
            ``job_id``, ``crew``, ``crew_id``, ``status``, ``progress`` (percent), ``created`` (UTC),
            ``duration`` (seconds; missing while it goes on), ``prompt_tokens``, ``completion_tokens``,
            ``tokens``, ``cost`` (US dollars; missing where unknown), ``llm_calls``, ``tool_calls``,
            ``inputs`` (a dict), ``output``, ``error``.

        Raises
        ------
        CellError
            pandas is not installed in this kernel.
        """
        from kasal_jupyter.kernel.tables import run_table

        return run_table(self._runs)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        hint = f'<div style="font-size:11px;opacity:0.68">{escape(HINT)}</div>' if self._runs else ""
        return f"<div>{self._table()._repr_html_()}{hint}</div>"

    def _table(self) -> Shown:
        rows = [run._cells() for run in self._runs]  # noqa: SLF001 - the list is its rows
        return Shown("" if rows else "No such runs", HEADS, rows)


def latest_runs(
    client: Client, limit: int = 20, *, crew_id: str | None = None, status: str | None = None
) -> Runs:
    """Give the latest runs, newest first: all, or one crew's, or those in one state."""
    found = client.executions(min(limit, MOST_LISTED), crew_id=crew_id, status=status)
    return Runs([Run.of(client, each, number) for number, each in enumerate(found, 1)])


def numbered_job(client: Client, number: int, listed: Sequence[str] = ()) -> str:
    """Give the run of a number: in a list that was shown, else among the latest.

    Raises
    ------
    CellError
        There are not so many.
    """
    if not listed and 1 <= number <= MOST_LISTED:
        listed = [each.job_id for each in client.executions(number)]
    if not 1 <= number <= len(listed):
        raise CellError(f"There is no run number {number}; the list has {len(listed)}")
    return listed[number - 1]


def inputs_again(job_id: str, inputs: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give a run's inputs for the next, with some changed.

    Raises
    ------
    CellError
        One was a frame, of which nothing but its description is known.
    """
    from kasal_jupyter.kernel.frame_profile import is_card

    given = {**inputs, **changes}
    for name, value in given.items():
        if name not in changes and is_card(value, name):
            raise CellError(
                f"{name} was a frame of a notebook, of which {job_id} had a description and tools; give it "
                f"again: %kasal run --again {job_id} {name}=…"
            )
    return given


def trace_cells(row: TraceRow) -> list[str]:
    """Give a step of a run as a row of a list; see ``STEP_HEADS``."""
    took = duration_text(row.duration_ms / 1000) if row.duration_ms is not None else ""
    return [
        str(row.seq),
        moment_text(row.timestamp, seconds=True),
        row.agent or "",
        row.action,
        row.result,
        took,
    ]


def inputs_text(inputs: Mapping[str, Any]) -> str:
    """Write a run's inputs in short: ``topic=green tea, rows=12``."""
    shown = [f"{name}={one_line(str(value), 40)}" for name, value in list(inputs.items())[:6]]
    return ", ".join([*shown, "…"] if len(inputs) > len(shown) else shown)
