"""``jupyter kasal crews``, ``rename``, ``copy``, ``rm``, ``history``, ``generate``: crews and versions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import STDIN, add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import find_crew, hand_of, require_own_crew, store_crew
from kasal_jupyter.cli.terminal import console_of, print_file, print_rows, write_file
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
from kasal_jupyter.kernel.crews.history import VERSION_HEADS, difference, version_row
from kasal_jupyter.kernel.crews.stored_crews import TERMINAL, rename
from kasal_jupyter.kernel.magics.command_line import count
from kasal_jupyter.kernel.magics.commands.crews import CREW_HEADS, copy_crew, crew_row, named, remove
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.crews import ChangeQuery
from kasal_jupyter.schemas.exchange import GENERATE_SECONDS, CrewGenerate

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.formats.found_crew import Imported
    from kasal_jupyter.schemas.exchange import Remark

_WAYS = "Add --force to write over it, or --as NEWNAME to keep both"


def add_crews(subparsers: Subparsers) -> None:
    """Add ``crews`` to the parser of `jupyter kasal`."""
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
    taken.set_defaults(handler=run_crews_import)
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
    given.set_defaults(handler=run_crews_export)


def run_crews(args: argparse.Namespace) -> int:
    """Carry out ``crews``; give the exit status."""
    with server_of(args) as client:
        found = client.crews()
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    elif not found:
        print("There are no crews yet; `jupyter kasal run FILE` makes one from a YAML file and runs it")
    else:
        spare = ("owner", "changed", "version", "status", "agents")
        print_rows(console_of(sys.stdout), CREW_HEADS, map(crew_row, found), spare=spare)
    return 0


def run_crews_import(args: argparse.Namespace) -> int:
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


def run_crews_export(args: argparse.Namespace) -> int:
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


# -- other names, and what is not needed ----------------------------------------------------------------

# ``jupyter kasal rename``, ``copy`` and ``rm``: crews under other names, and what is not needed any more.


def add_rename(subparsers: Subparsers) -> None:
    """Add ``rename`` to the parser of `jupyter kasal`."""
    parser = subparsers.add_parser(
        "rename", description="Give a crew another name; of two of one name, its id says which."
    )
    _add_names(parser)
    parser.set_defaults(handler=run_rename)


def run_rename(args: argparse.Namespace) -> int:
    """Carry out ``rename``; give the exit status."""
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
        rename(client, crew, args.name, ChangeQuery(source="terminal"))
    say(clean(f"{crew.name} ({crew.id}) is called {args.name} now"))
    return 0


def add_copy(subparsers: Subparsers) -> None:
    """Add ``copy`` to the parser of `jupyter kasal`."""
    parser = subparsers.add_parser(
        "copy", description="Make a crew like another; its memory, knowledge and history do not go along."
    )
    _add_names(parser)
    parser.set_defaults(handler=run_copy)


def run_copy(args: argparse.Namespace) -> int:
    """Carry out ``copy``; give the exit status."""
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
        made = copy_crew(client, crew, args.name, ChangeQuery(source="terminal"))
    say(clean(f"created {made.id} {made.name}"))
    return 0


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("crew", metavar="CREW", help="a crew's name or id")
    parser.add_argument("name", metavar="NEWNAME", help="the new name")
    add_server_options(parser)


def add_rm(subparsers: Subparsers) -> None:
    """Add ``rm`` to the parser of `jupyter kasal`."""
    parser = subparsers.add_parser(
        "rm",
        description="Delete crews, with their versions, memory and knowledge, or executions that have ended, "
        "with their traces and files: none, where one is not there. What they have cost stays in the books.",
    )
    parser.add_argument("what", nargs="+", metavar="CREW|JOB", help="a crew's name or id, an execution's id")
    add_server_options(parser)
    parser.set_defaults(handler=run_rm)


def run_rm(args: argparse.Namespace) -> int:
    """Carry out ``rm``; give the exit status."""
    with server_of(args) as client:
        for line in remove(client, [named(client, word, command=TERMINAL) for word in args.what]):
            say(clean(line))
    return 0


# -- versions -------------------------------------------------------------------------------------------

# ``jupyter kasal history``: a crew's versions, what is different between two, and the way back.


def add_history(subparsers: Subparsers) -> None:
    """Add ``history`` to the parser of `jupyter kasal`."""
    history = subparsers.add_parser(
        "history",
        help="list a crew's versions, compare two, or bring one back",
        description="List a crew's versions, the newest first: who made each, when, and from where; or "
        "compare two of them, or bring one back, which makes a new version.",
    )
    history.add_argument("crew", metavar="CREW", help="a crew's name or id")
    doing = history.add_mutually_exclusive_group()
    doing.add_argument(
        "--diff", nargs="+", type=count, metavar="N", help="compare version N with another, or the present"
    )
    doing.add_argument("--restore", type=count, metavar="N", help="the version to bring back")
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
        print_rows(console_of(sys.stdout), VERSION_HEADS, map(version_row, versions), spare=("ran", "who"))
    return 0


# -- from a sentence ------------------------------------------------------------------------------------

# ``jupyter kasal generate``: a crew from a sentence.


def add_generate(subparsers: Subparsers) -> None:
    """Add ``generate`` to the parser of `jupyter kasal`."""
    generate = subparsers.add_parser(
        "generate",
        help="have a model make a crew of a sentence",
        description="Have a model make a crew of a sentence. The YAML that `jupyter kasal run` takes is "
        "written to the output, once it is seen that the crew could run.",
    )
    generate.add_argument("description", metavar="SENTENCE", help="what the crew is to do, in quotes")
    generate.add_argument("--model", metavar="MODEL", help="the model that makes it, and that its agents use")
    generate.add_argument("--name", metavar="NAME", help="the crew's name; else the model gives one")
    generate.add_argument(
        "--input", metavar="NAME", action="append", default=[], help="an input that each run is to take"
    )
    generate.add_argument("--save", action="store_true", help="create the crew on the server")
    generate.add_argument("-o", "--output", metavar="FILE", help="where to write the YAML")
    generate.add_argument("--force", action="store_true", help="overwrite the file if it is there")
    generate.add_argument(
        "--timeout", metavar="S", type=int, default=GENERATE_SECONDS, help="seconds that it may take"
    )
    add_server_options(generate)
    generate.set_defaults(handler=run_generate)


def run_generate(args: argparse.Namespace) -> int:
    """Carry out ``generate``; give the exit status."""
    path = None if args.output in {None, "-"} else Path(args.output)
    if path is not None and path.exists() and not args.force:
        raise InvalidRequest(f"{path} is there already; name another file, or add --force")
    try:
        body = CrewGenerate(
            description=args.description,
            model=args.model,
            name=args.name,
            inputs=args.input,
            timeout=args.timeout,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise WrongUsage(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    with server_of(args) as client:
        found = client.generate_crew(body)
        if args.save:
            ways = "Add --force to write over it, or --name NEWNAME to keep both"
            crew_id, verb = store_crew(client, found.crew, "generate", None, force=args.force, ways=ways)
            say(f"{verb} {crew_id} {found.crew.name}")
    say(f"made by {found.model}; `jupyter kasal traces {found.job_ids[-1]}` shows how")
    if path is not None:
        write_file(path, found.yaml.encode(), new=not args.force)
        say(f"wrote {path}")
    elif not args.save:
        sys.stdout.write(found.yaml)
    return 0
