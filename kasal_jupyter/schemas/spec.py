"""What a run's process is told: the whole run in one message, and later messages."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import ClientTool, RunTool

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_\-]*)\}")
"""What CrewAI replaces by an input, wherever it stands in a crew's texts."""


class RunModel(Model):
    """A model's name resolved: whom to ask, how it is called there, and with which key.

    The key is for the run's process alone; nothing writes this object down.
    """

    name: str = Field(description="As the agent says it, e.g. gpt-4.")
    provider: Literal["sandbox", "openai"]
    model: str = Field(description="As the provider spells it.")
    api_key: str | None = Field(None, repr=False)
    base_url: str | None = None


class RunTask(Task):
    """A task with its ``context`` told apart."""

    context_tasks: list[str] = Field(description="Ids of the tasks whose results it gets.")
    context_texts: list[str] = Field(description="Texts given as they are.")


class RunSpec(Model):
    """Everything a run needs: its process reads nothing else from the server.

    Every agent has a model here (the server's default was filled in), every tool
    exists, and every ``{placeholder}`` has an input: the run was checked before.
    """

    job_id: str
    crew: Crew
    agents: list[Agent]
    tasks: list[RunTask]
    inputs: dict[str, Any]
    models: dict[str, RunModel] = Field(description="By the name the agents use.")
    tools: list[RunTool] = Field(default_factory=list, description="The custom tools that it may use.")
    client_tools: list[ClientTool] = Field(
        default_factory=list, description="Those that the run's client answers for, as far as they are used."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list, description="Hosts and networks besides the public ones that tools may call."
    )
    manager_model: str | None = Field(
        description="The manager's, in a hierarchical crew; a key of ``models``."
    )
    folder: str = Field(description="The run's own working folder, absolute, made by the server.")


class RunToolAnswer(Model):
    """What became of a ``tool_request``: exactly one of ``result`` and ``error``."""

    call_id: str
    result: str | None = None
    error: str | None = None


class RunMessage(Model):
    """What the server sends a run's process, one JSON line each.

    ``run`` comes first, then any number of ``tool_answer``, and ``stop`` at most once.
    """

    type: Literal["run", "tool_answer", "stop"]
    spec: RunSpec | None = None
    answer: RunToolAnswer | None = None
