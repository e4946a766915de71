"""``jupyter kasal history``: a crew's versions, what is different between two, and the way back."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import find_crew
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.kernel.crews.history import HEADS, difference, version_row
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.crews import ChangeQuery

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers


def register(subparsers: Subparsers) -> None:
    """Add ``history`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    history = subparsers.add_parser(
        "history",
        help="list a crew's versions, compare two, or bring one back",
        description="List a crew's versions, the newest first: who made each, when, and from where; or "
        "compare two of them, or bring one back, which makes a new version.",
    )
    history.add_argument("crew", metavar="CREW", help="a crew's name or id")
    doing = history.add_mutually_exclusive_group()
    doing.add_argument(
        "--diff", nargs="+", type=_number, metavar="N", help="compare version N with another, or the present"
    )
    doing.add_argument("--restore", type=_number, metavar="N", help="the version to bring back")
    history.add_argument("--json", action="store_true", help="the list as JSON, for programs")
    add_server_options(history)
    history.set_defaults(handler=run_history)


def run_history(args: argparse.Namespace) -> int:
    """Carry out ``history``; give the exit status."""
    if args.diff and len(args.diff) > 2:
        raise WrongUsage("--diff takes one version, or two")
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
        if args.diff:
            found = difference(client, crew, *args.diff)
            print(clean(found.text) if found else "Nothing is different")
            return 0
        if args.restore:
            change = ChangeQuery(source="terminal")
            made = client.restore_crew(crew.id, args.restore, present=crew.version, change=change)
            say(f"{clean(crew.name)} is as it was in version {made.restored}; that is version {made.version}")
            return 0
        versions = client.crew_versions(crew.id)
    if args.json:
        print(json.dumps([each.model_dump() for each in versions], indent=2, ensure_ascii=False))
    else:
        print_rows(console_of(sys.stdout), HEADS, map(version_row, versions), spare=("ran", "who"))
    return 0


def _number(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("a version's number, from 1")
    return number
