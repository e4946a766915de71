"""What a change makes of an MCP server, and who may make it."""

from __future__ import annotations

from typing import Any

from kasal_jupyter.errors import Fault, Forbidden, InvalidRequest
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.mcp import McpLeftOut, McpSecrets, McpServer, McpServerUpdate
from kasal_jupyter.schemas.mcp_run import McpTool, RunMcpServer
from kasal_jupyter.tools.guard import origin_of

INVALID_SERVER = "Invalid MCP server"


def require_admin(server: McpServer, *, admin: bool) -> None:
    """Refuse what only an admin may do."""
    if not admin and server.transport == "stdio":
        raise Forbidden("A stdio server is a program that this machine runs; only an admin may register one")
    if not admin and server.shared:
        raise Forbidden("Only an admin may share an MCP server with everybody")


def changed(
    before: McpServer, secrets: McpSecrets, body: McpServerUpdate, *, admin: bool
) -> tuple[McpServer, McpSecrets]:
    """Give a server and its secrets with what a body changes."""
    fields: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"env", "headers", "tools"})
    if fields.get("transport", before.transport) != before.transport:
        # What belonged to the other one.
        fields = {"command": None, "args": [], "url": None, **fields}
        secrets = McpSecrets()
    if "env" in body.model_fields_set:
        secrets = secrets.model_copy(update={"env": body.env})
    if "headers" in body.model_fields_set:
        secrets = secrets.model_copy(update={"headers": body.headers})
    if fields.get("url"):
        fields["url"], _, query = fields["url"].partition("?")
        secrets = secrets.model_copy(update={"query": query})
        fields["guarded"] = not admin
        moved = before.url is None or origin_of(fields["url"]) != origin_of(before.url)
        if moved and secrets.headers and "headers" not in body.model_fields_set:
            # They were entrusted for that host, and are sent to no other by whoever may change the server.
            reason = "The stored headers are for another host; give the headers for this one as well"
            raise InvalidRequest(INVALID_SERVER, faults=[Fault("url", reason)])
    if "tools" in body.model_fields_set:
        fields["selected"] = body.tools
    fields |= {"env": sorted(secrets.env), "headers": sorted(secrets.headers), "updated_at": utc_now()}
    return before.model_copy(update=fields), secrets


def with_secrets(server: McpServer, secrets: McpSecrets, tools: list[McpTool]) -> RunMcpServer:
    """Give what is told of a server to whoever speaks to it."""
    return RunMcpServer(
        name=server.name,
        transport=server.transport,
        command=server.command,
        args=server.args,
        env=secrets.env,
        url=f"{server.url}?{secrets.query}" if secrets.query else server.url,
        headers=secrets.headers,
        guarded=server.guarded,
        timeout=server.timeout,
        tools=tools,
    )


def gone(before: McpServer, after: McpServer) -> list[str]:
    """Give the names of the tools that a server has no more."""
    kept = {tool.name for tool in after.tools}
    return [tool.name for tool in before.tools if tool.name not in kept]


def first_reason(left_out: list[McpLeftOut]) -> str | None:
    """Say why none of a server's tools can be had; None where it has none."""
    if not left_out:
        return None
    return f"None of its tools can be used: {left_out[0].remote_name}: {left_out[0].reason}"
