"""``jupyter kasal usage``: what runs have used, and what it cost."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, get_args

from kasal_jupyter.cli.connect import add_server_options, server_of
from kasal_jupyter.cli.crew_file import find_crew
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.kernel.runs.usage_table import UsageTable
from kasal_jupyter.schemas.usage import GroupBy

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

SPARE = ("tool calls", "tokens out", "tokens in", "model calls", "runs")
"""The columns that a narrow terminal does without, the first to go first."""


def register(subparsers: Subparsers) -> None:
    """Add ``usage`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    usage = subparsers.add_parser(
        "usage",
        help="show what runs have used, and what it cost",
        description="Show what runs have used, and what it cost. What is unknown stays unknown: a cost of "
        "which a part is known is 'at least' that.",
    )
    usage.add_argument(
        "--by", choices=get_args(GroupBy), default="day", help="what it is told apart by (default: day)"
    )
    usage.add_argument("--crew", metavar="CREW", help="one crew's, by its name or id")
    usage.add_argument(
        "--since", metavar="DAY", help="the first day, 2024-01-15 (default: 29 days before the last)"
    )
    usage.add_argument("--until", metavar="DAY", help="the last day (default: today)")
    usage.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(usage)
    usage.set_defaults(handler=run_usage)


def run_usage(args: argparse.Namespace) -> int:
    """Carry out ``usage``; give the exit status."""
    with server_of(args) as client:
        crew_id = find_crew(client, args.crew).id if args.crew else None
        answer = client.usage(args.by, since=args.since, until=args.until, crew_id=crew_id)
    if args.json:
        print(answer.model_dump_json(indent=2))
        return 0
    table = UsageTable(answer)
    print(table.title)
    if table.rows:
        print_rows(
            console_of(sys.stdout),
            table.heads,
            table.rows,
            spare=[each for each in SPARE if each in table.heads],
        )
    return 0
