"""``jupyter kasal crews``: the crews that there are; to get some in, and to get one out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import STDIN, find_crew, hand_of, require_own_crew, store_crew
from kasal_jupyter.cli.terminal import console_of, print_file, print_rows
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.kernel.crews.crew_files import (
    FORMATS,
    READ_FORMATS,
    export,
    placed,
    read_crew,
    remark_lines,
    save,
    source_of,
)
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import moment_text

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.formats.found_crew import Imported
    from kasal_jupyter.schemas.exchange import Remark

HEADS = ("crew", "status", "agents", "version", "changed", "owner", "id")


_WAYS = "Add --force to write over it, or --as NEWNAME to keep both"


def register(subparsers: Subparsers) -> None:
    """Add ``crews`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    crews = subparsers.add_parser(
        "crews",
        help="list the crews, import some, export one",
        description="List the crews, newest first; or import crews, or export one, in every format.",
    )
    crews.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(crews)
    crews.set_defaults(handler=run_crews)
    actions = crews.add_subparsers(metavar="import|export")
    # What stands before the word counts where nothing stands behind it.
    taken = actions.add_parser(
        "import",
        argument_default=argparse.SUPPRESS,
        help="create or update crews from files",
        description="Create or update crews from files: all of them, or none where one has a fault. A crew's "
        "YAML, a CrewAI project (its folder, a zip of it, or its agents.yaml), crew.jsonc, or an export of "
        "Kasal's canvas. Nothing of it is executed.",
    )
    taken.add_argument("paths", nargs="+", metavar="PATH", help="a file or a folder")
    taken.add_argument(
        "--force", action="store_true", default=False, help="write over crews that were changed elsewhere"
    )
    taken.add_argument(
        "--name", "--as", metavar="NAME", default=None, help="the crew's name; else its own, else the file's"
    )
    taken.add_argument(
        "--format", choices=READ_FORMATS, default="auto", help="what it is (default: found out)"
    )
    taken.add_argument(
        "--dry-run", action="store_true", default=False, help="write the YAML to the output, store nothing"
    )
    add_server_options(taken)
    taken.set_defaults(handler=run_import)
    given = actions.add_parser(
        "export",
        argument_default=argparse.SUPPRESS,
        help="write a crew in a format",
        description="Write a crew as YAML, as a project that runs with CrewAI alone, or for Kasal's canvas.",
    )
    given.add_argument("crew", metavar="CREW", help="a crew's name or id")
    given.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        default=None,
        help="a file; of a project a folder, or a .zip (default: the output)",
    )
    given.add_argument("--format", choices=FORMATS, default="yaml", help="default: yaml")
    given.add_argument("--force", action="store_true", default=False, help="overwrite what is there")
    add_server_options(given)
    given.set_defaults(handler=run_export)


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
            [
                each.name,
                each.status,
                str(each.agents_count),
                str(each.version),
                moment_text(each.updated_at),
                each.owner,
                each.id,
            ]
            for each in found
        )
        spare = ("owner", "changed", "version", "status", "agents")
        print_rows(console_of(sys.stdout), HEADS, rows, spare=spare)
    return 0


def run_import(args: argparse.Namespace) -> int:
    """Carry out ``crews import``; give the exit status."""
    paths = list(dict.fromkeys(source_of(Path(word)) for word in args.paths))
    if args.name is not None and len(paths) > 1:
        raise WrongUsage("--name is for one crew; several are called by their name, else by their file's")
    faults: list[Fault] = []
    found: list[Imported] = []
    with server_of(args) as client:
        tools = [tool.name for tool in client.tools()]
        for path in paths:
            try:
                found.append(read_crew(path, name=args.name, wanted=args.format, tools=tools))
            except InvalidRequest as error:
                if not error.faults:
                    raise
                faults += placed(error.faults, path)
        if faults:
            raise InvalidRequest("Nothing was imported", faults=faults)
        if not (args.dry_run or args.force):
            for path, each in zip(paths, found, strict=True):
                require_own_crew(client, each.crew, hand_of("import", str(path), force=False, ways=_WAYS))
        for path, each in zip(paths, found, strict=True):
            _say_remarks(str(path), each.remarks)
            if args.dry_run:
                print_file(export(each.crew, "yaml").only[1], "yaml")
                continue
            crew_id, verb = store_crew(client, each.crew, "import", str(path), force=args.force, ways=_WAYS)
            say(f"{verb} {crew_id} {each.crew.name}")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Carry out ``crews export``; give the exit status."""
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
    found = export(crew, args.format)
    if args.path in {None, STDIN}:
        if len(found.files) > 1:
            raise WrongUsage("A project has several files: name a folder for them, or a .zip file")
        _say_remarks(crew.name, found.remarks)
        print_file(found.only[1], "json" if args.format == "kasal" else "yaml")
        return 0
    save(found, Path(args.path), force=args.force)
    _say_remarks(crew.name, found.remarks)
    say(f"wrote {args.path}")
    return 0


def _say_remarks(what: str, remarks: list[Remark]) -> None:
    if remarks:
        say(clean("\n".join([f"{what}: what could not be carried over as it is:", *remark_lines(remarks)])))
