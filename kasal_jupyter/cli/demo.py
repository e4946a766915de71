"""`jupyter kasal demo`: a real crew through the real server, watched as it happens. No key, no network."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import TYPE_CHECKING

import orjson

from kasal_jupyter.cli.server_process import temporary_server
from kasal_jupyter.kernel.clean import clean
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.view_lines import LineView
from kasal_jupyter.schemas.agents import CrewAgent, SandboxSettings
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.tasks import CrewTask

if TYPE_CHECKING:
    from kasal_jupyter.kernel.connection import Connection

INPUTS = {"topic": "tea prices", "region": "EMEA"}


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "demo",
        help="run a crew through a server of its own and watch its trace; no key, no network",
        description="Starts the server on a free loopback port in a temporary folder, runs a crew of three "
        "agents and four tasks with the sandbox model, prints its trace as it happens and its answer, and "
        "ends the server.",
    )
    parser.add_argument("--json", action="store_true", help="print the run's events as JSON lines instead")
    parser.add_argument(
        "--keep", action="store_true", help="leave the server up until Ctrl-C, and print its URL"
    )
    parser.set_defaults(handler=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo and give its exit status."""
    print(
        "Starting a server and its engine; CrewAI takes some seconds to load …", file=sys.stderr, flush=True
    )
    with temporary_server() as connection:
        client = Client(connection)
        try:
            completed = _run_crew(client, as_json=arguments.json)
        finally:
            client.close()
        if arguments.keep:
            _keep(connection)
    return 0 if completed else 1


def demo_crew() -> CrewCreate:
    """Give the demo's crew: three agents, four tasks; one uses tools, the last builds on the others."""
    sandbox = SandboxSettings(latency=0.25)
    return CrewCreate(
        name="Market research",
        description="Looks into a market and writes a short report.",
        agents=[
            CrewAgent(
                name="researcher",
                role="Research Agent",
                goal="Find what is known about {topic} in {region}",
                backstory="Reads a lot, and says where things come from.",
                model="sandbox",
                sandbox=sandbox,
            ),
            CrewAgent(
                name="analyst",
                role="Analyst",
                goal="Check figures and work out changes",
                model="sandbox",
                tools=["calculator"],
                sandbox=sandbox,
            ),
            CrewAgent(
                name="writer",
                role="Writer",
                goal="Write short and clear reports",
                model="sandbox",
                sandbox=sandbox,
            ),
        ],
        tasks=[
            CrewTask(
                name="Find the facts",
                description="Collect facts about {topic} in {region}",
                expected_output="A list of facts",
                agent="researcher",
            ),
            CrewTask(
                name="Check the numbers",
                description="Work out how {topic} changed against the last quarter",
                expected_output="The change in percent",
                agent="analyst",
            ),
            CrewTask(
                name="Weigh the risks",
                description="Name the risks for {topic} in {region}",
                expected_output="Up to three risks",
                agent="researcher",
                context=["Find the facts"],
            ),
            CrewTask(
                name="Write the report",
                description="Write a report about {topic} in {region}",
                expected_output="One paragraph",
                agent="writer",
                context=["Find the facts", "Check the numbers", "Weigh the risks"],
            ),
        ],
    )


def _run_crew(client: Client, *, as_json: bool) -> bool:
    crew = client.create_crew(demo_crew())
    job = client.start(crew.id, INPUTS)
    view = LineView(width=shutil.get_terminal_size((110, 24)).columns)
    for event in client.follow(job.job_id):
        lines = view.feed(event)
        for line in [orjson.dumps(event).decode()] if as_json else lines:
            print(line, flush=True)
    summary = view.trace.summary
    if not as_json and summary.result is not None:
        print(f"\n{clean(summary.result)}")
    return summary.status == "completed"


def _keep(connection: Connection) -> None:
    print(
        f"\nThe server stays up: {connection.url}/v1/crews?token={connection.token}\nCtrl-C ends it.",
        flush=True,
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("Ending the server …", file=sys.stderr)
