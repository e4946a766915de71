"""What the sub-commands share: the server that they talk to, the words for an execution, and how they end."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.finding import find_server

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no other name

EXIT_STATUS = (
    "Exit status: 0 the run has completed (or goes on); 1 it has failed, or something was refused; "
    "2 wrong usage; 130 Ctrl-C, or it was stopped or interrupted."
)

_STATUSES = {"failed": 1, "stopped": 130, "interrupted": 130}


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--url`` and ``--token``."""
    group = parser.add_argument_group("the server")
    group.add_argument("--url", metavar="URL", help="its base URL (default: KASAL_URL, else what is there)")
    group.add_argument(
        "--token", metavar="TOKEN", help="Jupyter's token or a Kasal one (default: KASAL_TOKEN)"
    )


def add_job(parser: argparse.ArgumentParser, *, numbers: bool = False) -> None:
    """Add ``JOB``; with ``numbers``, :func:`job_of` says which execution is meant."""
    more = ", its number there (1: the latest), or last" if numbers else ""
    parser.add_argument(
        "job", metavar="JOB", help=f"the execution's id, as `jupyter kasal ps` lists it{more}"
    )


def job_of(client: Client, word: str) -> str:
    """Give the execution that is meant: an id, a number in the latest list, or ``last``.

    Whatever changes something takes an id alone: numbers move on with every new execution.
    """
    return (
        client.numbered_job(1 if word == "last" else int(word))
        if word == "last" or word.isdecimal()
        else word
    )


@contextmanager
def server_of(args: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the server that the options name, or that is found, or started."""
    client = Client(find_server(args.url, args.token, say=say))
    try:
        yield client
    finally:
        client.close()


def say(text: str) -> None:
    """Tell what goes on, beside the output proper."""
    print(text, file=sys.stderr, flush=True)


def exit_status(status: str) -> int:
    """Give the exit status that tells how a run stands."""
    return _STATUSES.get(status, 0)


STOP_SECONDS = 15.0
"""How long the server may take to end; longer than the extension itself does."""


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the process the way Ctrl-C does, so that it tidies up behind itself."""

    def end(number: int, frame: object) -> None:  # noqa: ARG001 - what a handler is given
        raise SystemExit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.signal(getattr(signal, name), end) for name in names}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


STDIN = "-"
"""What stands for the standard input."""
