"""``jupyter kasal demo``: a real server, a real crew on the sandbox model, and its trace in the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kasal_jupyter.cli.run_view import view_on
from kasal_jupyter.cli.server_process import ServerProcess, ended_by_signals
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.crews.demo import INPUTS, demo_crew
from kasal_jupyter.kernel.views.clean import clean

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no other name


def register(subparsers: Subparsers) -> None:
    """Add ``demo`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    demo = subparsers.add_parser(
        "demo",
        help="run a crew on a server of its own, and watch it; needs no key and no network",
        description="Start a Jupyter server with Kasal in a temporary folder, create a crew of three agents "
        "and four tasks over REST, run it on CrewAI with the sandbox model, follow it over the WebSocket, "
        "and leave nothing behind.",
    )
    demo.add_argument("--json", action="store_true", help="print the run's events, one JSON object a line")
    demo.add_argument("--keep", action="store_true", help="leave the server up afterwards, until Ctrl-C")
    demo.set_defaults(handler=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Carry out ``demo``; give the exit status: 0 where the run completed."""
    # A process that is killed may leave a file open a moment longer; the folder is gone at the end anyway.
    with (
        ended_by_signals(),
        TemporaryDirectory(prefix="kasal-demo-", ignore_cleanup_errors=True) as folder,
        ServerProcess(Path(folder)) as server,
    ):
        _say("starting a Jupyter server …")
        connection = server.connect()
        completed = _run_crew(Client(connection), as_json=args.json)
        if args.keep:
            _keep(server, connection)
    return 0 if completed else 1


def _run_crew(client: Client, *, as_json: bool) -> bool:
    """Create the crew, run it and print what happens; say whether it completed."""
    try:
        crew = client.create_crew(demo_crew())
        job_id = client.start(crew.id, INPUTS).job_id
        _say("starting the engine (CrewAI; some seconds, longest the first time) …")
        with view_on(sys.stdout, as_json=as_json) as view:
            for event in client.follow(job_id):
                view.feed(event)
        summary = view.trace.summary
        if summary.result is not None and not as_json:
            print(f"\n{clean(summary.result)}", flush=True)
        return summary.status == "completed"
    finally:
        client.close()


def _keep(server: ServerProcess, connection: Connection) -> None:
    """Leave the server up until Ctrl-C, which is the regular end here."""
    _say(
        f"\nThe server stays up: {connection.url}/v1/docs\n"
        f"Token: {connection.token}\n"
        f"Sandbox token: {server.sandbox_token}\n"
        f"In a notebook: %kasal connect {connection.url} --token {connection.token}\n"
        "Ctrl-C stops it and deletes its folder."
    )
    try:
        server.wait()
    except KeyboardInterrupt:
        _say("")


def _say(text: str) -> None:
    """Tell what goes on, beside the output proper."""
    print(text, file=sys.stderr, flush=True)
