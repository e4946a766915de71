"""``jupyter kasal run``, ``replay``, ``resume``, ``wait`` and ``traces``: runs, and watching them."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import (
    EXIT_STATUS,
    add_job,
    add_server_options,
    ended_by_signals,
    exit_status,
    job_of,
    say,
    server_of,
)
from kasal_jupyter.cli.crew_file import find_crew, names_file, read_crew, read_inputs, store_crew
from kasal_jupyter.cli.run_view import Prompt, RunView, view_on
from kasal_jupyter.cli.terminal import TraceHighlighter, console_of, print_rows
from kasal_jupyter.client.cassette import Turn
from kasal_jupyter.client.client import Client, Waiting
from kasal_jupyter.errors import Conflict
from kasal_jupyter.events.trace import Trace
from kasal_jupyter.kernel.runs.result import inputs_again
from kasal_jupyter.kernel.runs.run_list import (
    STEP_HEADS,
    add_budget,
    add_cassette,
    add_step_search,
    answer_of,
    budget_of,
    found_steps,
    outcome,
    searches_steps,
    tape_of_words,
    trace_cells,
)
from kasal_jupyter.kernel.views.cards import Checked, remark_line
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import answered_text
from kasal_jupyter.kernel.views.view_text import render_text
from kasal_jupyter.schemas.executions import ExecutionAccepted, ExecutionRecorded, ExecutionResume

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

CATCH_UP_SECONDS = 10.0
"""How long a run that never stands still is looked at."""

WAYS = "Add --force to write over it, or give the file's crew another `name` to keep both"

TREE_WIDTH = 120
"""Characters of a trace's lines where no terminal says how many it has."""


def add_run(subparsers: Subparsers) -> None:
    """Add ``run`` to the parser of `jupyter kasal`."""
    run = subparsers.add_parser(
        "run",
        help="run a crew and watch it",
        description="Run a crew and watch it; its answer goes to the standard output, all else to the "
        "standard error. A file's crew is created first, or updated where there is one of its name. "
        "Ctrl-C stops the run, on the server as well.",
        epilog=EXIT_STATUS,
    )
    run.add_argument(
        "crew",
        nargs="?",
        metavar="FILE|CREW",
        help="the crew: a YAML file (-: the input), its name, or its id",
    )
    run.add_argument("values", nargs="*", metavar="name=value", help="an input of the run")
    run.add_argument("--inputs", metavar="FILE", help="more inputs, in a file: YAML or JSON")
    run.add_argument(
        "--again",
        metavar="JOB",
        help="repeat an execution, by its id, its number in `ps`, or last; inputs given here win over its",
    )
    add_budget(run)
    run.add_argument(
        "--once",
        action="store_true",
        help="give the answer of the earlier run that was asked for the same, where there is one",
    )
    run.add_argument(
        "--fresh", action="store_true", help="run it all the same, whatever --once would have given"
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="only check it, and say what it may take; a file's crew is stored for that",
    )
    run.add_argument(
        "--force", action="store_true", help="write the file over a crew that was changed elsewhere"
    )
    add_cassette(run)
    add_watching(run)
    run.set_defaults(handler=run_run)


def add_replay(subparsers: Subparsers) -> None:
    """Add ``replay`` to the parser of `jupyter kasal`."""
    replay = subparsers.add_parser(
        "replay",
        help="run an execution once more from its record, at no cost",
        description="Run an execution that has ended once more from its record: no model is asked, no tool "
        "called, nothing is spent, and no key is needed. Its answer goes to the standard output.",
        epilog=EXIT_STATUS,
    )
    add_job(replay, numbers=True)
    add_watching(replay)
    replay.set_defaults(handler=run_replay)


def add_resume(subparsers: Subparsers) -> None:
    """Add ``resume`` to the parser of `jupyter kasal`."""
    resume = subparsers.add_parser(
        "resume",
        help="go on with an execution that ended before its time",
        description="Go on with an execution that failed, was stopped, ran out of its budget or was cut off. "
        "What its record has answered is not asked again. Its answer goes to the standard output.",
        epilog=EXIT_STATUS,
    )
    add_job(resume, numbers=True)
    resume.add_argument("values", nargs="*", metavar="name=value", help="an input that changes")
    resume.add_argument("--inputs", metavar="FILE", help="more of them, in a file: YAML or JSON")
    resume.add_argument(
        "--model", metavar="MODEL", help="ask this model from now on, whatever the crew names"
    )
    add_budget(resume)
    add_watching(resume)
    resume.set_defaults(handler=run_resume)


def add_watching(parser: argparse.ArgumentParser) -> None:
    """Have a parser take how a run is watched."""
    parser.add_argument("--json", action="store_true", help="print the run's events, a JSON object a line")
    parser.add_argument("--quiet", "-q", action="store_true", help="print the answer alone")
    parser.add_argument("--bg", action="store_true", help="print the job's id and go; the run goes on")
    add_server_options(parser)


def run_run(args: argparse.Namespace) -> int:
    """Carry out ``run``; give the exit status."""
    if args.again is not None and args.crew is not None:
        # The crew is the execution's: what stands there are inputs.
        args.values, args.crew = [args.crew, *args.values], None
    elif args.again is None and args.crew is None:
        raise WrongUsage("Which crew? Name it or its file, or repeat an execution: --again JOB")
    tape = tape_of_words(args)
    if args.bg and tape is not None and tape.record is not None:
        raise WrongUsage("A run is recorded when it has completed; leave --bg or --record out")
    if args.crew == "-" == args.inputs:
        raise WrongUsage("The crew and the inputs cannot both be the standard input")
    # What is wrong here is told before a server is started.
    inputs = read_inputs(args.values, args.inputs)
    crew = read_crew(args.crew) if args.crew is not None and names_file(args.crew) else None
    with ended_by_signals(), server_of(args) as client:
        if args.again is not None:
            before = client.execution(job_of(client, args.again))
            crew_id, inputs = before.crew_id, inputs_again(before.job_id, before.inputs, inputs)
        elif crew is None:
            crew_id = find_crew(client, args.crew).id
        else:
            crew_id, done = store_crew(client, crew, "terminal", args.crew, force=args.force, ways=WAYS)
            if not args.quiet:
                say(f"crew {clean(crew.name)}: {done}")
        if args.dry_run:
            return _check(client, crew_id, inputs, as_json=args.json)
        turn = tape.turn(client.crew(crew_id).name, inputs) if tape is not None else None
        once = args.once and not args.fresh and turn is None
        cassette = turn.cassette if turn is not None else None
        accepted = client.start(crew_id, inputs, budget=budget_of(args), once=once, cassette=cassette)
        if isinstance(accepted, ExecutionRecorded) and not args.quiet:
            say(answered_text(accepted.recorded))
        return watch(client, accepted, args, crew_id, turn)


def run_replay(args: argparse.Namespace) -> int:
    """Carry out ``replay``; give the exit status."""
    with ended_by_signals(), server_of(args) as client:
        return watch(client, client.replay(job_of(client, args.job)), args)


def run_resume(args: argparse.Namespace) -> int:
    """Carry out ``resume``; give the exit status."""
    inputs = read_inputs(args.values, args.inputs)
    with ended_by_signals(), server_of(args) as client:
        change = ExecutionResume(inputs=inputs, model=args.model, budget=budget_of(args))
        return watch(client, client.resume(job_of(client, args.job), change), args)


def watch(
    client: Client,
    accepted: ExecutionAccepted | ExecutionRecorded,
    args: argparse.Namespace,
    crew_id: str | None = None,
    turn: Turn | None = None,
) -> int:
    """Show a run to its end, or tell its id alone; give the exit status.

    One that has completed is recorded, where it is its ``turn``.

    Ctrl-C stops it, unless it is an earlier one, which is somebody else's.
    """
    if accepted.remarks and not args.quiet and not isinstance(accepted, ExecutionRecorded):
        said_of = client.crew(crew_id) if crew_id is not None else None
        for remark in accepted.remarks:
            say(clean(remark_line(remark, said_of)))
    if args.bg:
        print(accepted.model_dump_json() if args.json else accepted.job_id)
        if not args.json and not args.quiet:
            say(f"watch it with: jupyter kasal traces --follow {accepted.job_id}")
        return 0
    # Events are for programs and are the output; lines are for whoever waits for it.
    file = sys.stdout if args.json else sys.stderr
    with view_on(file, as_json=args.json, quiet=args.quiet) as view:
        asked_here = sys.stdin.isatty() and sys.stderr.isatty() and not args.json and not args.quiet
        prompt = Prompt(client, accepted.job_id, view) if asked_here else None
        stop = not isinstance(accepted, ExecutionRecorded)
        _follow(client, accepted.job_id, view, stop=stop, prompt=prompt)
    if (by := _successor(client, view.trace)) is not None:
        return watch(client, accepted.model_copy(update={"job_id": by, "remarks": []}), args, turn=turn)
    if turn is not None and view.trace.summary.status == "completed":
        turn.keep(client, accepted.job_id, _silent if args.quiet or args.json else say)
    if file.isatty() and answer_of(view.trace.summary) is not None and not args.quiet:
        say("")
    return _tell_end(client, view.trace, answer=not args.json, error=args.quiet or args.json)


def _silent(_text: str) -> None:
    """Say nothing."""


def _check(client: Client, crew_id: str, inputs: dict[str, Any], *, as_json: bool) -> int:
    """Say whether a crew could run, and what it may take; give the exit status."""
    answer = client.check(crew_id, inputs)
    checked = Checked(client.crew(crew_id), answer)
    if as_json:
        print(answer.model_dump_json())
    else:
        print(checked.title)
        if checked.rows:
            print_rows(console_of(sys.stdout), checked.heads, checked.rows)
    return 0 if checked.runnable else 1


def add_wait(subparsers: Subparsers) -> None:
    """Add ``wait`` to the parser of `jupyter kasal`."""
    wait = subparsers.add_parser(
        "wait",
        help="wait for an execution's end",
        description="Wait for an execution's end, and print its answer. Ctrl-C ends the waiting alone.",
        epilog=EXIT_STATUS,
    )
    add_job(wait, numbers=True)
    wait.add_argument("--json", action="store_true", help="print the execution as JSON")
    add_server_options(wait)
    wait.set_defaults(handler=run_wait)


def run_wait(args: argparse.Namespace) -> int:
    """Carry out ``wait``; give the exit status."""
    with server_of(args) as client:
        by: str | None = job_of(client, args.job)
        while by is not None:
            args.job = by
            with view_on(sys.stderr, quiet=True) as view:
                _follow(client, args.job, view, stop=False)
            by = _successor(client, view.trace)
        if args.json:
            print(client.execution(args.job).model_dump_json())
        return _tell_end(client, view.trace, answer=not args.json, error=True)


def add_traces(subparsers: Subparsers) -> None:
    """Add ``traces`` to the parser of `jupyter kasal`."""
    traces = subparsers.add_parser(
        "traces",
        help="show what an execution's agents did",
        description="Show what an execution's agents did, as a tree on one time axis.",
        epilog=EXIT_STATUS,
    )
    add_job(traces, numbers=True)
    traces.add_argument(
        "--follow",
        "-f",
        action="store_true",
        help="go on to the execution's end, step by step; Ctrl-C ends the watching alone",
    )
    add_step_search(traces)
    traces.add_argument("--json", action="store_true", help="print its events, a JSON object a line")
    add_server_options(traces)
    traces.set_defaults(handler=run_traces)


def run_traces(args: argparse.Namespace) -> int:
    """Carry out ``traces``; give the exit status."""
    with server_of(args) as client:
        args.job = job_of(client, args.job)
        if searches_steps(args):
            return _list_steps(client, args)
        if args.follow:
            with view_on(sys.stdout, as_json=args.json) as view:
                _follow(client, args.job, view, stop=False)
            if (by := _successor(client, view.trace)) is not None:
                args.job = by
                return run_traces(args)
            return _tell_end(client, view.trace, answer=not args.json, error=args.json)
        trace = _trace_so_far(client, args.job, as_json=args.json)
    if not args.json:
        console = console_of(sys.stdout)
        width = console.width if console.is_terminal else TREE_WIDTH
        text = render_text(trace, width=width)
        console.print(TraceHighlighter()(text) if console.is_terminal else text, soft_wrap=True)
    return exit_status(trace.summary.status)


def _list_steps(client: Client, args: argparse.Namespace) -> int:
    """List the steps that are looked for; give the exit status: 1 where there are none, as grep has it."""
    rows, told = found_steps(client, args.job, args)
    if args.json:
        print("".join(f"{row.model_dump_json()}\n" for row in rows), end="")
    elif rows:
        print_rows(console_of(sys.stdout), STEP_HEADS, map(trace_cells, rows), spare=("took", "time"))
    if told:
        say(clean(told))
    return 0 if rows else 1


def _follow(client: Client, job_id: str, view: RunView, *, stop: bool, prompt: Prompt | None = None) -> None:
    """Show a run until it ends, and ask its questions where there is a prompt.

    ``stop`` says whether Ctrl-C stops the run, or the watching alone.
    """
    waiting = Waiting(client, view.trace)

    def idle() -> None:
        waiting.look()
        view.position = waiting.position
        if prompt is not None:
            prompt.idle()

    try:
        for event in client.follow(job_id, on_idle=idle):
            view.feed(event)
            if prompt is not None:
                prompt.take(event)
    except (KeyboardInterrupt, SystemExit):
        if not stop:
            raise
        # It may have ended in this moment.
        with suppress(Conflict):
            client.stop(job_id)
        for event in client.follow(job_id, after=view.trace.summary.seq):
            view.feed(event)


def _successor(client: Client, trace: Trace) -> str | None:
    """Give the execution that goes on with one that was cut off with its server, and say so."""
    by = client.successor(trace.job_id) if trace.summary.resuming else None
    if by is not None:
        say(f"{trace.job_id} was cut off with its server; {by} goes on with it")
    return by


class _CaughtUp(Exception):
    """All that a run has done up to now is known."""


def _trace_so_far(client: Client, job_id: str, *, as_json: bool) -> Trace:
    """Give what has happened up to now in a run, whether it goes on or not."""
    trace = Trace(job_id=job_id)
    give_up = time.monotonic() + CATCH_UP_SECONDS

    def caught_up() -> None:
        if trace.summary.seq:
            raise _CaughtUp

    # A run that goes on has no last event, but is still for a moment when its past has come.
    with suppress(_CaughtUp):
        for event in client.follow(job_id, on_idle=caught_up):
            trace.feed(event)
            if as_json:
                print(orjson.dumps(event).decode())
            if time.monotonic() > give_up:
                break
    return trace


def _tell_end(client: Client, trace: Trace, *, answer: bool, error: bool) -> int:
    """Print the answer, or why there is none where the view has not said so; give the exit status."""
    summary, found = trace.summary, answer_of(trace.summary)
    if found is not None and answer:
        if summary.status != "completed":
            say(f"{trace.job_id} is {summary.status}; what there is of it:")
        # Of a very long one, the events have the beginning alone.
        whole = found if summary.result_file is None else client.result(trace.job_id).result
        print(clean(whole or found), flush=True)
    if summary.status != "completed" and error:
        failed = next((span.name for span in trace.roots if span.state == "failed"), None)
        where = f" in task {failed!r}" if failed else ""
        say(clean(f"jupyter kasal: {outcome(trace.job_id, summary, where)}"))
    return exit_status(summary.status)
