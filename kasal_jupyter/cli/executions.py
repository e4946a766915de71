"""Executions as the server knows them, and what came of them.

``jupyter kasal ps``, ``status``, ``result``, ``answer``, ``stop``, ``artifacts``, ``usage``, ``export``,
``import``, ``prune``.
Whatever reads and writes crews is loaded where one is named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import (
    EXIT_STATUS,
    STDIN,
    add_job,
    add_server_options,
    exit_status,
    job_of,
    say,
    server_of,
)
from kasal_jupyter.cli.terminal import STATE_STYLES, Kind, console_of, print_file, print_rows, write_file
from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.kernel.magics.command_line import count
from kasal_jupyter.kernel.runs.artifacts import FILE_HEADS, artifacts_of
from kasal_jupyter.kernel.runs.keeping import (
    PRUNE_HEADS,
    add_prune_options,
    bring,
    prune,
    prune_rows,
    prune_title,
    save_archive,
)
from kasal_jupyter.kernel.runs.questions import answer_open, open_questions
from kasal_jupyter.kernel.runs.run_list import answer_of, inputs_text, outcome
from kasal_jupyter.kernel.runs.usage import UsageTable, add_usage_options
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import (
    calls_text,
    cost_text,
    counted,
    duration_text,
    lineage_text,
    moment_text,
    place_text,
    size_text,
)
from kasal_jupyter.kernel.views.rows import STATUS_MARKS, asked_text, how_to_answer
from kasal_jupyter.schemas.base import MOST_LISTED
from kasal_jupyter.schemas.executions import ExecutionStatus

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

HEADS = ("job", "crew", "status", "progress", "time", "tokens", "cost", "created", "inputs")

SPARE = ("inputs", "created", "cost", "tokens", "progress", "time")
"""The columns that a narrow terminal does without, the first to go first."""


def add_ps(subparsers: Subparsers) -> None:
    """Add ``ps`` to the parser of `jupyter kasal`."""
    ps = subparsers.add_parser(
        "ps", help="list the latest executions", description="List the latest executions, newest first."
    )
    ps.add_argument(
        "-n", type=count, default=20, metavar="N", help=f"how many (default: 20, most: {MOST_LISTED})"
    )
    ps.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(ps)
    ps.set_defaults(handler=run_ps)


def run_ps(args: argparse.Namespace) -> int:
    """Carry out ``ps``; give the exit status."""
    with server_of(args) as client:
        found = client.executions(min(args.n, MOST_LISTED))
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    elif not found:
        print("There are no executions yet; run a crew with: jupyter kasal run FILE|CREW name=value")
    else:
        print_rows(console_of(sys.stdout), HEADS, map(_row, found), spare=SPARE)
    return 0


def add_status(subparsers: Subparsers) -> None:
    """Add ``status`` to the parser of `jupyter kasal`."""
    status = subparsers.add_parser(
        "status",
        help="tell how an execution stands",
        description="Tell how an execution stands.",
        epilog=EXIT_STATUS,
    )
    add_job(status, numbers=True)
    status.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(status)
    status.set_defaults(handler=run_status)


def run_status(args: argparse.Namespace) -> int:
    """Carry out ``status``; give the exit status."""
    with server_of(args) as client:
        found = client.execution(job_of(client, args.job))
    if args.json:
        print(found.model_dump_json())
        return exit_status(found.status)
    console = console_of(sys.stdout)
    console.print(_headline(found), style=STATE_STYLES[found.status], soft_wrap=True)
    for remark in found.remarks:
        print(clean(f"{remark.field}: {remark.remark}"))
    if found.error is not None:
        print(clean(f"{found.error.code}: {found.error.message}"))
    if found.partial_result is not None:
        print("\nSo far:")
    if (answer := answer_of(found)) is not None:
        print(f"\n{clean(answer)}")
        if found.result_truncated:
            say(f"it goes on: `jupyter kasal result {found.job_id}` prints all of it")
    elif found.current_task:
        print(f"now: {one_line(found.current_task)}")
    for asked in found.questions:
        print(asked_text(asked))
        print(how_to_answer(found.job_id, asked.choices))
    return exit_status(found.status)


def add_result(subparsers: Subparsers) -> None:
    """Add ``result`` to the parser of `jupyter kasal`."""
    result = subparsers.add_parser(
        "result",
        help="print what came of an execution, whole",
        description="Print what came of an execution that has ended: its answer, however long.",
        epilog=EXIT_STATUS,
    )
    add_job(result, numbers=True)
    result.add_argument("--json", action="store_true", help="as JSON, with what it used")
    add_server_options(result)
    result.set_defaults(handler=run_result)


def run_result(args: argparse.Namespace) -> int:
    """Carry out ``result``; give the exit status."""
    with server_of(args) as client:
        found = client.result(job_of(client, args.job))
    if args.json:
        print(found.model_dump_json())
    elif (answer := answer_of(found)) is not None:
        print(clean(answer), flush=True)
    if not args.json and (answered := calls_text(found.calls)):
        say(answered)
    if found.status != "completed" and not args.json:
        say(clean(f"jupyter kasal: {outcome(found.job_id, found)}"))
    return exit_status(found.status)


def add_answer(subparsers: Subparsers) -> None:
    """Add ``answer`` to the parser of `jupyter kasal`."""
    answer = subparsers.add_parser(
        "answer",
        help="answer what an agent asks in an execution",
        description="Answer the question of an execution that has been open for longest; without an answer, "
        "show the questions.",
    )
    add_job(answer)
    answer.add_argument("answer", nargs="?", metavar="TEXT", help="the answer; of choices, one or its number")
    add_server_options(answer)
    answer.set_defaults(handler=run_answer)


def run_answer(args: argparse.Namespace) -> int:
    """Carry out ``answer``; give the exit status."""
    with server_of(args) as client:
        if args.answer is None:
            for each in open_questions(client, args.job):
                which = f" ({' / '.join(each.choices)})" if each.choices else ""
                print(f"{asked_text(each)}{which}")
            return 0
        asked = answer_open(client, args.job, args.answer)
    print(clean(f"answered {asked.agent or 'an agent'}: {asked.question}"))
    return 0


def add_stop(subparsers: Subparsers) -> None:
    """Add ``stop`` to the parser of `jupyter kasal`."""
    stop = subparsers.add_parser(
        "stop", help="stop an execution", description="Stop an execution; its processes are gone afterwards."
    )
    add_job(stop)
    stop.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(stop)
    stop.set_defaults(handler=run_stop)


def run_stop(args: argparse.Namespace) -> int:
    """Carry out ``stop``; give the exit status."""
    with server_of(args) as client:
        answer = client.stop(args.job)
    print(answer.model_dump_json() if args.json else f"{answer.job_id} {answer.status}")
    return 0


def _row(each: ExecutionStatus) -> list[str]:
    took = duration_text(each.duration) if each.duration is not None else ""
    tokens = f"{each.usage.total_tokens:,}" if each.usage.total_tokens else ""
    figures = [f"{each.progress} %", took, tokens, _cost(each)]
    status = f"queued, {each.queue_position}." if each.queue_position is not None else each.status
    status += f", {each.verb}" if each.verb != "run" else ""
    when, inputs = moment_text(each.created_at), inputs_text(each.inputs)
    return [each.job_id, each.crew_name, status, *figures, when, inputs]


def _cost(each: ExecutionStatus) -> str:
    """Give what it has cost, or that nobody knows; nothing where no model was asked."""
    return cost_text(each.usage.cost) if each.usage.llm_calls else ""


def _headline(found: ExecutionStatus) -> str:
    parts = [
        f"{one_line(found.crew_name, 80)}  {STATUS_MARKS[found.status]} {found.status}",
        f"{found.progress} %",
    ]
    if found.queue_position is not None:
        parts.append(place_text(found.queue_position))
    if found.duration is not None:
        parts.append(duration_text(found.duration))
    if found.usage.total_tokens:
        parts.append(counted(found.usage.total_tokens, "token"))
    if found.usage.cost is None:
        parts.append("cost unknown")
    elif found.usage.llm_calls:
        parts.append(cost_text(found.usage.cost))
    parts += filter(None, (calls_text(found.calls), lineage_text(found.verb, found.parent)))
    return "  ".join([*parts, found.job_id])


# -- files ----------------------------------------------------------------------------------------------

# ``jupyter kasal artifacts``: the files that an execution has written.

_SPARE_OF_FILES = ("written", "type", "size")
"""The columns that a narrow terminal does without, the first to go first."""


def add_artifacts(subparsers: Subparsers) -> None:
    """Add ``artifacts`` to the parser of `jupyter kasal`."""
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
        print_rows(console_of(sys.stdout), FILE_HEADS, cells, spare=_SPARE_OF_FILES)
    return 0


# -- usage ----------------------------------------------------------------------------------------------

# ``jupyter kasal usage``: what runs have used, and what it cost.

_SPARE_OF_USAGE = ("tool calls", "tokens out", "tokens in", "model calls", "runs")
"""The columns that a narrow terminal does without, the first to go first."""


def add_usage(subparsers: Subparsers) -> None:
    """Add ``usage`` to the parser of `jupyter kasal`."""
    usage = subparsers.add_parser(
        "usage",
        help="show what runs have used, and what it cost",
        description="Show what runs have used, and what it cost. What is unknown stays unknown: a cost of "
        "which a part is known is 'at least' that.",
    )
    add_usage_options(usage)
    usage.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(usage)
    usage.set_defaults(handler=run_usage)


def run_usage(args: argparse.Namespace) -> int:
    """Carry out ``usage``; give the exit status."""
    with server_of(args) as client:
        crew_id = None
        if args.crew:
            from kasal_jupyter.cli.crew_file import find_crew

            crew_id = find_crew(client, args.crew).id
        answer = client.usage(args.by or "day", since=args.since, until=args.until, crew_id=crew_id)
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
            spare=[each for each in _SPARE_OF_USAGE if each in table.heads],
        )
    return 0


# -- export ---------------------------------------------------------------------------------------------

# ``jupyter kasal export``: a crew, or what happened in an execution, as a file.

FORMS = ("json", "html", "otel", "archive")
"""What an execution can be written as."""


_FORMS = {".html": "html", ".htm": "html", ".zip": "archive"}


def add_export(subparsers: Subparsers) -> None:
    """Add ``export`` to the parser of `jupyter kasal`."""
    export = subparsers.add_parser(
        "export",
        help="write a crew as YAML, or an execution's trace",
        description="Write a crew as the YAML that `jupyter kasal run` takes, or an execution with all that "
        "happened in it: as JSON, as one HTML page, as OpenTelemetry spans (OTLP in JSON), or as an archive "
        "with its files, which `jupyter kasal import` takes elsewhere.",
    )
    export.add_argument("what", metavar="CREW|JOB", help="a crew's name or id, or an execution's id")
    export.add_argument("file", nargs="?", metavar="FILE", help="where to write it (default: the output)")
    export.add_argument(
        "--as",
        dest="form",
        choices=FORMS,
        help="an execution's form (default: html or archive where the file ends in .html or .zip, else json)",
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
    form = args.form or (_FORMS.get(path.suffix.lower()) if path is not None else None) or "json"
    with server_of(args) as client:
        if is_job and form == "archive":
            if path is None:
                raise WrongUsage("An archive is written into a file; name one, such as run.zip")
            save_archive(client, args.what, path, force=args.force)
            say(f"wrote {path}")
            return 0
        if is_job:
            text = _run_text(client, args.what, form)
            kind: Kind = "html" if form == "html" else "json"
        else:
            from kasal_jupyter.cli.crew_file import find_crew
            from kasal_jupyter.formats.yaml_crew import dump_crew

            text, kind = dump_crew(find_crew(client, args.what)), "yaml"
    if path is None:
        print_file(text, kind)
        return 0
    write_file(path, text.encode(), new=not args.force)
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


# -- import and prune -----------------------------------------------------------------------------------


def add_import(subparsers: Subparsers) -> None:
    """Add ``import`` to the parser of `jupyter kasal`."""
    taking = subparsers.add_parser(
        "import",
        help="take in executions that were exported as archives",
        description="Take in executions that `jupyter kasal export JOB FILE.zip` has written, here or "
        "elsewhere: they can be read, replayed, compared and resumed then, under new ids. Crews come by "
        "`crews --import`.",
    )
    taking.add_argument("files", nargs="+", metavar="FILE", help="archives")
    add_server_options(taking)
    taking.set_defaults(handler=run_import)


def run_import(args: argparse.Namespace) -> int:
    """Carry out ``import``; give the exit status."""
    with server_of(args) as client:
        for name in args.files:
            print(bring(client, Path(name)))
    return 0


def add_prune(subparsers: Subparsers) -> None:
    """Add ``prune`` to the parser of `jupyter kasal`."""
    pruning = subparsers.add_parser(
        "prune",
        help="compress and delete what of executions is kept no longer",
        description="Compress and delete what of executions is kept no longer, as the server does of itself "
        "once an hour by what it is set to. What was used stays in the books. It is for admins.",
    )
    add_prune_options(pruning)
    pruning.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(pruning)
    pruning.set_defaults(handler=run_prune)


def run_prune(args: argparse.Namespace) -> int:
    """Carry out ``prune``; give the exit status."""
    with server_of(args) as client:
        report = prune(client, args)
    if args.json:
        print(report.model_dump_json(indent=2))
        return 0
    if report.steps:
        print_rows(console_of(sys.stdout), PRUNE_HEADS, prune_rows(report), spare=())
    print(prune_title(report))
    return 0
