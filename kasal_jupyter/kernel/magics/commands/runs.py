"""`%kasal demo, run, replay, resume, ps, status, wait, answer, result, stop, traces, usage`."""

from __future__ import annotations

import ast
import keyword
import linecache
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import (
    Parser,
    add_inputs,
    add_job,
    count,
    one_of,
    phrase,
)
from kasal_jupyter.kernel.magics.crew_words import which_crew
from kasal_jupyter.kernel.magics.notebook_values import read_cell, read_inputs
from kasal_jupyter.kernel.runs.result import RunFailed, RunResult, inputs_again
from kasal_jupyter.kernel.runs.run_list import (
    STEP_HEADS,
    Runs,
    add_budget,
    add_cassette,
    add_step_search,
    answer_of,
    budget_of,
    found_steps,
    latest_runs,
    outcome,
    tape_of_words,
    trace_cells,
)
from kasal_jupyter.kernel.runs.runner import follow, follow_in_background, launch, replay, resume
from kasal_jupyter.kernel.runs.usage import add_usage_options, usage_table
from kasal_jupyter.kernel.session import Session, notebook_change
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean, escape
from kasal_jupyter.kernel.views.figures import calls_text, counted, moment_text
from kasal_jupyter.kernel.views.html_parts import MUTED, NO_FORMULAS
from kasal_jupyter.kernel.views.markdown import answer_html
from kasal_jupyter.schemas.executions import ENDED, Status
from kasal_jupyter.schemas.usage import GroupBy

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.runs.usage import UsagePlot, UsageTable
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.executions import ExecutionStatus, OpenQuestion


def demo_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run the demo crew, made before if it is not there: whatever else is called so stays as it is."""
    del words, cell
    from kasal_jupyter.kernel.crews.demo import INPUTS, the_demo

    client = session.client
    crew, made = the_demo(client, notebook_change("cell"))
    print(  # noqa: T201 - it is part of the answer
        f'{"Created the crew" if made else "The crew"} "{crew.name}": sandbox model, no key, no network. '
        f'`%kasal show "{crew.name}"` shows it, `%kasal export "{crew.name}"` gives a cell to change it in'
    )
    with kept(session):
        return launch(client, crew, INPUTS, on_start=session.note_job)


def run_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal run``."""
    parser.add_argument("crew", nargs="?", metavar="NAME", help="the crew's name or id")
    add_inputs(parser)
    add_background(parser)
    add_budget(parser)
    parser.add_argument(
        "--once",
        action="store_true",
        help="show the earlier run that was asked for the same, where there is one, and start none",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="run it all the same, whatever --once would show"
    )
    add_cassette(parser)
    parser.add_argument(
        "--again",
        nargs="?",
        const="last",
        metavar="JOB",
        help="repeat a run, by its id, number or last, with its inputs; those that are given win over them",
    )


def add_background(parser: Parser) -> None:
    """Have a parser take whether a run goes on beside the notebook, and where its result goes."""
    parser.add_argument("--bg", action="store_true", help="go on at once; the view goes on updating")
    parser.add_argument("-o", "--output", metavar="NAME", help="the variable that takes the result")


def run_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run a crew and watch it; its inputs are name=value words, or YAML in the cell, or another run's."""
    check_variable(words.output)
    notebook = session.notebook
    again = _read_again(words)
    inputs = read_inputs(words.inputs, notebook)
    values = read_cell(cell, notebook) | inputs.values
    if again is not None:
        before = session.client.execution(session.job(again))
        values = inputs_again(before.job_id, before.inputs, values)
        crew = _crew_of(session, before)
    elif words.crew is None:
        raise CellError(which_crew(session, "%kasal run", inputs=True))
    else:
        crew = session.crew(words.crew)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    with kept(session, words.output), _said_with_line(crew):
        result = launch(
            session.client,
            crew,
            values,
            background=words.bg,
            budget=budget_of(words),
            once=words.once and not words.fresh,
            tape=tape_of_words(words, session.cell),
            on_start=session.note_job,
        )
    if words.output:
        session.namespace[words.output] = result
    return result


def replay_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal replay``."""
    add_job(parser)
    add_background(parser)


def replay_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run a run that has ended once more from its record: nothing is asked, and it costs nothing."""
    del cell
    check_variable(words.output)
    job_id = session.job(words.job)
    with kept(session, words.output):
        result = replay(session.client, job_id, background=words.bg, on_start=session.note_job)
    if words.output:
        session.namespace[words.output] = result
    return result


def resume_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal resume``."""
    add_job(parser)
    add_inputs(parser)
    add_background(parser)
    add_budget(parser)
    parser.add_argument(
        "--model", metavar="MODEL", help="ask this model from now on, whatever the crew names"
    )


def resume_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Go on with a run that ended before its time; inputs that are given win over the run's."""
    del cell
    check_variable(words.output)
    if words.job is not None and "=" in words.job:
        words.job, words.inputs = None, [words.job, *words.inputs]
    job_id = session.job(words.job)
    inputs = read_inputs(words.inputs, session.notebook)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    with kept(session, words.output):
        result = resume(
            session.client,
            job_id,
            inputs.values,
            model=words.model,
            budget=budget_of(words),
            background=words.bg,
            on_start=session.note_job,
        )
    if words.output:
        session.namespace[words.output] = result
    return result


def _read_again(words: Namespace) -> str | None:
    """Give the run that is to be repeated; behind it there are inputs alone, and no crew."""
    if words.again is None:
        return None
    again: str = words.again
    first = [words.crew] if words.crew is not None else []
    if "=" in again:
        first, again = [again, *first], "last"
    if first and "=" not in first[0]:
        raise CellError(f"--again takes the crew of the run; leave {first[0]!r} out")
    words.inputs = [*first, *words.inputs]
    return again


def _crew_of(session: Session, run: ExecutionStatus) -> CrewDetails:
    try:
        return session.client.crew(run.crew_id)
    except NotFound:
        raise CellError(
            f"The crew of {run.job_id}, {run.crew_name!r}, was deleted; `%kasal crews` lists those there are"
        ) from None


@contextmanager
def kept(session: Session, output: str | None = None) -> Iterator[None]:
    """Have a run that fails the cell leave what there is of it in the variable that was to take it."""
    try:
        yield
    except RunFailed as error:
        name = output or _assigned_name(session.namespace)
        if name is not None and error.result is not None:
            session.namespace[name] = error.result
            error.message = f"{error.message.rstrip('.')}; {name} has what there is of it"
        raise


@contextmanager
def _said_with_line(crew: CrewDetails) -> Iterator[None]:
    """Have a refusal for a run's inputs say how the line should look."""
    from kasal_jupyter.kernel.crews.card import run_words

    try:
        yield
    except RunFailed:
        raise
    except KasalError as error:
        if any(fault.field.startswith("inputs.") for fault in error.faults):
            said = f"{error.message}\nHere that is %kasal run {run_words(crew)}"
            raise CellError(said, faults=error.faults) from None
        raise


def ps_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal ps``."""
    states = get_args(Status)
    parser.add_argument("--crew", metavar="NAME", type=phrase, help="one crew's runs")
    parser.add_argument("--status", metavar="STATE", type=one_of(states), help=", ".join(states))
    parser.add_argument("--limit", metavar="N", type=count, default=20, help="how many; by default 20")


def ps_command(session: Session, words: Namespace, cell: str | None) -> Runs:
    """List the latest runs."""
    del cell
    crew_id = session.crew(words.crew).id if words.crew else None
    found = latest_runs(session.client, words.limit, crew_id=crew_id, status=words.status)
    session.listed = [run.job_id for run in found]
    return found


status_arguments = add_job


def status_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Pick a run's view up again: drawn until it ends, or at once where it has."""
    del cell
    restarted = words.job is None and session.last_job is None
    client, job_id = session.client, session.job(words.job)
    if restarted and (others := [each for each in session.runs_before() if each.job_id != job_id]):
        print(_told_of(others))  # noqa: T201 - it is part of the answer
    state = client.execution(job_id)
    if state.status not in ENDED:
        return follow_in_background(client, job_id)
    result = whole_run(client, job_id)
    result.rating = state.rating
    return result


def _told_of(runs: list[ExecutionStatus]) -> str:
    """Tell of this notebook's other runs: by their ids of those that go on, and how many have ended."""
    lines = [
        f"{each.job_id} {each.status}: %kasal status {each.job_id}" for each in runs if each.ended_at is None
    ]
    if ended := len(runs) - len(lines):
        others = counted(ended, "other run") if not lines else f"{ended} more"
        lines.append(
            f"{others} of this notebook {'has' if ended == 1 else 'have'} ended; %kasal ps lists them"
        )
    return "\n".join(lines)


wait_arguments = add_job


def wait_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Wait for a run's end; the cell fails where the run has failed."""
    del cell
    job_id = session.job(words.job)
    with kept(session):
        return follow(session.client, job_id)


def answer_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal answer``."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[JOB] TEXT",
        help="the answer, behind a job id; else the latest run of this notebook is meant. Of choices, one "
        "or its number. Without an answer the questions are shown",
    )


def answer_command(session: Session, words: Namespace, cell: str | None) -> Shown | None:
    """Answer the question of a run that has been open for longest; without an answer, show the questions."""
    del cell
    from kasal_jupyter.kernel.runs.questions import answer_open, open_questions

    said = list(words.words)
    job_id = session.job(said.pop(0) if said and said[0].startswith("job_") else None)
    if not said:
        rows = [
            [each.agent or "", _with_about(each), " / ".join(each.choices), moment_text(each.asked_at)]
            for each in open_questions(session.client, job_id)
        ]
        return Shown("", ["agent", "question", "choices", "asked"], rows)
    asked = answer_open(session.client, job_id, " ".join(said))
    print(f"Answered {asked.agent or 'an agent'}: {asked.question}")  # noqa: T201 - it is the answer
    return None


def _with_about(question: OpenQuestion) -> str:
    from kasal_jupyter.kernel.views.rows import about_text

    return " ".join(filter(None, [question.question, about_text(question)]))


def result_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal result``."""
    add_job(parser)
    parser.add_argument("-o", "--output", metavar="NAME", help="the variable that takes it, as a text")


def result_command(session: Session, words: Namespace, cell: str | None) -> Answer | None:
    """Give what came of a run that has ended, whole."""
    del cell
    check_variable(words.output)
    job_id = session.job(words.job)
    found = session.client.result(job_id)
    why, text = outcome(job_id, found), answer_of(found)
    if text is None:
        raise CellError(f"{why}{'' if found.error else ', without a result'}")
    if found.status != "completed":
        print(clean(f"{why.rstrip('.')}. What there is of it:"))  # noqa: T201 - whoever takes it for all of it is told
    if answered := calls_text(found.calls):
        print(answered)  # noqa: T201 - it is no run of its own
    answer = Answer(text)
    if not words.output:
        return answer
    session.namespace[words.output] = str(answer)
    print(f"{words.output} has {len(answer):,} characters")  # noqa: T201 - it is the answer
    return None


stop_arguments = add_job


def stop_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Stop a run."""
    del cell
    answer = session.client.stop(session.job(words.job))
    print(f"{answer.job_id} {answer.status}")  # noqa: T201 - it is the answer


def traces_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal traces``."""
    add_job(parser)
    add_step_search(parser)


def traces_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List what a run's agents did, a row a step."""
    del cell
    rows, title = found_steps(session.client, session.job(words.job), words)
    return Shown(title, STEP_HEADS, [trace_cells(row) for row in rows])


def usage_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal usage``."""
    add_usage_options(parser)
    parser.add_argument(
        "--plot", action="store_true", help="draw cost and tokens; by default by day, model and crew"
    )


def usage_command(session: Session, words: Namespace, cell: str | None) -> UsageTable | UsagePlot:
    """Show what runs have used, or draw it."""
    del cell
    crew_id = session.crew(words.crew).id if words.crew else None
    by: GroupBy = words.by or "day"
    table = usage_table(session.client, by, since=words.since, until=words.until, crew_id=crew_id)
    return table.plot(words.by) if words.plot else table


MOST_SHOWN = 200_000
"""Characters of an answer that a cell shows: a notebook keeps them."""


class Answer(str):
    """What came of a run: its text, of which a cell shows a beginning where it is very long."""

    __slots__ = ()

    def __repr__(self) -> str:
        note = self._note()
        return clean(self[:MOST_SHOWN]) + (f"\n{note}" if note else "")

    def _repr_html_(self) -> str:
        note = self._note()
        more = f'<div style="{MUTED}">{escape(note)}</div>' if note else ""
        return f"<div {NO_FORMULAS}>{answer_html(self[:MOST_SHOWN])}{more}</div>"

    def _note(self) -> str:
        if len(self) <= MOST_SHOWN:
            return ""
        return (
            f"… the first {MOST_SHOWN:,} of {len(self):,} characters are shown; "
            "`%kasal result JOB -o NAME` keeps them all in a variable"
        )


def whole_run(client: Client, job_id: str) -> RunResult:
    """Give a run that has ended, with all its events."""
    result = RunResult(job_id, client.url)
    for event in client.follow(job_id):
        result.feed(event)
    return result


def check_variable(name: str | None) -> None:
    """Refuse a name for a variable that is none, before anything has cost something."""
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise CellError(f"-o {name}: that is no name for a variable; use letters, digits and underscores")


def _assigned_name(namespace: Mapping[str, Any]) -> str | None:
    """Give the name on the left of ``name = %kasal …``, where that is what runs now; else None.

    Parameters
    ----------
    namespace
        The notebook's variables: of the frames that lead here, the cell's has them.
    """
    frame = sys._getframe()  # noqa: SLF001 - Python has no other name for it
    while frame is not None and (frame.f_code.co_name != "<module>" or frame.f_globals is not namespace):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    try:
        cell = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    for statement in cell.body:
        if isinstance(statement, ast.Assign) and _covers(statement, frame.f_lineno):
            target = statement.targets[0]
            if len(statement.targets) == 1 and isinstance(target, ast.Name) and _is_magic(statement.value):
                return target.id
    return None


def _covers(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _is_magic(value: ast.expr) -> bool:
    """Say whether an expression is what IPython makes of ``%kasal …``."""
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in {"run_line_magic", "run_cell_magic"}
        and bool(value.args)
        and isinstance(value.args[0], ast.Constant)
        and value.args[0].value == "kasal"
    )
