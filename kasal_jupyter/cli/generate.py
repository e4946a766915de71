"""``jupyter kasal generate``: a crew from a sentence."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import store_crew
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.schemas.exchange import GENERATE_SECONDS, CrewGenerate
from kasal_jupyter.whole_file import write_whole

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers


def register(subparsers: Subparsers) -> None:
    """Add ``generate`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
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
        try:
            write_whole(path, found.yaml.encode(), new=not args.force)
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None
        say(f"wrote {path}")
    elif not args.save:
        sys.stdout.write(found.yaml)
    return 0
