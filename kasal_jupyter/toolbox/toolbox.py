"""The tools that one owner's crews can use, and who uses which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from kasal_jupyter.errors import Conflict, listed, nearest
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.mcp import McpServer, RunMcpServer
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.schemas.tools import CustomTool, RunTool
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox, SecretLost
from kasal_jupyter.tools.tool import builtin_tools, find_tool

ServedTool = Callable[[], RunMcpServer]
"""Gives an MCP server with its secrets and one of its tools. Raises :class:`ToolUnavailable`."""


class ToolUnavailable(Exception):
    """A tool cannot be used here; its text says why and what to do, for a fault."""


class Toolbox:
    """The built-in tools, and some custom ones.

    Parameters
    ----------
    custom
        The custom tools.
    secrets
        What unseals their secrets.
    allowed_hosts
        Hosts besides the public ones that the tools may call; None: none at all.
    settings
        What the deployer has set for the built-in tools.
    served
        The tools of MCP servers, by their names.
    """

    def __init__(
        self,
        custom: Iterable[CustomTool] = (),
        secrets: SecretBox | None = None,
        allowed_hosts: Iterable[str] | None = (),
        settings: RunToolSettings | None = None,
        served: Mapping[str, ServedTool] | None = None,
    ) -> None:
        self.allowed_hosts = None if allowed_hosts is None else list(allowed_hosts)
        self.settings = settings or RunToolSettings()
        self._custom = {tool.name: tool for tool in custom}
        self._secrets = secrets
        self._served = served or {}

    def names(self) -> list[str]:
        """Give the names of all tools."""
        return sorted({*self._custom, *self._served, *(tool.name for tool in builtin_tools())})

    def resolve(self, name: str) -> RunTool | RunMcpServer | None:
        """Give a custom tool with its secret, or the MCP server that has the tool, with that tool alone.

        None for a built-in one, of which a run knows everything.

        Raises
        ------
        ToolUnavailable
            There is no such tool, its secret is missing, or it cannot be used on this server.
        """
        # The owner's own first: a built-in one that a later version brings must not take its place.
        if tool := self._custom.get(name):
            return RunTool(**tool.definition(), secret=self._secret(tool))
        if served := self._served.get(name):
            return served()
        if any(tool.name == name for tool in builtin_tools()):
            if reason := find_tool(name).unavailable(self.settings):
                raise ToolUnavailable(reason)
            return None
        known = self.names()
        hint = nearest(name, known) or f"; there are {listed(known)}"
        raise ToolUnavailable(f"There is no tool {name!r}{hint}")

    def _secret(self, tool: CustomTool) -> str | None:
        if tool.auth_type == "none":
            return None
        if tool.sealed_secret is None or self._secrets is None:
            raise ToolUnavailable(
                f"The tool {tool.name!r} has no secret for auth_type {tool.auth_type}; "
                f"add it with PUT /tools/custom/{tool.id}"
            )
        try:
            return self._secrets.open(tool.sealed_secret)
        except SecretLost:
            raise ToolUnavailable(
                f"The secret of the tool {tool.name!r} cannot be read in this data folder; "
                f"give it again with PUT /tools/custom/{tool.id}"
            ) from None


# Who uses tools, and may not lose them unasked.

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
