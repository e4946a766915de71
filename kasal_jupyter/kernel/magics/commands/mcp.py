"""`%kasal mcp`: the MCP servers, and the tools of one."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import add_optional
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    from kasal_jupyter.schemas.mcp import McpServerDetails

SERVER_HEADS = ["server", "what it is", "where", "tools"]
TOOL_HEADS = ["tool", "there", "what it does"]

NO_SERVERS = (
    "There are no MCP servers yet; `jupyter kasal mcp add NAME -- COMMAND` or `… add NAME URL` in a terminal "
    "registers one"
)


mcp_arguments = add_optional("server", "one server, with its tools")


def mcp_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the MCP servers, or show the tools of one."""
    del cell
    servers = {each.name: each for each in session.client.mcp_servers()}
    if words.server is None:
        return Shown(
            "" if servers else NO_SERVERS, SERVER_HEADS, [server_cells(each) for each in servers.values()]
        )
    if words.server not in servers:
        near = nearest(words.server, servers)
        raise CellError(f"There is no MCP server {words.server!r}{near or '; `%kasal mcp` lists them'}")
    server = servers[words.server]
    return Shown(
        f"{server.name}: {server.description or server.version or place_of(server)}",
        TOOL_HEADS,
        tool_cells(server),
    )


def server_cells(server: McpServerDetails) -> list[str]:
    """Give a server's row."""
    what = server.description or server.version or ""
    count = counted(len(server.tools), "tool")
    if server.left_out:
        count += f", {len(server.left_out)} left out"
    return [server.name, what, place_of(server), count]


def tool_cells(server: McpServerDetails) -> list[list[str]]:
    """Give the rows of a server's tools: what agents call them, what the server does, what they do."""
    rows = [[tool.name, tool.remote_name, tool.description] for tool in server.tools]
    return [*rows, *(["(left out)", each.remote_name, each.reason] for each in server.left_out)]


def place_of(server: McpServerDetails) -> str:
    """Say how a server is reached; of one that is shared by another, that it is."""
    if server.url is not None:
        return server.url
    if server.command is not None:
        return " ".join([server.command, *server.args])
    return "shared"
