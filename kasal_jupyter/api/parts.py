"""What the handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kasal_jupyter.api.admission import Doors
from kasal_jupyter.api.fanout import Fanouts
from kasal_jupyter.auth.accounts import Accounts
from kasal_jupyter.auth.maintenance import MaintenanceMode
from kasal_jupyter.confined import ConfinedPool
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.webhooks.delivery import Webhooks
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import CustomTools
from kasal_jupyter.toolbox.mcp_servers import McpServers
from kasal_jupyter.toolbox.provider_settings import Providers


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
