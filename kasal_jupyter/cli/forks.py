"""``jupyter kasal fork`` and ``diff``: another way from a step of an execution on, and in what two differ."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import (
    EXIT_STATUS,
    add_job,
    add_server_options,
    ended_by_signals,
    job_of,
    say,
    server_of,
)
from kasal_jupyter.cli.run import add_watching, watch
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.client.client import Client
from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.runs.forks import STEP_HEADS, read_change, steps_table
from kasal_jupyter.kernel.runs.run_list import add_budget, budget_of
from kasal_jupyter.kernel.views.difference import RunDifference
from kasal_jupyter.kernel.views.figures import preview_text
from kasal_jupyter.schemas.executions import EDITS, ExecutionFork

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

SPARE = ("cost", "agent", "task", "said")
"""The columns that a narrow terminal does without, the first to go first."""


def add_fork(subparsers: Subparsers) -> None:
    """Add ``fork`` to the parser of `jupyter kasal`."""
    fork = subparsers.add_parser(
        "fork",
        help="go another way from a step of an execution on",
        description="Leave an execution that has ended at a step, with the step's prompt, answer or result "
        "changed, and go another way from there. What comes before is not asked again; what is, and what it "
        "may cost, is said first. Its answer goes to the standard output.",
        epilog=EXIT_STATUS,
    )
    add_job(fork, numbers=True)
    fork.add_argument(
        "step", nargs="?", metavar="STEP", help="the step's number; without one, the steps are listed"
    )
    fork.add_argument(
        "values", nargs="*", metavar="prompt=|answer=|result=TEXT", help="what stands there from now on"
    )
    fork.add_argument(
        "--model", metavar="MODEL", help="ask this model from there on, whatever the crew names"
    )
    fork.add_argument("--yes", "-y", action="store_true", help="start it without asking")
    fork.add_argument("--dry-run", action="store_true", help="only say what it may take")
    add_budget(fork)
    add_watching(fork)
    fork.set_defaults(handler=run_fork)


def run_fork(args: argparse.Namespace) -> int:
    """Carry out ``fork``; give the exit status."""
    change = _change(args) if args.step is not None else None
    with ended_by_signals(), server_of(args) as client:
        job_id = job_of(client, args.job)
        if change is None:
            return _list_steps(client, job_id)
        preview = client.preview_fork(job_id, change)
        if args.dry_run:
            print(preview.model_dump_json() if args.json else preview_text(preview))
            return 0
        if not args.quiet:
            say(preview_text(preview))
        if not args.yes and not _agreed():
            return 1
        return watch(client, client.fork(job_id, change), args)


def _change(args: argparse.Namespace) -> ExecutionFork:
    values = {}
    for word in args.values:
        name, equals, text = word.partition("=")
        if not equals or name not in EDITS:
            raise WrongUsage(f"{word!r}: what is changed is prompt=…, answer=… or result=…")
        values[name] = text
    return read_change(args.step, values, model=args.model, budget=budget_of(args))[0]


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise WrongUsage("Nobody can be asked here whether to start it; add --yes, or --dry-run")
    say("Start it? [y/N]")
    return sys.stdin.readline().strip().casefold() in {"y", "yes"}


def _list_steps(client: Client, job_id: str) -> int:
    table = steps_table(build_trace(client.follow(job_id)))
    if table.title:
        say(table.title)
    if table.rows:
        print_rows(console_of(sys.stdout), STEP_HEADS, table.rows, spare=SPARE)
    return 0 if table.rows else 1


def add_diff(subparsers: Subparsers) -> None:
    """Add ``diff`` to the parser of `jupyter kasal`."""
    diff = subparsers.add_parser(
        "diff",
        help="show in what two executions differ",
        description="Show in what two executions differ: the first call in which they part, with its texts.",
        epilog="Exit status, as diff has it: 0 they do not differ; 1 they do, or something was refused; "
        "2 wrong usage.",
    )
    add_job(diff, numbers=True)
    diff.add_argument("other", nargs="?", metavar="OTHER", help="another; else the one that JOB is from")
    diff.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(diff)
    diff.set_defaults(handler=run_diff)


def run_diff(args: argparse.Namespace) -> int:
    """Carry out ``diff``; give the exit status."""
    with server_of(args) as client:
        one, other = job_of(client, args.job), args.other
        if other is None:
            parent = client.execution(one).parent
            if parent is None:
                raise WrongUsage(f"{one} is a run of its own; say with which other it is compared")
            one, other = parent, one
        found = client.diff(one, job_of(client, other))
    print(found.model_dump_json() if args.json else repr(RunDifference(found)))
    return 0 if found.same else 1
