"""``jupyter kasal ps``, ``status``, ``result``, ``answer``, ``stop``: executions as the server knows them."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import (
    EXIT_STATUS,
    add_job,
    add_server_options,
    exit_status,
    job_of,
    say,
    server_of,
)
from kasal_jupyter.cli.terminal import STATE_STYLES, console_of, print_rows
from kasal_jupyter.kernel.runs.questions import answer_open, open_questions
from kasal_jupyter.kernel.runs.run_list import inputs_text
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import (
    calls_text,
    cost_text,
    counted,
    duration_text,
    lineage_text,
    moment_text,
    place_text,
)
from kasal_jupyter.kernel.views.rows import STATUS_MARKS, how_to_answer
from kasal_jupyter.schemas.base import MOST_LISTED
from kasal_jupyter.schemas.executions import ExecutionStatus

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

HEADS = ("job", "crew", "status", "progress", "time", "tokens", "cost", "created", "inputs")

SPARE = ("inputs", "created", "cost", "tokens", "progress", "time")
"""The columns that a narrow terminal does without, the first to go first."""


def register(subparsers: Subparsers) -> None:
    """Add ``ps``, ``status``, ``result``, ``answer`` and ``stop`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    ps = subparsers.add_parser(
        "ps", help="list the latest executions", description="List the latest executions, newest first."
    )
    ps.add_argument(
        "-n", type=_count, default=20, metavar="N", help=f"how many (default: 20, most: {MOST_LISTED})"
    )
    ps.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(ps)
    ps.set_defaults(handler=run_ps)

    status = subparsers.add_parser(
        "status",
        help="tell how an execution stands",
        description="Tell how an execution stands.",
        epilog=EXIT_STATUS,
    )
    add_job(status, numbers=True)
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(status)
    status.set_defaults(handler=run_status)

    result = subparsers.add_parser(
        "result",
        help="print what came of an execution, whole",
        description="Print what came of an execution that has ended: its answer, however long.",
        epilog=EXIT_STATUS,
    )
    add_job(result, numbers=True)
    result.add_argument("--json", action="store_true", help="as JSON, with what it used")
    add_server_options(result)
    result.set_defaults(handler=run_result)

    answer = subparsers.add_parser(
        "answer",
        help="answer what an agent asks in an execution",
        description="Answer the question of an execution that has been open for longest; without an answer, "
        "show the questions.",
    )
    add_job(answer)
    answer.add_argument("answer", nargs="?", metavar="TEXT", help="the answer; of choices, one or its number")
    add_server_options(answer)
    answer.set_defaults(handler=run_answer)

    stop = subparsers.add_parser(
        "stop", help="stop an execution", description="Stop an execution; its processes are gone afterwards."
    )
    add_job(stop)
    stop.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(stop)
    stop.set_defaults(handler=run_stop)


def run_ps(args: argparse.Namespace) -> int:
    """Carry out ``ps``; give the exit status."""
    with server_of(args) as client:
        found = client.executions(args.n)
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    elif not found:
        print("There are no executions yet; run a crew with: jupyter kasal run FILE|CREW name=value")
    else:
        print_rows(console_of(sys.stdout), HEADS, map(_row, found), spare=SPARE)
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Carry out ``status``; give the exit status."""
    with server_of(args) as client:
        found = client.execution(job_of(client, args.job))
    if args.json:
        print(found.model_dump_json())
        return exit_status(found.status)
    console = console_of(sys.stdout)
    console.print(_headline(found), style=STATE_STYLES[found.status], soft_wrap=True)
    for remark in found.remarks:
        print(clean(f"{remark.field}: {remark.remark}"))
    if found.error is not None:
        print(clean(f"{found.error.code}: {found.error.message}"))
    if found.partial_result is not None:
        print("\nSo far:")
    if (answer := found.result if found.result is not None else found.partial_result) is not None:
        print(f"\n{clean(answer)}")
        if found.result_truncated:
            say(f"it goes on: `jupyter kasal result {found.job_id}` prints all of it")
    elif found.current_task:
        print(f"now: {one_line(found.current_task)}")
    for asked in found.questions:
        print(clean(f"{asked.agent or 'An agent'} asks: {asked.question}"))
        print(how_to_answer(found.job_id, asked.choices))
    return exit_status(found.status)


def run_result(args: argparse.Namespace) -> int:
    """Carry out ``result``; give the exit status."""
    with server_of(args) as client:
        found = client.result(job_of(client, args.job))
    if args.json:
        print(found.model_dump_json())
    elif (answer := found.result if found.result is not None else found.partial_result) is not None:
        print(clean(answer), flush=True)
    if not args.json and (answered := calls_text(found.calls)):
        say(answered)
    if found.status != "completed" and not args.json:
        why = f": {found.error.code}: {found.error.message}" if found.error else ""
        say(clean(f"jupyter kasal: {found.job_id} is {found.status}{why}"))
    return exit_status(found.status)


def run_answer(args: argparse.Namespace) -> int:
    """Carry out ``answer``; give the exit status."""
    with server_of(args) as client:
        if args.answer is None:
            for each in open_questions(client, args.job):
                which = f" ({' / '.join(each.choices)})" if each.choices else ""
                print(clean(f"{each.agent or 'An agent'} asks: {each.question}{which}"))
            return 0
        asked = answer_open(client, args.job, args.answer)
    print(clean(f"answered {asked.agent or 'an agent'}: {asked.question}"))
    return 0


def run_stop(args: argparse.Namespace) -> int:
    """Carry out ``stop``; give the exit status."""
    with server_of(args) as client:
        answer = client.stop(args.job)
    print(answer.model_dump_json() if args.json else f"{answer.job_id} {answer.status}")
    return 0


def _count(word: str) -> int:
    number = int(word)
    if not 1 <= number <= MOST_LISTED:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST_LISTED}")
    return number


def _row(each: ExecutionStatus) -> list[str]:
    took = duration_text(each.duration) if each.duration is not None else ""
    tokens = f"{each.usage.total_tokens:,}" if each.usage.total_tokens else ""
    figures = [f"{each.progress} %", took, tokens, _cost(each)]
    status = f"queued, {each.queue_position}." if each.queue_position is not None else each.status
    status += f", {each.verb}" if each.verb != "run" else ""
    when, inputs = moment_text(each.created_at), inputs_text(each.inputs)
    return [each.job_id, each.crew_name, status, *figures, when, inputs]


def _cost(each: ExecutionStatus) -> str:
    """Give what it has cost, or that nobody knows; nothing where no model was asked."""
    return cost_text(each.usage.cost) if each.usage.llm_calls else ""


def _headline(found: ExecutionStatus) -> str:
    parts = [
        f"{one_line(found.crew_name, 80)}  {STATUS_MARKS[found.status]} {found.status}",
        f"{found.progress} %",
    ]
    if found.queue_position is not None:
        parts.append(place_text(found.queue_position))
    if found.duration is not None:
        parts.append(duration_text(found.duration))
    if found.usage.total_tokens:
        parts.append(counted(found.usage.total_tokens, "token"))
    if found.usage.cost is None:
        parts.append("cost unknown")
    elif found.usage.llm_calls:
        parts.append(cost_text(found.usage.cost))
    parts += filter(None, (calls_text(found.calls), lineage_text(found.verb, found.parent)))
    return "  ".join([*parts, found.job_id])
