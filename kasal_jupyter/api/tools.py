"""``/tools``: the reference's *Tool Management*."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.errors import NotFound, nearest
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.mcp import McpServer
from kasal_jupyter.schemas.mcp_run import McpTool
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
        shown = tools[query.offset : query.offset + query.per_page]
        await self.answer_with(
            lambda: ToolList(tools=shown, total=len(tools), page=query.page, per_page=query.per_page),
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
            lambda: CustomToolList(tools=tools, total=page.total, page=query.page, per_page=query.per_page),
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
