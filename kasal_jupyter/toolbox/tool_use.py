"""Who uses tools, and may not lose them unasked."""

from __future__ import annotations

from collections.abc import Collection

from kasal_jupyter.errors import Conflict
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.mcp import McpServer
from kasal_jupyter.schemas.tools import CustomTool
from kasal_jupyter.store.store import Store

_NAMED_USERS = 5
"""Agents and tasks that a refusal names."""


async def require_tool_unused(store: Store, tool: CustomTool) -> None:
    """Refuse to let a custom tool go that agents or tasks use.

    Raises
    ------
    Conflict
        Some do.
    """
    # All of an owner's agents and tasks are read: not on the loop.
    users = await LISTS.do(lambda: _users(store, {tool.name}, tool.owner), owner=tool.owner)
    _refuse(f"The tool {tool.name!r} is", [text for _, text in users], "it")


async def require_server_unused(
    store: Store, server: McpServer, names: Collection[str], *, others: bool = False
) -> None:
    """Refuse to let tools of an MCP server go that agents or tasks use.

    What is somebody else's is counted and not named.

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
    if not names:
        return
    # All agents and tasks are read: not on the loop.
    whose = None if server.shared else server.owner
    users = await LISTS.do(lambda: _users(store, set(names), whose), owner=server.owner)
    own = [] if others else [text for owner, text in users if owner == server.owner]
    foreign = sum(owner != server.owner for owner, _ in users)
    known = [*own, *([f"{foreign} agents or tasks of other users"] if foreign else [])]
    _refuse(f"Tools of the MCP server {server.name!r} are", known, "them")


def _users(store: Store, names: set[str], owner: str | None) -> list[tuple[str, str]]:
    """Name the agents and tasks that use tools, with their owners; one owner's, or all."""
    whose = {} if owner is None else {"owner": owner}
    with store.snapshot():
        agents = store.agents.find(**whose, order="created")
        tasks = store.tasks.find(**whose, order="created")
    return [
        *((each.owner, f"agent {each.name!r} ({each.id})") for each in agents if names & set(each.tools)),
        *((each.owner, f"task {each.title()!r} ({each.id})") for each in tasks if names & set(each.tools)),
    ]


def _refuse(what: str, users: list[str], pronoun: str) -> None:
    if users:
        named = ", ".join(users[:_NAMED_USERS])
        more = len(users) - _NAMED_USERS
        raise Conflict(
            f"{what} used by {named}{f' and {more} more' if more > 0 else ''}; "
            f"take {pronoun} away from them first"
        )
