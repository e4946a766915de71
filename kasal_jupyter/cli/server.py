"""``jupyter kasal server``: the private servers that notebooks and terminals have started."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

from kasal_jupyter.cli.connect import STOP_SECONDS
from kasal_jupyter.cli.terminal import console_of, print_rows
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.private_server import Announcement, announcement_path, running_servers
from kasal_jupyter.errors import Conflict
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.schemas.executions import ENDED

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers

HEADS = ("url", "pid", "version", "ends idle after", "data")

MOST = 500
"""Executions that are looked at for those that run: the latest."""


def add_server(subparsers: Subparsers) -> None:
    """Add ``server`` to the parser of `jupyter kasal`."""
    server = subparsers.add_parser(
        "server",
        help="list or stop your private servers",
        description="A notebook or a terminal that finds no Jupyter server with Kasal starts a private one "
        "for its user. It ends by itself when it has not been used for a while.",
    )
    commands = server.add_subparsers(title="commands", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="list those that run", description="List those that run.")
    listing.add_argument("--json", action="store_true", help="as JSON, with their tokens, for programs")
    listing.set_defaults(handler=run_list)

    stop = commands.add_parser(
        "stop",
        help="stop them",
        description="Stop the private server of this environment; the next command that needs one starts it "
        "again, with the keys that the environment has then.",
    )
    stop.add_argument("--all", action="store_true", help="stop all of yours, those of other data folders too")
    stop.add_argument("--force", action="store_true", help="even while executions run, which are interrupted")
    stop.set_defaults(handler=run_stop)


def run_list(args: argparse.Namespace) -> int:
    """Carry out ``server list``; give the exit status."""
    found = list(running_servers())
    if args.json:
        print(json.dumps([_document(each) for each in found], indent=2))
    elif not found:
        print("There are no private servers; the first command that needs one starts it")
    else:
        print_rows(console_of(sys.stdout), HEADS, map(_row, found), spare=("version", "pid"))
    return 0


def run_stop(args: argparse.Namespace) -> int:
    """Carry out ``server stop``; give the exit status."""
    mine = announcement_path()
    found = [each for each in running_servers() if args.all or each.path == mine]
    if not found:
        print("There is no private server to stop")
    for each in found:
        if not args.force and (count := _running(each)):
            raise Conflict(
                f"{counted(count, 'execution')} of {each.data_folder} {'runs' if count == 1 else 'run'} at "
                "the moment; wait for the end, stop them, or interrupt them with --force"
            )
        _end(each.pid)
        print(f"stopped {each.connection.url}")
    return 0


def _end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
    except psutil.NoSuchProcess:
        return


def _running(server: Announcement) -> int:
    client = Client(server.connection)
    try:
        return sum(each.status not in ENDED for each in client.executions(MOST))
    finally:
        client.close()


def _document(each: Announcement) -> dict[str, object]:
    return {
        "url": each.connection.url,
        "token": each.connection.token,
        "pid": each.pid,
        "version": each.version,
        "data_folder": each.data_folder,
        "idle_seconds": each.idle_seconds,
        "log": str(each.log_path),
    }


def _row(each: Announcement) -> list[str]:
    minutes, seconds = divmod(each.idle_seconds, 60)
    idle = ("never" if not minutes else f"{minutes} min") if not seconds else f"{each.idle_seconds} s"
    return [each.connection.url, str(each.pid), each.version, idle, each.data_folder]
