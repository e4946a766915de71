"""``jupyter kasal crews``: the crews that there are."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import add_server_options, server_of
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.kernel.figures import moment_text

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

HEADS = ("crew", "status", "agents", "created", "id")


def register(subparsers: Subparsers) -> None:
    """Add ``crews`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    crews = subparsers.add_parser("crews", help="list the crews", description="List the crews, newest first.")
    crews.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(crews)
    crews.set_defaults(handler=run_crews)


def run_crews(args: argparse.Namespace) -> int:
    """Carry out ``crews``; give the exit status."""
    with server_of(args) as client:
        found = client.crews()
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    elif not found:
        print("There are no crews yet; `jupyter kasal run FILE` makes one from a YAML file and runs it")
    else:
        rows = (
            [each.name, each.status, str(each.agents_count), moment_text(each.created_at), each.id]
            for each in found
        )
        print_rows(console_of(sys.stdout), HEADS, rows, spare=("created", "status", "agents"))
    return 0
