"""``jupyter kasal rename``, ``copy`` and ``rm``: crews under other names, and what is not needed any more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import find_crew
from kasal_jupyter.kernel.crews.stored_crews import TERMINAL, rename
from kasal_jupyter.kernel.magics.commands.crews import copy_crew, named, remove
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.crews import ChangeQuery

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers


def register(subparsers: Subparsers) -> None:
    """Add ``rename``, ``copy`` and ``rm`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    for name, text, handler in (
        ("rename", "Give a crew another name; of two of one name, its id says which.", run_rename),
        ("copy", "Make a crew like another; its memory, knowledge and history do not go along.", run_copy),
    ):
        parser = subparsers.add_parser(name, description=text)
        parser.add_argument("crew", metavar="CREW", help="a crew's name or id")
        parser.add_argument("name", metavar="NEWNAME", help="the new name")
        add_server_options(parser)
        parser.set_defaults(handler=handler)
    parser = subparsers.add_parser(
        "rm",
        description="Delete crews, with their versions, memory and knowledge, or executions that have ended, "
        "with their traces and files: none, where one is not there. What they have cost stays in the books.",
    )
    parser.add_argument("what", nargs="+", metavar="CREW|JOB", help="a crew's name or id, an execution's id")
    add_server_options(parser)
    parser.set_defaults(handler=run_rm)


def run_rename(args: argparse.Namespace) -> int:
    """Carry out ``rename``; give the exit status."""
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
        rename(client, crew, args.name, ChangeQuery(source="terminal"))
    say(clean(f"{crew.name} ({crew.id}) is called {args.name} now"))
    return 0


def run_copy(args: argparse.Namespace) -> int:
    """Carry out ``copy``; give the exit status."""
    with server_of(args) as client:
        crew = find_crew(client, args.crew)
        made = copy_crew(client, crew, args.name, ChangeQuery(source="terminal"))
    say(clean(f"created {made.id} {made.name}"))
    return 0


def run_rm(args: argparse.Namespace) -> int:
    """Carry out ``rm``; give the exit status."""
    with server_of(args) as client:
        for line in remove(client, [named(client, word, command=TERMINAL) for word in args.what]):
            say(clean(line))
    return 0
