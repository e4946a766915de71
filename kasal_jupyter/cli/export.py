"""``jupyter kasal export``: a crew, or what happened in an execution, as a file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import add_server_options, say, server_of
from kasal_jupyter.cli.crew_file import STDIN, find_crew
from kasal_jupyter.cli.terminal import Kind, print_file
from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_crew import dump_crew
from kasal_jupyter.whole_file import write_whole

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

FORMS = ("json", "html", "otel")
"""What an execution can be written as."""


def register(subparsers: Subparsers) -> None:
    """Add ``export`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    export = subparsers.add_parser(
        "export",
        help="write a crew as YAML, or an execution's trace",
        description="Write a crew as the YAML that `jupyter kasal run` takes, or an execution with all that "
        "happened in it: as JSON, as one HTML page, or as OpenTelemetry spans (OTLP in JSON).",
    )
    export.add_argument("what", metavar="CREW|JOB", help="a crew's name or id, or an execution's id")
    export.add_argument("file", nargs="?", metavar="FILE", help="where to write it (default: the output)")
    export.add_argument(
        "--as",
        dest="form",
        choices=FORMS,
        help="an execution's form (default: html where the file ends so, else json)",
    )
    export.add_argument("--force", action="store_true", help="overwrite the file if it is there")
    add_server_options(export)
    export.set_defaults(handler=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Carry out ``export``; give the exit status."""
    path = None if args.file in {None, STDIN} else Path(args.file)
    is_job = args.what.startswith("job_")
    if args.form is not None and not is_job:
        raise WrongUsage(
            f"A crew is written as YAML; --as {args.form} is for an execution, as `ps` lists them"
        )
    if path is not None and path.exists() and not args.force:
        raise InvalidRequest(f"{path} is there already; name another file, or add --force")
    with server_of(args) as client:
        if is_job:
            html = path is not None and path.suffix.lower() in {".html", ".htm"}
            form = args.form or ("html" if html else "json")
            text = _run_text(client, args.what, form)
            kind: Kind = "html" if form == "html" else "json"
        else:
            text, kind = dump_crew(find_crew(client, args.what)), "yaml"
    if path is None:
        print_file(text, kind)
        return 0
    try:
        write_whole(path, text.encode(), new=not args.force)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None
    say(f"wrote {path}")
    return 0


def _run_text(client: Client, job_id: str, form: str) -> str:
    from kasal_jupyter.kernel.runs.result import RunResult

    result = RunResult(job_id)
    for event in client.follow(job_id):
        result.feed(event)
    if form == "json":
        return f"{result.to_json()}\n"
    if form == "otel":
        return f"{json.dumps(result.to_otel(), ensure_ascii=False)}\n"
    with TemporaryDirectory() as folder:
        return result.to_html(Path(folder, "run.html")).read_text("utf-8")
