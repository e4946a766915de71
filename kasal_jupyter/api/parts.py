"""What the handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.auth.accounts import Accounts
from kasal_jupyter.auth.gate import MaintenanceMode
from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import Watch
from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.webhooks import Webhooks
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.mcp_servers import McpServers
from kasal_jupyter.toolbox.provider_settings import Providers

# The doors: what is let in before it is known who asks, and who may stay.

SMALL_BODY = 8_192
"""Bytes of a body that is taken in of somebody who is not known: a login."""


@dataclass(frozen=True, slots=True)
class Doors:
    """What is under way at once, and of whom.

    Attributes
    ----------
    strangers
        Connections of those who are not known, by address: bodies on their way, and WebSockets.
    bodies
        Bytes of bodies that are on their way or being worked on, by owner.
    stranger_seconds
        How long somebody who is not known may take: for a body, or to say on a WebSocket who they are.
    body_seconds
        How long a known caller's body may take.
    watch
        Who stays, and is looked at again.
    """

    strangers: Senders
    bodies: Senders
    stranger_seconds: float
    body_seconds: float
    watch: Watch


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the running extension, in one of its workspaces: the regular one, or the sandbox.

    Attributes
    ----------
    accounts
        Who asks, and how often they may.
    maintenance
        Whether anybody is served.
    doors
        What is under way at once, and who may stay.
    recall
        Searches what crews remember and know.
    confined
        Where files and crews from elsewhere are read.
    body_limit
        Most bytes of a request's body.
    wake
        Has the engine load, where it does not yet: whoever asks anything is likely to run a crew.
    sandbox
        Gives the sandbox's parts: a store and executions apart from all others.
    """

    store: Store
    crews: Crews
    members: Members
    tools: CustomTools
    mcp: McpServers
    providers: Providers
    memories: Memories
    knowledge: Knowledge
    recall: CrewMemories
    runs: Runs
    webhooks: Webhooks
    fanouts: Fanouts
    accounts: Accounts
    maintenance: MaintenanceMode
    doors: Doors
    confined: ConfinedPool
    body_limit: int
    wake: Callable[[], None]
    sandbox: Callable[[], Awaitable[Parts]]
