"""`%kasal fork, diff`: another way from a step of a run on, and in what two runs differ."""

from __future__ import annotations

from argparse import Namespace

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_inputs, add_job, quoted
from kasal_jupyter.kernel.magics.commands.files import add_cell
from kasal_jupyter.kernel.magics.commands.runs import add_background, check_variable, kept, whole_run
from kasal_jupyter.kernel.magics.notebook_values import read_inputs
from kasal_jupyter.kernel.runs.forks import read_change, steps_table
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.runs.run_list import add_budget, budget_of
from kasal_jupyter.kernel.runs.runner import fork
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.difference import RunDifference
from kasal_jupyter.schemas.executions import EDITS


def fork_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal fork``."""
    add_job(parser)
    parser.add_argument(
        "step", nargs="?", metavar="STEP", help="its number; without one, the steps are listed"
    )
    add_inputs(parser)
    parser.add_argument(
        "--edit", action="store_true", help="put the text that stands there into a new cell, to be changed"
    )
    add_background(parser)
    add_budget(parser)
    parser.add_argument(
        "--model", metavar="MODEL", help="ask this model from there on, whatever the crew names"
    )


def fork_command(session: Session, words: Namespace, cell: str | None) -> RunResult | Shown | None:
    """Leave a run at a step, and go another way from there; without a step, list those there are."""
    check_variable(words.output)
    job_id, client = session.job(words.job), session.client
    if words.step is None:
        return steps_table(whole_run(client, job_id).trace)
    # A bare `answer` says what is to be edited, or what the cell below is.
    bare = [str(word) for word in words.inputs if word in EDITS]
    values = read_inputs([word for word in words.inputs if word not in EDITS], session.notebook)
    if note := values.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    if cell is not None:
        if len(bare) != 1:
            raise CellError(f"Say what the cell is: %%kasal fork {job_id} {words.step} answer, or another")
        values.values[bare[0]] = cell.removesuffix("\n")
    elif bare or words.edit:
        _edit(session, job_id, words.step, bare)
        return None
    change, frames = read_change(words.step, values.values, model=words.model, budget=budget_of(words))
    with kept(session, words.output):
        result = fork(client, job_id, change, frames, background=words.bg, on_start=session.note_job)
    if words.output:
        session.namespace[words.output] = result
    return result


def diff_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal diff``."""
    parser.add_argument("first", metavar="A", help="a run: its id, its number in the latest list, or last")
    parser.add_argument("second", nargs="?", metavar="B", help="another; else the run that A is from")


def diff_command(session: Session, words: Namespace, cell: str | None) -> RunDifference:
    """Show in what two runs differ; of one alone, in what it does from the one whose record it uses."""
    del cell
    client, first = session.client, session.job(words.first)
    if words.second is not None:
        return RunDifference(client.diff(first, session.job(words.second)))
    parent = client.execution(first).parent
    if parent is None:
        raise CellError(f"{first} is a run of its own; say which other it is compared with: %kasal diff A B")
    return RunDifference(client.diff(parent, first))


def _edit(session: Session, job_id: str, step: str, bare: list[str]) -> None:
    """Put what stands at a step into a new cell, which forks the run there."""
    change, _ = read_change(step, {})
    preview = session.client.preview_fork(job_id, change)
    there = {what: text for what in EDITS if (text := getattr(preview, what)) is not None}
    if not there:
        raise CellError(f"Step {step} of {job_id} has no text to edit; fork it with answer=… or result=…")
    what = bare[0] if bare else next(each for each in ("result", "answer", "prompt") if each in there)
    if what not in there:
        raise CellError(f"Step {step} of {job_id} has no {what} to edit; it has {', '.join(there)}")
    text = f"%%kasal fork {quoted(job_id)} {step} {what}\n{there[what]}"
    if add_cell(text):
        print("Change the text in the new cell, and run it")  # noqa: T201 - it is the answer
    else:
        print(text)  # noqa: T201 - it is the answer
