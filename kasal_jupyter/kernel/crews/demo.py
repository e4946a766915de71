"""The crew of `jupyter kasal demo`: three agents and four tasks on the sandbox model."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from kasal_jupyter.schemas.agents import CrewAgent, SandboxSettings
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.tasks import CrewTask

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import ChangeQuery, CrewDetails

INPUTS = {"topic": "electric bicycles"}
"""What the crew is asked about."""

_LATENCY = 0.15
"""Seconds a model call takes, so that the tree can be watched as it grows."""


def demo_crew() -> CrewCreate:
    """Make the crew: tools, tasks that take others' results, and a placeholder; no key, no network."""
    sandbox = SandboxSettings(latency=_LATENCY)
    return CrewCreate(
        name="Market briefing",
        description="A briefing about {topic}, offline.",
        agents=[
            CrewAgent(
                name="researcher",
                role="Market Researcher",
                goal="Find out what there is to know about {topic}",
                model="sandbox",
                tools=["wait"],
                sandbox=sandbox,
            ),
            CrewAgent(
                name="analyst",
                role="Data Analyst",
                goal="Put figures to what was found",
                model="sandbox",
                sandbox=sandbox,
            ),
            CrewAgent(
                name="writer",
                role="Briefing Writer",
                goal="Write what a busy reader needs to know",
                model="sandbox",
                sandbox=SandboxSettings(latency=_LATENCY, answer_words=60),
            ),
        ],
        tasks=[
            CrewTask(
                name="research",
                description="Survey the market for {topic}.",
                expected_output="What was found, in a paragraph",
                agent="researcher",
            ),
            CrewTask(
                name="sizing",
                description="Work out how large the market for {topic} is.",
                expected_output="A figure",
                agent="analyst",
                tools=["calculator"],
            ),
            CrewTask(
                name="risks",
                description="Name the largest risk in the market for {topic}.",
                expected_output="One risk",
                agent="analyst",
                context=["research"],
            ),
            CrewTask(
                name="briefing",
                description="Write a briefing on {topic}.",
                expected_output="A short briefing",
                agent="writer",
                context=["research", "sizing", "risks"],
            ),
        ],
    )


def the_demo(client: Client, change: ChangeQuery) -> tuple[CrewDetails, bool]:
    """Give the demo crew of a server, and whether it was made now.

    A crew that only has its name, or that was the demo and was changed, is somebody's, and left alone.

    Parameters
    ----------
    client
        The server.
    change
        Where it comes from, for its history.
    """
    from kasal_jupyter.kernel.crews.stored_crews import is_same

    body = demo_crew()
    for number in count(1):
        tried = body if number == 1 else body.model_copy(update={"name": f"{body.name} (demo {number})"})
        known = [client.crew(each.id) for each in client.crews(name=tried.name) if each.owner == client.owner]
        if demos := [each for each in known if is_same(each, tried)]:
            return demos[0], False
        if not known:
            return client.crew(client.create_crew(tried, change).id), True
    raise AssertionError("some number is free")
