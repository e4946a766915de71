"""``/tools``: the reference's *Tool Management*, and MCP servers, whose tools join the catalogue."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.errors import NotFound, nearest
from kasal_jupyter.places import LISTS
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
    McpTool,
)
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.schemas.tools import (
    FREE_PARAMETERS,
    CustomTool,
    CustomToolCreate,
    CustomToolDetails,
    CustomToolList,
    CustomToolQuery,
    CustomToolUpdate,
    ToolDeleteQuery,
    ToolInfo,
    ToolList,
    ToolQuery,
    ToolRegistered,
)
from kasal_jupyter.toolbox.custom_tools import INVALID_TOOL
from kasal_jupyter.toolbox.mcp_servers import INVALID_SERVER
from kasal_jupyter.tools.tool import Tool, builtin_tools


class ToolResource(ApiHandler):
    """What the resources of tools share."""

    tag = "Tool Management"
    message = INVALID_TOOL

    def usable(self) -> list[ToolInfo]:
        """Give the tools that the caller's crews can use: built-in ones, their own, those of MCP servers."""
        builtin = [_builtin(tool, self.parts.tools.settings) for tool in builtin_tools()]
        custom = [
            ToolInfo(
                name=tool.name,
                description=tool.description,
                category=tool.category,
                custom=True,
                tool_id=tool.id,
                parameters=tool.parameters or FREE_PARAMETERS,
            )
            for tool in self.parts.store.tools.find(owner=self.caller.owner)
        ]
        served = [
            _served(tool, server, self.parts.mcp.reason_against(server))
            for tool, server in self.parts.mcp.tools(self.caller.owner)
        ]
        # The first of a name is the one that a run takes.
        return list({tool.name: tool for tool in reversed([*custom, *served, *builtin])}.values())


def _served(tool: McpTool, server: McpServer, reason: str | None) -> ToolInfo:
    return ToolInfo(
        name=tool.name,
        description=tool.description,
        category=server.category,
        custom=False,
        tool_id=None,
        server_id=server.id,
        parameters=tool.parameters,
        available=reason is None,
        reason=reason,
    )


def _builtin(tool: Tool, settings: RunToolSettings) -> ToolInfo:
    reason = tool.unavailable(settings)
    return ToolInfo(
        name=tool.name,
        description=tool.description,
        category=tool.category,
        custom=False,
        tool_id=None,
        parameters=tool.parameters,
        available=reason is None,
        reason=reason,
    )


class ToolsHandler(ToolResource):
    """``GET /tools``."""

    @operation("List available tools", access="viewer", query=ToolQuery, answers={200: ToolList})
    async def get(self) -> None:
        """List built-in tools, custom ones of the caller's and those of MCP servers.

        `search` looks in names and descriptions.
        """
        query = self.query(ToolQuery)
        text = (query.search or "").casefold()
        tools = [
            tool
            for tool in await LISTS.do(self.usable, owner=self.caller.owner)
            if (query.category is None or tool.category.casefold() == query.category.casefold())
            and (text in tool.name.casefold() or text in tool.description.casefold())
        ]
        field = query.sort.removeprefix("-")
        tools.sort(key=lambda tool: (getattr(tool, field), tool.name), reverse=query.sort.startswith("-"))
        shown = query.part(tools)
        await self.answer_with(
            lambda: ToolList.of(query, shown, len(tools)),
            size=LISTED * len(shown),
        )


class ToolHandler(ToolResource):
    """``GET /tools/{name}``."""

    @operation("Get a tool", access="viewer", answers={200: ToolInfo}, errors=(404,))
    async def get(self, name: str) -> None:
        """Give a built-in tool, a custom one of the caller's, or one of an MCP server, by its name."""
        tools = {tool.name: tool for tool in await LISTS.do(self.usable, owner=self.caller.owner)}
        if name not in tools:
            raise NotFound(f"There is no tool {name!r}{nearest(name, tools)}")
        self.answer(tools[name])


class CustomToolsHandler(ToolResource):
    """``GET`` and ``POST /tools/custom``."""

    @operation("List custom tools", access="viewer", query=CustomToolQuery, answers={200: CustomToolList})
    async def get(self) -> None:
        """List custom tools; `search` looks in names, descriptions and endpoints. Secrets are never shown."""
        query = self.query(CustomToolQuery)
        page = await list_page(
            self.parts.store.tools,
            query,
            self.caller.scope,
            searched=("name", "description", "endpoint"),
            equal={"category": query.category},
        )
        tools = [tool.details() for tool in page.documents]
        await self.answer_with(
            lambda: CustomToolList.of(query, tools, page.total),
            size=LISTED * len(page.documents),
        )

    @operation(
        "Register custom tool",
        access="editor",
        body=CustomToolCreate,
        answers={201: ToolRegistered},
        errors=(409,),
    )
    async def post(self) -> None:
        """Register an HTTP endpoint that agents can call by the tool's name.

        Endpoints on this machine and on private networks are refused, here and at each call, unless the
        server's administrator allows them. A tool with a `bearer`, `api_key` or `basic` `auth_type` can be
        registered without its `secret`; crews that use it cannot run before it is added.
        """
        tool = await self.parts.tools.register(self.body(CustomToolCreate), self.caller.owner)
        self.answer(ToolRegistered(tool_id=tool.id), 201)


class CustomToolHandler(ToolResource):
    """``GET``, ``PUT`` and ``DELETE /tools/custom/{tool_id}``."""

    @operation("Get a custom tool", access="viewer", answers={200: CustomToolDetails}, errors=(404,))
    async def get(self, tool_id: str) -> None:
        """Give a custom tool whole, but for its secret."""
        self.answer(self._tool(tool_id).details())

    @operation(
        "Update a custom tool",
        access="editor",
        body=CustomToolUpdate,
        answers={200: Updated},
        errors=(404, 409),
    )
    async def put(self, tool_id: str) -> None:
        """Change what the body gives.

        A secret of null takes the stored one away. Where the endpoint moves to another host, the secret has
        to be given again. A tool that agents or tasks use keeps its name (409).
        """
        self._tool(tool_id)
        await self.parts.tools.update(tool_id, self.body(CustomToolUpdate))
        self.answer(Updated(id=tool_id))

    @operation(
        "Delete a custom tool",
        access="editor",
        query=ToolDeleteQuery,
        answers={204: None},
        errors=(404, 409),
    )
    async def delete(self, tool_id: str) -> None:
        """Delete a custom tool with its secret; one that agents or tasks use is kept (409), unless forced."""
        query = self.query(ToolDeleteQuery)
        self._tool(tool_id)
        await self.parts.tools.delete(tool_id, force=query.force)
        self.nothing()

    def _tool(self, tool_id: str) -> CustomTool:
        return self.own(self.parts.store.tools.get(tool_id), f"tool {tool_id}")


# ``/tools/mcp``: MCP servers, whose tools join the catalogue.


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
        shown = [self.details(each) for each in query.part(servers)]
        self.answer(McpServerList.of(query, shown, len(servers)))

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
