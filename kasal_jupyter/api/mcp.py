"""``/tools/mcp``: MCP servers, whose tools join the catalogue."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import operation
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.mcp import (
    McpDeleteQuery,
    McpRefreshed,
    McpRegistered,
    McpServer,
    McpServerCreate,
    McpServerDetails,
    McpServerList,
    McpServerQuery,
    McpServerUpdate,
)
from kasal_jupyter.toolbox.mcp_change import INVALID_SERVER


class McpResource(ApiHandler):
    """What the resources of MCP servers share."""

    tag = "Tool Management"
    message = INVALID_SERVER

    @property
    def is_admin(self) -> bool:
        """Whether the caller may start programs here and name any address."""
        return self.caller.role == "admin" and not self.caller.sandbox

    def server(self, server_id: str) -> McpServer:
        """Give a server that the caller may change."""
        return self.own(self.parts.store.mcp_servers.get(server_id), f"MCP server {server_id}")

    def details(self, server: McpServer) -> McpServerDetails:
        """Give what the caller may know of a server."""
        return server.details(whole=self.caller.sees(server))


class McpServersHandler(McpResource):
    """``GET`` and ``POST /tools/mcp``."""

    @operation("List MCP servers", access="viewer", query=McpServerQuery, answers={200: McpServerList})
    async def get(self) -> None:
        """List the caller's MCP servers and the shared ones; `search` looks in names and descriptions.

        How a server is reached is shown to those alone who may change it; secrets are never shown.
        """
        query = self.query(McpServerQuery)
        text = (query.search or "").casefold()
        servers = [
            each
            for each in self.parts.store.mcp_servers.find()
            if (each.shared or self.caller.sees(each))
            and (text in each.name.casefold() or text in each.description.casefold())
        ]
        if query.sort.endswith("name"):
            servers.sort(key=lambda each: each.name)
        if query.sort.startswith("-"):
            servers.reverse()
        shown = [self.details(each) for each in servers[query.offset : query.offset + query.per_page]]
        self.answer(
            McpServerList(servers=shown, total=len(servers), page=query.page, per_page=query.per_page)
        )

    @operation(
        "Register an MCP server",
        access="editor",
        body=McpServerCreate,
        answers={201: McpRegistered},
        errors=(409,),
    )
    async def post(self) -> None:
        """Connect to an MCP server and register it with its tools, which agents call as `<name>_<tool>`.

        A `stdio` server is a program that this machine runs, and `shared` gives a server to everybody: both
        are for administrators. Addresses on this machine and on private networks are refused, here and at
        each call, unless an administrator gives or allows them. A server that cannot be reached, or that
        is none, is not registered.
        """
        server = await self.parts.mcp.register(
            self.body(McpServerCreate), self.caller.owner, admin=self.is_admin, ask=self.ask_once_more
        )
        tools = [tool.name for tool in server.tools]
        self.answer(McpRegistered(server_id=server.id, tools=tools, left_out=server.left_out), 201)


class McpServerHandler(McpResource):
    """``GET``, ``PUT`` and ``DELETE /tools/mcp/{server_id}``."""

    @operation("Get an MCP server", access="viewer", answers={200: McpServerDetails}, errors=(404,))
    async def get(self, server_id: str) -> None:
        """Give an MCP server with its tools: one of the caller's, or a shared one."""
        found = self.parts.store.mcp_servers.get(server_id)
        if found is None or not found.shared:
            found = self.server(server_id)
        self.answer(self.details(found))

    @operation(
        "Update an MCP server",
        access="editor",
        body=McpServerUpdate,
        answers={200: Updated},
        errors=(404, 409),
    )
    async def put(self, server_id: str) -> None:
        """Change what the body gives.

        Where that is how the server is reached, it is connected to, and its tools are listed anew. Where the
        `url` moves to another host, the `headers` have to be given again. Tools that agents or tasks use
        stay (409).
        """
        self.server(server_id)
        body = self.body(McpServerUpdate)
        await self.parts.mcp.update(server_id, body, admin=self.is_admin, ask=self.ask_once_more)
        self.answer(Updated(id=server_id))

    @operation(
        "Delete an MCP server",
        access="editor",
        query=McpDeleteQuery,
        answers={204: None},
        errors=(404, 409),
    )
    async def delete(self, server_id: str) -> None:
        """Delete an MCP server; one whose tools agents or tasks use is kept (409), unless forced."""
        query = self.query(McpDeleteQuery)
        self.server(server_id)
        await self.parts.mcp.delete(server_id, force=query.force)
        self.nothing()


class McpRefreshHandler(McpResource):
    """``POST /tools/mcp/{server_id}/refresh``."""

    @operation(
        "Refresh an MCP server's tools",
        access="editor",
        answers={200: McpRefreshed},
        errors=(404, 409),
    )
    async def post(self, server_id: str) -> None:
        """List an MCP server's tools anew, and say which are new, gone or other ones.

        Tools keep their names. Nothing keeps one that is gone there.
        """
        self.server(server_id)
        self.answer(await self.parts.mcp.refresh(server_id, admin=self.is_admin, ask=self.ask_once_more))
