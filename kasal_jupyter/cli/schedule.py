"""``jupyter kasal schedule``: crews that are run by the clock."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import add_server_options, server_of
from kasal_jupyter.cli.crew_file import find_crew, read_inputs
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.kernel.runs.schedules import (
    add_schedule_options,
    done_with,
    schedule_of,
    schedule_shown,
    schedules_table,
)
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.schedules import SWITCHED_OFF

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.kernel.views.cards import Shown
    from kasal_jupyter.schemas.schedules import ScheduleDetails

SPARE = ("zone", "crew", "id")
"""The columns that a narrow terminal does without, the first to go first."""


def add_schedule(subparsers: Subparsers) -> None:
    """Add ``schedule`` to the parser of `jupyter kasal`."""
    schedule = subparsers.add_parser(
        "schedule",
        help="list schedules, or have a crew be run by the clock",
        description=f"List schedules, begin one, or do something with one. {SWITCHED_OFF}",
    )
    schedule.add_argument("crew", nargs="?", metavar="CREW", help="the crew to run; else all are listed")
    schedule.add_argument("values", nargs="*", metavar="name=value", help="inputs, as texts")
    schedule.add_argument("--inputs", metavar="FILE", help="more inputs, in a file: YAML or JSON")
    add_schedule_options(schedule)
    schedule.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(schedule)
    schedule.set_defaults(handler=run_schedule)


def run_schedule(args: argparse.Namespace) -> int:
    """Carry out ``schedule``; give the exit status."""
    inputs = read_inputs(args.values, args.inputs)
    with server_of(args) as client:
        if (done := done_with(client, args)) is not None:
            said, schedule = done
            if said:
                print(clean(said))
            else:
                _tell(args, schedule)
        elif args.crew is None:
            found = client.schedules()
            if args.json:
                print(f"[{','.join(each.model_dump_json() for each in found)}]")
            else:
                _print(schedules_table(found))
        else:
            crew = find_crew(client, args.crew)
            _tell(args, client.add_schedule(schedule_of(args, crew.id, crew.name, inputs)))
    return 0


def _tell(args: argparse.Namespace, schedule: ScheduleDetails) -> None:
    if args.json:
        print(schedule.model_dump_json(indent=2))
    else:
        _print(schedule_shown(schedule))


def _print(table: Shown) -> None:
    print(clean(table.title))
    if table.rows:
        spare = [each for each in SPARE if each in table.heads]
        print_rows(console_of(sys.stdout), table.heads, table.rows, spare=spare)
