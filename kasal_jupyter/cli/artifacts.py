"""``jupyter kasal artifacts``: the files that an execution has written."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import add_job, add_server_options, job_of, say, server_of
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.kernel.runs.artifacts import HEADS, artifacts_of
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import moment_text, size_text

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

SPARE = ("written", "type", "size")
"""The columns that a narrow terminal does without, the first to go first."""


def register(subparsers: Subparsers) -> None:
    """Add ``artifacts`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    artifacts = subparsers.add_parser(
        "artifacts",
        help="list or save the files that an execution has written",
        description="List the files that an execution has written, or save them.",
    )
    add_job(artifacts, numbers=True)
    artifacts.add_argument("--get", metavar="FILE", help="save one of them")
    artifacts.add_argument("--to", metavar="FOLDER", help="save there, all files where none is named")
    artifacts.add_argument("--force", action="store_true", help="overwrite files that are there")
    artifacts.add_argument("--json", action="store_true", help="the list as JSON, for programs")
    add_server_options(artifacts)
    artifacts.set_defaults(handler=run_artifacts)


def run_artifacts(args: argparse.Namespace) -> int:
    """Carry out ``artifacts``; give the exit status."""
    with server_of(args) as client:
        args.job = job_of(client, args.job)
        found = artifacts_of(client, args.job)
        if args.get is not None or args.to is not None:
            for each in found if args.get is None else [found.named(args.get)]:
                path = each.save(args.to or ".", force=args.force)
                say(clean(f"{each.name} → {path}"))
            return 0
    if args.json:
        rows = [
            {"name": each.name, "size": each.size, "media_type": each.media_type, "modified": each.modified}
            for each in found
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not found:
        print(f"{args.job} has written no files")
    else:
        cells = (
            [each.name, size_text(each.size), each.media_type, moment_text(each.modified)] for each in found
        )
        print_rows(console_of(sys.stdout), HEADS, cells, spare=SPARE)
    return 0
