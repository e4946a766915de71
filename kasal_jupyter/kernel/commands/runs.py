"""`%kasal demo, run, ps, status, wait, answer, stop, traces, usage`."""

from __future__ import annotations

import keyword
from argparse import Namespace
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError, NotFound, nearest
from kasal_jupyter.kernel.budget import read_budget
from kasal_jupyter.kernel.cards import Shown
from kasal_jupyter.kernel.executions import Runs, latest_runs
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.figures import counted, duration_text, moment_text
from kasal_jupyter.kernel.notebook_values import read_cell, read_inputs
from kasal_jupyter.kernel.result import RunResult
from kasal_jupyter.kernel.runner import follow, follow_in_background, launch
from kasal_jupyter.kernel.session import Session

if TYPE_CHECKING:
    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.kernel.usage import UsageTable
    from kasal_jupyter.kernel.usage_plot import UsagePlot
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.executions import TraceRow
    from kasal_jupyter.schemas.usage import GroupBy

TRACE_HEADS = ["time", "agent", "action", "result", "took"]


def demo_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run the demo crew, made before if it is not there: one that was changed stays as it is."""
    del words, cell
    from kasal_jupyter.kernel.demo_crew import INPUTS, demo_crew

    client, body = session.client, demo_crew()
    known = client.crews(name=body.name)
    crew = client.crew(known[0].id if known else client.create_crew(body).id)
    print(  # noqa: T201 - it is part of the answer
        f'{"The crew" if known else "Created the crew"} "{crew.name}": sandbox model, no key, no network. '
        f'`%kasal show "{crew.name}"` shows it, `%kasal export "{crew.name}"` gives a cell to change it in'
    )
    return launch(client, crew, INPUTS, on_start=session.note_job)


def run_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run a crew and watch it; its inputs are name=value words, or YAML in the cell."""
    _check_variable(words.output)
    notebook = session.notebook
    inputs = read_inputs(words.inputs, notebook)
    values = read_cell(cell, notebook) | inputs.values
    crew = session.crew(words.crew)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    bounds = {name: getattr(words, name) for name in ("max_cost", "max_tokens", "max_seconds")}
    try:
        result = launch(
            session.client,
            crew,
            values,
            background=words.bg,
            budget=read_budget(bounds),
            on_start=session.note_job,
        )
    except KasalError as error:
        if any(fault.field.startswith("inputs.") for fault in error.faults):
            said = f"{error.message}\nHere that is {_line(crew)}"
            raise CellError(said, faults=error.faults) from None
        raise
    if words.output:
        session.namespace[words.output] = result
    return result


def _line(crew: CrewDetails) -> str:
    from kasal_jupyter.kernel.crew_card import run_words

    return f"%kasal run {run_words(crew)}"


def ps_command(session: Session, words: Namespace, cell: str | None) -> Runs:
    """List the latest runs."""
    del cell
    crew_id = session.crew(words.crew).id if words.crew else None
    return latest_runs(session.client, words.limit, crew_id=crew_id, status=words.status)


def status_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Pick a run's view up again: drawn until it ends, or at once where it has."""
    del cell
    client, job_id = session.client, session.job(words.job)
    if client.execution(job_id).status in {"queued", "running"}:
        return follow_in_background(client, job_id)
    return whole_run(client, job_id)


def wait_command(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Wait for a run's end; the cell fails where the run has failed."""
    del cell
    return follow(session.client, session.job(words.job))


def answer_command(session: Session, words: Namespace, cell: str | None) -> Shown | None:
    """Answer the question of a run that has been open for longest; without an answer, show the questions."""
    del cell
    from kasal_jupyter.kernel.questions import answer_open, open_questions

    said = list(words.words)
    job_id = session.job(said.pop(0) if said and said[0].startswith("job_") else None)
    if not said:
        rows = [
            [each.agent or "", each.question, " / ".join(each.choices), moment_text(each.asked_at)]
            for each in open_questions(session.client, job_id)
        ]
        return Shown("", ["agent", "question", "choices", "asked"], rows)
    asked = answer_open(session.client, job_id, " ".join(said))
    print(f"Answered {asked.agent or 'an agent'}: {asked.question}")  # noqa: T201 - it is the answer
    return None


def stop_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Stop a run."""
    del cell
    answer = session.client.stop(session.job(words.job))
    print(f"{answer.job_id} {answer.status}")  # noqa: T201 - it is the answer


def traces_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List what a run's agents did, a row a step."""
    del cell
    client, job_id = session.client, session.job(words.job)
    only = {"kind": words.kind, "agent": words.agent, "task": words.task}
    # One more than is shown tells whether there is more.
    rows = client.traces(job_id, **only, limit=min(words.limit + 1, 10_000))
    title = ""
    if not rows:
        title = _why_none(client, job_id, words)
    elif len(rows) > words.limit:
        title = f"The first {counted(words.limit, 'step')}; --limit {2 * words.limit} shows more"
    return Shown(title, TRACE_HEADS, [_trace_cells(row) for row in rows[: words.limit]])


def usage_command(session: Session, words: Namespace, cell: str | None) -> UsageTable | UsagePlot:
    """Show what runs have used, or draw it."""
    del cell
    from kasal_jupyter.kernel.usage import usage_table

    crew_id = session.crew(words.crew).id if words.crew else None
    by: GroupBy = words.by or "day"
    table = usage_table(session.client, by, since=words.since, until=words.until, crew_id=crew_id)
    return table.plot(words.by) if words.plot else table


def whole_run(client: Client, job_id: str) -> RunResult:
    """Give a run that has ended, with all its events."""
    result = RunResult(job_id, client.url)
    for event in client.follow(job_id):
        result.feed(event)
    return result


def _check_variable(name: str | None) -> None:
    """Refuse a name for the result before the run has cost anything."""
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise CellError(f"-o {name}: that is no name for a variable; use letters, digits and underscores")


def _trace_cells(row: TraceRow) -> list[str]:
    took = duration_text(row.duration_ms / 1000) if row.duration_ms is not None else ""
    return [moment_text(row.timestamp, seconds=True), row.agent or "", row.action, row.result, took]


def _why_none(client: Client, job_id: str, words: Namespace) -> str:
    """Say why no step is shown, with the nearest agent and task where a name is misspelt."""
    if not (words.kind or words.agent or words.task):
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
    return f"{job_id} has no such steps"


def _there_are(names: list[str]) -> str:
    return f"; there are {', '.join(names)}"
