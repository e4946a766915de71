"""Who uses the tools of an MCP server."""

from __future__ import annotations

import asyncio

from kasal_jupyter.errors import Conflict
from kasal_jupyter.schemas.mcp import McpServer
from kasal_jupyter.store.store import Store

_NAMED_USERS = 5
"""Agents and tasks that a refusal names."""


async def require_unused(store: Store, server: McpServer, names: list[str], *, others: bool = False) -> None:
    """Refuse to let tools go that agents or tasks use.

    Parameters
    ----------
    store
        The opened data folder.
    server
        The server that has them.
    names
        The tools.
    others
        Whether only those count that are not the server's owner's.

    Raises
    ------
    Conflict
        Some do.
    """
    # All agents and tasks are read: not on the loop.
    users = await asyncio.to_thread(_users, store, server, set(names), others=others)
    if users:
        named = ", ".join(users[:_NAMED_USERS])
        more = len(users) - _NAMED_USERS
        raise Conflict(
            f"Tools of the MCP server {server.name!r} are used by {named}"
            f"{f' and {more} more' if more > 0 else ''}; take them away from them first"
        )


def _users(store: Store, server: McpServer, names: set[str], *, others: bool) -> list[str]:
    """Name the agents and tasks that use tools; what is somebody else's is counted and not named."""
    if not names:
        return []
    mine = {} if server.shared else {"owner": server.owner}
    with store.snapshot():
        agents = store.agents.find(**mine, order="created")
        tasks = store.tasks.find(**mine, order="created")
    using = [
        *((each.owner, f"agent {each.name!r} ({each.id})") for each in agents if names & set(each.tools)),
        *((each.owner, f"task {each.title()!r} ({each.id})") for each in tasks if names & set(each.tools)),
    ]
    own = [] if others else [text for owner, text in using if owner == server.owner]
    foreign = sum(owner != server.owner for owner, _ in using)
    return [*own, *([f"{foreign} agents or tasks of other users"] if foreign else [])]
