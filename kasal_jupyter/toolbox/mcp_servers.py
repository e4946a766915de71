"""MCP servers: registered by their owners, once they have been spoken to, and changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

from kasal_jupyter.errors import Conflict, Fault, Forbidden, InvalidRequest
from kasal_jupyter.places import PROBES, PROGRAMS
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.mcp import (
    McpLeftOut,
    McpRefreshed,
    McpSecrets,
    McpServer,
    McpServerCreate,
    McpServerUpdate,
    McpTool,
    RunMcpServer,
    mismatch,
)
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.custom_tools import RESERVED
from kasal_jupyter.toolbox.secrets import SecretBox, SecretLost
from kasal_jupyter.toolbox.toolbox import ServedTool, ToolUnavailable, require_server_unused
from kasal_jupyter.tools.guard import HostGuard, HostRefused, origin_of
from kasal_jupyter.tools.mcp_listing import McpFailed, list_tools
from kasal_jupyter.tools.mcp_probe import probe
from kasal_jupyter.tools.tool import builtin_tools

MAX_SERVERS = 100
"""Servers of one owner."""

_REACHED_BY = frozenset({"transport", "command", "args", "env", "url", "headers"})
"""The fields of a change after which a server must be spoken to again."""

_USER_ID = "user_"

Ask = Callable[[], Awaitable[None]]
"""Raises where whoever changes something has lost the right to it meanwhile."""


class McpServers:
    """The MCP servers of a store.

    Parameters
    ----------
    store
        The opened data folder.
    secrets
        What seals their secrets.
    guard
        Which hosts those may name who may not name any.
    """

    def __init__(self, store: Store, secrets: SecretBox, guard: HostGuard) -> None:
        self.store = store
        self.secrets = secrets
        self.guard = guard

    def get(self, server_id: str) -> McpServer:
        """Give a server.

        Raises
        ------
        NotFound
            There is no such server.
        """
        return self.store.mcp_servers.required(server_id, "MCP server")

    def usable(self, owner: str) -> list[McpServer]:
        """Give the servers that an owner's crews can use: the owner's, and shared ones of other names."""
        servers = self.store.mcp_servers.find()
        own = [server for server in servers if server.owner == owner]
        names = {server.name for server in own}
        return [
            *own,
            *(each for each in servers if each.shared and each.owner != owner and each.name not in names),
        ]

    def tools(self, owner: str) -> Iterator[tuple[McpTool, McpServer]]:
        """Give the tools of those servers, each name once: an owner's own come first."""
        seen: set[str] = set()
        for server in self.usable(owner):
            for tool in server.tools:
                if tool.name not in seen:
                    seen.add(tool.name)
                    yield tool, server

    def served(self, owner: str) -> Mapping[str, ServedTool]:
        """Give what a run of an owner's takes along of them, by the tools' names."""
        return {tool.name: partial(self._for_run, server, tool) for tool, server in self.tools(owner)}

    def reason_against(self, server: McpServer) -> str | None:
        """Say why a server cannot be used; None where it can."""
        if server.transport == "stdio" and not self._starts_programs(server.owner):
            return "Who registered its MCP server may start no programs any more; an admin has to register it"
        return None

    async def register(self, body: McpServerCreate, owner: str, *, admin: bool, ask: Ask) -> McpServer:
        """Speak to a new server, and store it with its tools.

        Parameters
        ----------
        body
            The server.
        owner
            Whose it is.
        admin
            Whether it may start a program, be at any address, and be shared.
        ask
            Raises where that is no longer so: the server takes its time to answer.

        Raises
        ------
        Forbidden
            It needs an admin.
        InvalidRequest
            With every fault by field; nothing was stored.
        Conflict
            The owner has a server of this name, or another tool of one of its tools' names.
        """
        now = utc_now()
        url, _, query = (body.url or "").partition("?")
        server = McpServer(
            **body.model_dump(exclude={"env", "headers", "tools", "url"}),
            url=url or None,
            id=new_id("mcp"),
            owner=owner,
            env=sorted(body.env),
            headers=sorted(body.headers),
            guarded=body.url is not None and not admin,
            selected=body.tools,
            listed_at=now,
            created_at=now,
            updated_at=now,
        )
        secrets = McpSecrets(env=body.env, headers=body.headers, query=query)
        require_admin(server, admin=admin)
        self._require_free_name(server)
        if self.store.mcp_servers.count(owner=owner) >= MAX_SERVERS:
            raise Conflict(f"You have {MAX_SERVERS} MCP servers; delete one first")
        server = await self._listed(server, secrets)
        await ask()

        def insert() -> McpServer:
            self._require_free_name(server)
            self._require_free_tools(server)
            stored = server.model_copy(update={"sealed": self._sealed(secrets)})
            self.store.mcp_servers.insert(stored)
            return stored

        return await self.store.change(insert, bounded=True)

    async def update(self, server_id: str, body: McpServerUpdate, *, admin: bool, ask: Ask) -> McpServer:
        """Change what the body gives; where that is how it is reached, or which tools, speak to it again.

        Raises
        ------
        NotFound, Forbidden, InvalidRequest
            Nothing was changed.
        Conflict
            The new name is taken, or agents or tasks use tools that would go.
        """
        before = self.get(server_id)
        require_admin(before, admin=admin)
        secrets = self._opened(before, body)
        server, secrets = changed(before, secrets, body, admin=admin)
        require_admin(server, admin=admin)
        given = body.model_fields_set
        if server.name != before.name:
            self._require_free_name(server)
            await require_server_unused(self.store, before, [tool.name for tool in before.tools])
        if given & (_REACHED_BY | {"tools", "name"}):
            known = before.tools if server.name == before.name else []
            server = await self._listed(server, secrets, known)
            await ask()
            await require_server_unused(self.store, before, gone(before, server))
        elif before.shared and not server.shared:
            await require_server_unused(self.store, before, [tool.name for tool in before.tools], others=True)

        def change() -> McpServer:
            if self.get(server_id) != before:
                raise Conflict(f"The MCP server {before.name!r} was changed at the same time; try again")
            self._require_free_name(server)
            self._require_free_tools(server)
            changed = server.model_copy(update={"sealed": self._sealed(secrets)})
            self.store.mcp_servers.replace(changed)
            return changed

        return await self.store.change(change, bounded=True)

    async def refresh(self, server_id: str, *, admin: bool, ask: Ask) -> McpRefreshed:
        """List a server's tools anew, and say what is different. Tools keep their names.

        Raises
        ------
        NotFound, Forbidden, InvalidRequest
            Nothing was changed.
        Conflict
            A new tool has the name of another one of the owner's.
        """
        before = self.get(server_id)
        require_admin(before, admin=admin)
        after = await self._listed(before, self._unsealed(before), before.tools)
        await ask()

        def change() -> None:
            if self.get(server_id) != before:
                raise Conflict(f"The MCP server {before.name!r} was changed at the same time; try again")
            self._require_free_tools(after)
            self.store.mcp_servers.replace(after)

        await self.store.change(change, bounded=True)
        were, are = ({tool.name: tool for tool in each.tools} for each in (before, after))
        return McpRefreshed(
            server_id=server_id,
            tools=list(are),
            added=[name for name in are if name not in were],
            removed=[name for name in were if name not in are],
            changed=[name for name in are if name in were and are[name] != were[name]],
            left_out=after.left_out,
        )

    async def delete(self, server_id: str, *, force: bool = False) -> None:
        """Delete a server with its secrets.

        Parameters
        ----------
        server_id
            The server.
        force
            Delete it even where its tools are used; a crew that uses them cannot run then.

        Raises
        ------
        NotFound
            There is no such server.
        Conflict
            Agents or tasks use its tools.
        """
        server = self.get(server_id)
        if not force:
            await require_server_unused(self.store, server, [tool.name for tool in server.tools])
        if not await self.store.change(lambda: self.store.mcp_servers.delete(server_id)):
            self.get(server_id)

    async def _listed(
        self, server: McpServer, secrets: McpSecrets, known: list[McpTool] | None = None
    ) -> McpServer:
        """Speak to a server, and give it with its tools.

        Raises
        ------
        InvalidRequest
            It cannot be reached, is no MCP server, or has none of the tools.
        """
        reason = mismatch(server)
        faults = [Fault("transport", reason)] if reason else await self._place_faults(server, secrets)
        if faults:
            raise InvalidRequest(INVALID_SERVER, faults=faults)
        blamed = "command" if server.transport == "stdio" else "url"
        try:
            spoken_to = with_secrets(server, secrets, [])
            finding = await PROBES.do(lambda: probe(spoken_to, self.guard.allowed_hosts), owner=server.owner)
        except McpFailed as error:
            raise InvalidRequest(INVALID_SERVER, faults=[Fault(error.field or blamed, str(error))]) from None
        names = {tool.remote_name: tool.name for tool in known or ()}
        # Thousands of schemas are looked at: not on the loop.
        listing = await PROBES.do(
            lambda: list_tools(server.name, finding.tools, selected=server.selected, known=names),
            owner=server.owner,
        )
        if server.selected is not None and not listing.tools:
            there = ", ".join(each.name for each in finding.tools[:20]) or "none"
            raise InvalidRequest(
                INVALID_SERVER, faults=[Fault("tools", f"The server has none of these tools; it has {there}")]
            )
        if not listing.tools:
            none = first_reason(listing.left_out) or "The server has no tools"
            raise InvalidRequest(INVALID_SERVER, faults=[Fault(blamed, none)])
        return server.model_copy(
            update={
                "tools": listing.tools,
                "left_out": listing.left_out,
                "version": finding.version,
                "listed_at": utc_now(),
            }
        )

    async def _place_faults(self, server: McpServer, secrets: McpSecrets) -> list[Fault]:
        """Find what is wrong with where a server is, as far as that is seen without speaking to it."""
        if server.command is not None:
            path = secrets.env.get("PATH", os.environ.get("PATH"))
            command = server.command
            if await PROGRAMS.do(lambda: shutil.which(command, path=path), owner=server.owner) is None:
                return [Fault("command", f"There is no program {command!r} to start")]
        if server.url is not None:
            guard = self.guard if server.guarded else self.guard.allowing(origin_of(server.url)[1])
            try:
                guard.check(server.url)
            except HostRefused as error:
                return [Fault("url", str(error))]
        return []

    def _for_run(self, server: McpServer, tool: McpTool) -> RunMcpServer:
        if reason := self.reason_against(server):
            raise ToolUnavailable(f"The tool {tool.name!r} cannot be used: {reason}")
        try:
            return with_secrets(server, self._unsealed(server), [tool])
        except InvalidRequest as error:
            raise ToolUnavailable(error.faults[0].reason) from None

    def _starts_programs(self, owner: str) -> bool:
        """Say whether an owner is an admin still; who is no Kasal user owns the Jupyter server."""
        if not owner.startswith(_USER_ID):
            return True
        user = self.store.users.get(owner)
        return user is not None and user.role == "admin" and not user.disabled

    def _opened(self, server: McpServer, body: McpServerUpdate) -> McpSecrets:
        """Give a server's secrets; none where they are lost and all given again."""
        try:
            return self._unsealed(server)
        except InvalidRequest:
            needed = {"env"} if (body.transport or server.transport) == "stdio" else {"headers", "url"}
            if needed <= body.model_fields_set:
                return McpSecrets()
            raise

    def _unsealed(self, server: McpServer) -> McpSecrets:
        if server.sealed is None:
            return McpSecrets()
        try:
            return McpSecrets.model_validate_json(self.secrets.open(server.sealed))
        except SecretLost:
            field, more = ("env", "") if server.transport == "stdio" else ("headers", " and the url")
            reason = (
                f"The secrets of the MCP server {server.name!r} cannot be read in this data folder; "
                f"give the {field}{more} again with PUT /tools/mcp/{server.id}"
            )
            raise InvalidRequest(INVALID_SERVER, faults=[Fault(field, reason)]) from None

    def _sealed(self, secrets: McpSecrets) -> str | None:
        if secrets == McpSecrets():
            return None
        return self.secrets.seal(secrets.model_dump_json())

    def _require_free_name(self, server: McpServer) -> None:
        others = self.store.mcp_servers.find(owner=server.owner, name=server.name)
        if any(other.id != server.id for other in others):
            text = f"There is an MCP server {server.name!r} already; choose another name"
            raise Conflict(text, faults=[Fault("name", text)])

    def _require_free_tools(self, server: McpServer) -> None:
        """Refuse tools that would be called like others of the owner's."""
        taken = dict.fromkeys((*RESERVED, *(tool.name for tool in builtin_tools())), "the product's own")
        taken |= {tool.name: "a custom tool" for tool in self.store.tools.find(owner=server.owner)}
        for other in self.store.mcp_servers.find(owner=server.owner):
            if other.id != server.id:
                taken |= {tool.name: f"one of the MCP server {other.name!r}" for tool in other.tools}
        for tool in server.tools:
            if tool.name in taken:
                text = f"Its tool {tool.name!r} would be called like {taken[tool.name]}; choose another name"
                raise Conflict(text, faults=[Fault("name", text)])


# What a change makes of an MCP server, and who may make it.

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
