"""The latest runs, as a list of objects: what `%kasal ps` and `kasal.runs()` show."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args, overload

from pydantic import ValidationError

from kasal_jupyter.client.cassette import Tape, tape_of
from kasal_jupyter.errors import NotFound, nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import bound, count, one_of, phrase
from kasal_jupyter.kernel.runs.questions import answer_open
from kasal_jupyter.kernel.runs.result import RunResult, inputs_again, table_of
from kasal_jupyter.kernel.session import the_session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import escape, one_line
from kasal_jupyter.kernel.views.figures import (
    calls_text,
    cost_text,
    counted,
    duration_text,
    lineage_text,
    moment_text,
    rating_text,
)
from kasal_jupyter.kernel.views.rows import STATUS_MARKS
from kasal_jupyter.schemas.base import MOST_LISTED
from kasal_jupyter.schemas.cassettes import OnMiss
from kasal_jupyter.schemas.executions import (
    ENDED,
    KINDS,
    MOST_STEPS,
    Budget,
    Calls,
    CrewRemark,
    ExecutionError,
    Status,
    TraceRow,
    Verb,
)
from kasal_jupyter.schemas.usage import Usage

if TYPE_CHECKING:
    import pandas as pd

    from kasal_jupyter.client.client import Client
    from kasal_jupyter.events.summary import RunSummary
    from kasal_jupyter.kernel.views.difference import RunDifference
    from kasal_jupyter.schemas.datasets import RatingGiven, Thumb
    from kasal_jupyter.schemas.executions import ExecutionResult, ExecutionStatus, OpenQuestion

HEADS = ["#", "job", "crew", "status", "inputs", "progress", "time", "tokens", "cost", "created"]

STEP_HEADS = ["#", "time", "agent", "action", "result", "took"]

HINT = (
    "%kasal status 1 shows the first of them, %kasal traces 1 its steps, %kasal run --again 1 repeats it; "
    "a click on a job gives such lines for it; .df() gives them as a table"
)


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
        The crew's final answer; of a :attr:`partial` run, what it had; None where there is none (yet).
    remarks
        What was worth knowing of it as it was started: an input that nothing uses, say.
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
    rating
        What somebody has said of it: ``thumb``, ``answer``, ``note``; None where nobody has.
    verb, parent, attempt
        ``run``, or how it uses the record of an earlier run, ``replay``, ``resume`` or ``fork``; which that
        is; and which attempt at its run it is.
    calls
        How many calls that record has answered, how many were made, and what that has saved.
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
    remarks: list[CrewRemark]
    verb: Verb
    parent: str | None
    attempt: int
    calls: Calls
    rating: RatingGiven | None
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
            output=answer_of(state),
            error=state.error,
            usage=state.usage,
            created_at=state.created_at,
            duration=state.duration,
            asks=bool(state.questions),
            remarks=state.remarks,
            verb=state.verb,
            parent=state.parent,
            attempt=state.attempt,
            calls=state.calls,
            rating=state.rating,
            number=number,
            _client=client,
        )

    @property
    def partial(self) -> bool:
        """Whether it ended before its time: ``output`` is then what its last task that was done gave."""
        return self.status in ENDED and self.status != "completed"

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
            from kasal_jupyter.kernel.runs.runner import follow

            return follow(self._client, self.job_id)
        result = RunResult(self.job_id, self._client.url)
        result.rating = self.rating
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
        from kasal_jupyter.kernel.runs.runner import launch

        inputs = inputs_again(self.job_id, self.inputs, values)
        return launch(
            self._client,
            self._client.crew(self.crew_id),
            inputs,
            background=background,
            on_start=the_session().note_job,
        )

    def replay(self, *, background: bool = False) -> RunResult:
        """Run it once more from its record, and watch it: nothing is asked, and it costs nothing.

        Raises
        ------
        RunFailed
            It ended otherwise than completed, as it did before, or since its record has not all of it.
        """
        from kasal_jupyter.kernel.runs.runner import replay
        from kasal_jupyter.kernel.session import the_session

        note = the_session().note_job
        return replay(self._client, self.job_id, background=background, on_start=note)

    def resume(
        self,
        *,
        model: str | None = None,
        budget: Mapping[str, float] | None = None,
        background: bool = False,
        **values: Any,
    ) -> RunResult:
        """Go on with it, where it ended before its time, and watch it; what is recorded is not asked again.

        Parameters
        ----------
        model
            The model that is asked from now on, in the place of all that its crew names.
        budget
            Bounds that change: ``max_cost`` (US dollars), ``max_tokens``, ``max_seconds``.
        background
            Whether to go on at once.
        **values
            Inputs that change. One that was a frame must be given again.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        """
        from kasal_jupyter.kernel.runs.runner import resume
        from kasal_jupyter.kernel.session import the_session

        return resume(
            self._client,
            self.job_id,
            values,
            model=model,
            budget=read_budget(budget),
            background=background,
            on_start=the_session().note_job,
        )

    def fork(
        self,
        step: int,
        *,
        prompt: str | None = None,
        answer: str | None = None,
        result: str | None = None,
        model: str | None = None,
        budget: Mapping[str, float] | None = None,
        background: bool = False,
        **frames: Any,
    ) -> RunResult:
        """Leave it at a step, and watch where another way goes; what comes before is not asked again.

        Parameters
        ----------
        step
            The step's number; ``%kasal fork`` with the run's id alone lists them.
        prompt, answer
            What its model is asked there in the place of the last prompt, or has answered.
        result
            What its tool has given there.
        model
            The model that is asked from there on, in the place of all that its crew names.
        budget
            As of :meth:`resume`.
        background
            Whether to go on at once.
        **frames
            The inputs that were frames, once more.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        CellError
            There is no such step, or it cannot be changed so.
        """
        from kasal_jupyter.kernel.runs.forks import read_change
        from kasal_jupyter.kernel.runs.runner import fork
        from kasal_jupyter.kernel.session import the_session

        texts = {"prompt": prompt, "answer": answer, "result": result}
        values = {what: text for what, text in texts.items() if text is not None}
        change, _ = read_change(step, values, model=model, budget=read_budget(budget))
        note = the_session().note_job
        return fork(self._client, self.job_id, change, frames, background=background, on_start=note)

    def diff(self, other: Run | RunResult | str) -> RunDifference:
        """Give in what another run differs from it: the first call in which they part, side by side.

        Parameters
        ----------
        other
            That run, or its id.
        """
        from kasal_jupyter.kernel.views.difference import RunDifference

        other_id = other if isinstance(other, str) else other.job_id
        return RunDifference(self._client.diff(self.job_id, other_id))

    @property
    def pending(self) -> list[OpenQuestion]:
        """What it asks people and nobody has answered yet, the oldest first, as it stands now."""
        return self._client.execution(self.job_id).questions

    def answer(self, text: str, arguments: Mapping[str, Any] | None = None) -> OpenQuestion:
        """Answer the question that has been open for longest, and give it.

        Parameters
        ----------
        text
            The answer. A review and an approval take ``approve``, ``reject``, or what is to be different.
        arguments
            With an approval: what the call is made with.

        Raises
        ------
        CellError
            No question is open, or the text is none of the answers to choose from.
        """
        return answer_open(self._client, self.job_id, text, arguments)

    def stop(self) -> Run:
        """Stop it, and give it as it is then; its processes are gone by then."""
        self._client.stop(self.job_id)
        return self.refreshed()

    def rate(self, thumb: Thumb, answer: str | None = None, *, note: str | None = None) -> Run:
        """Say whether its answer is good, and what it should have been; see :func:`kasal_jupyter.rate`."""
        from kasal_jupyter.kernel.runs.ratings import rate

        rate(self.job_id, thumb, answer, note=note)
        return self.refreshed()

    def delete(self) -> None:
        """Delete it, with its trace and its files, once it has ended; what it has cost stays in the books."""
        self._client.delete_execution(self.job_id)

    def _cells(self) -> list[str]:
        return [
            str(self.number or ""),
            self.job_id,
            self.crew_name,
            self._stands(),
            inputs_text(self.inputs),
            f"{self.progress} %",
            duration_text(self.duration) if self.duration is not None else "",
            f"{self.usage.total_tokens:,}",
            cost_text(self.usage.cost) if self.usage.llm_calls else "",
            moment_text(self.created_at),
        ]

    def _stands(self) -> str:
        parts = [f"{STATUS_MARKS[self.status]} {self.status}"]
        if self.asks:
            parts.append("waits for an answer")
        more = lineage_text(self.verb, self.parent), calls_text(self.calls), rating_text(self.rating, 30)
        parts += filter(None, more)
        return " · ".join(parts)

    def _repr_html_(self) -> str:
        return _listed([self])._repr_html_()


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
        return run_table(self._runs)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        hint = f'<div style="font-size:11px;opacity:0.68">{escape(HINT)}</div>' if self._runs else ""
        return f"<div>{self._table()._repr_html_()}{hint}</div>"

    def _table(self) -> Shown:
        return _listed(self._runs)


def _listed(runs: Sequence[Run]) -> Shown:
    rows = [run._cells() for run in runs]  # noqa: SLF001 - the list is its rows
    # By their ids: the numbers are those of the list that was shown last.
    lines = [[f"%kasal {word} {run.job_id}" for word in ("status", "traces", *_more(run))] for run in runs]
    return Shown("" if rows else "No such runs", HEADS, rows, opens=("job", lines))


def _more(run: Run) -> tuple[str, ...]:
    """Give what else can be done with a run, as it stands."""
    if run.asks:
        return ("answer", "stop")
    if run.status == "completed":
        return ("result", "run --again", "replay", "fork")
    return ("result", "resume", "run --again", "fork") if run.status in ENDED else ("wait", "stop")


def latest_runs(
    client: Client, limit: int = 20, *, crew_id: str | None = None, status: str | None = None
) -> Runs:
    """Give the latest runs, newest first: all, or one crew's, or those in one state."""
    found = client.executions(min(limit, MOST_LISTED), crew_id=crew_id, status=status)
    return Runs([Run.of(client, each, number) for number, each in enumerate(found, 1)])


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


def answer_of(found: ExecutionStatus | ExecutionResult | RunSummary) -> str | None:
    """Give what came of a run; of one that ended before its time, what there is."""
    return found.result if found.result is not None else found.partial_result


def outcome(job_id: str, found: ExecutionStatus | ExecutionResult | RunSummary, where: str = "") -> str:
    """Say in a line how a run stands, and why it failed; ``where`` stands before the reason."""
    why = f": {found.error.code}: {found.error.message}" if found.error else ""
    return f"{job_id} is {found.status}{where}{why}"


def inputs_text(inputs: Mapping[str, Any]) -> str:
    """Write a run's inputs in short: ``topic=green tea, rows=12``."""
    shown = [f"{name}={one_line(str(value), 40)}" for name, value in list(inputs.items())[:6]]
    return ", ".join([*shown, "…"] if len(inputs) > len(shown) else shown)


def read_budget(bounds: Mapping[str, float | None] | None) -> Budget | None:
    """Give what a run may use up, by ``max_cost``, ``max_tokens`` and ``max_seconds``; None: any amount.

    Raises
    ------
    CellError
        One is no such bound; it says which.
    """
    given = {name: bound for name, bound in (bounds or {}).items() if bound is not None}
    if not given:
        return None
    try:
        return Budget.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        hint = nearest(name, Budget.model_fields) if first["type"] == "extra_forbidden" else ""
        raise CellError(f"The budget's {name}: {first['msg']}{hint}") from None


_RUN_COLUMNS = (
    *("job_id", "crew", "crew_id", "status", "progress", "created", "duration", "prompt_tokens"),
    *("completion_tokens", "tokens", "cost", "llm_calls", "tool_calls", "inputs", "output", "error"),
)


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Give one row a run.

    Raises
    ------
    CellError
        pandas is not installed.
    """
    rows = [
        {
            "job_id": run.job_id,
            "crew": run.crew_name,
            "crew_id": run.crew_id,
            "status": run.status,
            "progress": run.progress,
            "created": run.created_at,
            "duration": run.duration,
            "prompt_tokens": run.usage.prompt_tokens,
            "completion_tokens": run.usage.completion_tokens,
            "tokens": run.usage.total_tokens,
            "cost": run.usage.cost,
            "llm_calls": run.usage.llm_calls,
            "tool_calls": run.usage.tool_calls,
            "inputs": run.inputs,
            "output": run.output,
            "error": run.error.message if run.error is not None else None,
        }
        for run in runs
    ]
    return table_of(rows, _RUN_COLUMNS)


def runs(limit: int = 20, *, crew: str | None = None, status: Status | None = None) -> Runs:
    """Give the latest runs, newest first, wherever they were started.

    Parameters
    ----------
    limit
        How many, at most 500.
    crew
        One crew's, by its name or id.
    status
        Those in one state: ``queued``, ``running``, ``completed``, ``failed``, ``stopped``, ``interrupted``.

    Returns
    -------
    Runs
        A list of :class:`~kasal_jupyter.kernel.runs.run_list.Run`, which a notebook shows as a table;
        ``kasal.runs()[0].result()`` is the latest one whole, with its trace, ``.again()`` repeats it, and
        ``kasal.runs().df()`` is a row a run.
    """
    session = the_session()
    crew_id = session.crew(crew).id if crew is not None else None
    found = latest_runs(session.client, limit, crew_id=crew_id, status=status)
    session.listed = [run.job_id for run in found]
    return found


# -- the words of a command line, in a cell and in a terminal ---------------------------------------------


def add_budget(parser: ArgumentParser) -> None:
    """Have a parser take what a run may use up; see :func:`budget_of`."""
    parser.add_argument("--max-cost", metavar="DOLLARS", type=bound, help="end before it costs more")
    parser.add_argument("--max-tokens", metavar="N", type=count, help="end before it uses more tokens")
    parser.add_argument("--max-seconds", metavar="S", type=bound, help="end before it takes longer")


def budget_of(words: Namespace) -> Budget | None:
    """Give what the words let a run use up; None: any amount."""
    return read_budget({name: getattr(words, name) for name in Budget.model_fields})


def add_cassette(parser: ArgumentParser) -> None:
    """Have a parser take the cassettes of a run; see :func:`tape_of_words`."""
    parser.add_argument("--record", metavar="FILE", help="write what it asks and is answered into a cassette")
    parser.add_argument("--replay", metavar="FILE", help="have a cassette answer it: no key is needed")
    parser.add_argument(
        "--on-miss",
        metavar="WAY",
        type=one_of(get_args(OnMiss)),
        help="what becomes of a call that is not in the cassette: fail (where CI is set) or live",
    )
    parser.add_argument(
        "--varies",
        metavar="PATTERN",
        action="append",
        default=[],
        help="a regular expression for what varies in prompts, such as the day, for a cassette that is begun",
    )


def tape_of_words(words: Namespace, within: object = None) -> Tape | None:
    """Give the cassettes that the words name, or the environment; see :func:`tape_of`."""
    return tape_of(words.record, words.replay, on_miss=words.on_miss, varies=words.varies, within=within)


def add_step_search(parser: ArgumentParser) -> None:
    """Have a parser take which of a run's steps are looked for; see :func:`found_steps`."""
    parser.add_argument(
        "--kind",
        metavar="KIND",
        type=one_of(KINDS, many=True),
        help=f"steps of these kinds, separated by commas: {', '.join(KINDS)}",
    )
    parser.add_argument("--agent", metavar="NAME", type=phrase, help="one agent's steps")
    parser.add_argument("--task", metavar="NAME", type=phrase, help="one task's steps, by its name or id")
    parser.add_argument(
        "--find", metavar="TEXT", type=phrase, help="steps whose answer, arguments or result have it"
    )
    parser.add_argument("--failed", action="store_true", help="steps that failed")
    parser.add_argument("--limit", metavar="N", type=count, default=200, help="how many; by default 200")
    parser.add_argument("--after", metavar="N", type=count, help="those behind the step of this number")


def searches_steps(words: Namespace) -> bool:
    """Say whether the words look for some of a run's steps."""
    return bool(words.kind or words.agent or words.task or words.find or words.failed or words.after)


def found_steps(client: Client, job_id: str, words: Namespace) -> tuple[list[TraceRow], str]:
    """Give the steps that are looked for, and what is to be said of them: why there are none, or not all."""
    only = {name: getattr(words, name) for name in ("kind", "agent", "task", "find", "after")}
    only["failed"] = "true" if words.failed else None
    # One more than is shown tells whether there is more.
    rows = client.traces(job_id, **only, limit=min(words.limit + 1, MOST_STEPS))
    if not rows:
        return [], _why_none(client, job_id, words)
    if len(rows) <= words.limit:
        return rows, ""
    shown = rows[: words.limit]
    return shown, f"{counted(words.limit, 'step')}, not all; --after {shown[-1].seq} shows the next"


def _why_none(client: Client, job_id: str, words: Namespace) -> str:
    """Say why no step is shown, with the nearest agent and task where a name is misspelt."""
    if words.after:
        return f"{job_id} has no such steps behind number {words.after}"
    if not searches_steps(words):
        return f"{job_id} has no steps yet"
    try:
        crew = client.crew(client.execution(job_id).crew_id)
    except NotFound:
        return f"{job_id} has no such steps"
    agents = [agent.name for agent in crew.agents]
    tasks = [task.title() for task in crew.tasks]
    if words.agent and words.agent not in agents:
        return f"There is no agent {words.agent!r}{nearest(words.agent, agents) or _there_are(agents)}"
    if words.task and words.task not in {*tasks, *(task.id for task in crew.tasks)}:
        return f"There is no task {words.task!r}{nearest(words.task, tasks) or _there_are(tasks)}"
    alone = words.failed and not (words.kind or words.agent or words.task or words.find)
    return f"No step of {job_id} failed" if alone else f"{job_id} has no such steps"


def _there_are(names: list[str]) -> str:
    return f"; there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
