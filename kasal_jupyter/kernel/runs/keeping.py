"""Runs as archives, and what of runs is kept no longer, as the notebook and the terminal ask for it."""

from __future__ import annotations

import zipfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.kernel.views.clean import clean, one_line
from kasal_jupyter.kernel.views.figures import counted, size_text
from kasal_jupyter.schemas.archive import HEAD
from kasal_jupyter.schemas.retention import PruneReport, PruneRequest
from kasal_jupyter.whole_file import whole_file

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client

PRUNE_HEADS = ("what", "why", "runs", "size")

_ACTIONS = {
    "delete": "deleted",
    "delete_files": "their files deleted",
    "delete_log": "their logs deleted",
    "compress": "compressed",
}

_RULES = {
    "age": "they are old",
    "number": "there are more than are kept",
    "size": "they take more than is kept",
}


def save_archive(client: Client, job_id: str, path: Path, *, force: bool = False) -> None:
    """Save a run that has ended as an archive.

    Raises
    ------
    InvalidRequest
        There is such a file already, or it cannot be written.
    """
    try:
        with whole_file(path, new=not force) as file:
            file.writelines(client.archive(job_id))
    except FileExistsError:
        raise InvalidRequest(f"{path} is there already; name another file, or add --force") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None


def is_archive(path: Path) -> bool:
    """Say whether a file is an archive of a run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return HEAD in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def bring(client: Client, path: Path) -> str:
    """Have the server take in a run that an archive has, and say what has come.

    Raises
    ------
    InvalidRequest
        It cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            came = client.import_execution(file)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None
    files = f", {counted(came.artifacts, 'file')}" if came.artifacts else ""
    what = f"{one_line(came.crew_name, 80)}, {came.status}, {counted(came.events, 'event')}{files}"
    return clean(f"{came.job_id}: {what} (was {came.was})")


def add_prune_options(parser: ArgumentParser) -> None:
    """Have a parser take what is kept no longer."""
    parser.add_argument("--dry-run", action="store_true", help="say only what would go, by which rule")
    for name, metavar, text in (
        ("execution-days", "DAYS", "delete runs that ended longer ago"),
        ("executions", "N", "keep the last N runs"),
        ("bytes", "SIZE", "keep so much: 500MB, 20GB; the first runs to end go"),
        ("artifact-days", "DAYS", "delete the files of runs that ended longer ago"),
        ("log-days", "DAYS", "delete the logs of runs that ended longer ago"),
        ("compress-days", "DAYS", "compress what is kept of runs that ended longer ago"),
    ):
        kind = {"DAYS": _days, "N": _whole, "SIZE": _size}[metavar]
        more = "; 0: never" if metavar == "DAYS" else "; 0: any number"
        parser.add_argument(f"--{name}", metavar=metavar, type=kind, help=f"{text}{more} (default: as set)")


def prune(client: Client, words: Namespace) -> PruneReport:
    """Take away what the words say, and what the server is set to where they say nothing."""
    names = set(PruneRequest.model_fields) - {"dry_run"}
    given = {name: value for name in names if (value := getattr(words, name, None)) is not None}
    return client.prune(PruneRequest(dry_run=words.dry_run, **given))


def prune_rows(report: PruneReport) -> list[list[str]]:
    """Give a row for each thing that goes, and why."""
    return [
        [_ACTIONS[step.action], _RULES[step.rule], f"{step.executions:,}", size_text(step.bytes)]
        for step in report.steps
    ]


def prune_title(report: PruneReport) -> str:
    """Say what is left."""
    left = f"{counted(report.executions, 'run')} with {size_text(report.bytes)}"
    held = f"; {counted(report.held, 'run')} more stay, since others need them" if report.held else ""
    if not report.steps:
        return f"Nothing is to go: there {'is' if report.executions == 1 else 'are'} {left}{held}"
    return f"{'There would be' if report.dry_run else 'There are'} {left} left{held}; the books stay"


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= 36_500:
        raise ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _size(text: str) -> int:
    number = text.rstrip("BbKkMmGgTt ")
    unit = text[len(number) :].strip().upper()
    if unit not in _UNITS or not number.isdecimal() or len(number) > 15:
        raise ArgumentTypeError(f"{text!r} is no size; write one as 500MB")
    return int(number) * _UNITS[unit]
