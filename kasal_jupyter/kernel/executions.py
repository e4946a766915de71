"""The latest runs, as a list of objects: what `%kasal ps` and `kasal.runs()` show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from kasal_jupyter.kernel.cards import Shown
from kasal_jupyter.kernel.figures import duration_text, moment_text
from kasal_jupyter.kernel.result import RunResult
from kasal_jupyter.kernel.rows import STATUS_MARKS
from kasal_jupyter.schemas.executions import ENDED, ExecutionError, Status
from kasal_jupyter.schemas.usage import Usage

if TYPE_CHECKING:
    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.schemas.executions import ExecutionStatus

HEADS = ["job", "crew", "status", "progress", "time", "tokens", "created"]


@dataclass(slots=True)
class Run:
    """A run as the server knows it at the moment; it may have been started anywhere.

    Attributes
    ----------
    job_id, crew_id, crew_name
        What it is, and of which crew.
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
    status: Status
    progress: int
    inputs: dict[str, Any]
    output: str | None
    error: ExecutionError | None
    usage: Usage
    created_at: str
    duration: float | None
    asks: bool
    _client: Client = field(repr=False, compare=False)

    @classmethod
    def of(cls, client: Client, state: ExecutionStatus) -> Run:
        """Make it of what the API answers."""
        return cls(
            job_id=state.job_id,
            crew_id=state.crew_id,
            crew_name=state.crew_name,
            status=state.status,
            progress=state.progress,
            inputs=state.inputs,
            output=state.result,
            error=state.error,
            usage=state.usage,
            created_at=state.created_at,
            duration=state.duration,
            asks=bool(state.questions),
            _client=client,
        )

    def refreshed(self) -> Run:
        """Give the run as it is now."""
        return Run.of(self._client, self._client.execution(self.job_id))

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

    def stop(self) -> Run:
        """Stop it, and give it as it is then; its processes are gone by then."""
        self._client.stop(self.job_id)
        return self.refreshed()

    def _cells(self) -> list[str]:
        return [
            self.job_id,
            self.crew_name,
            f"{STATUS_MARKS[self.status]} {self.status}{' · waits for an answer' if self.asks else ''}",
            f"{self.progress} %",
            duration_text(self.duration) if self.duration is not None else "",
            f"{self.usage.total_tokens:,}",
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

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Shown:
        rows = [run._cells() for run in self._runs]  # noqa: SLF001 - the list is its rows
        return Shown("" if rows else "No such runs", HEADS, rows)


def latest_runs(
    client: Client, limit: int = 20, *, crew_id: str | None = None, status: str | None = None
) -> Runs:
    """Give the latest runs, newest first: all, or one crew's, or those in one state."""
    found = client.executions(min(limit, 500), crew_id=crew_id, status=status)
    return Runs([Run.of(client, each) for each in found])
