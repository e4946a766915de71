"""The tools that one owner's crews can use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kasal_jupyter.errors import listed, nearest
from kasal_jupyter.schemas.mcp_run import RunMcpServer
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.schemas.tools import CustomTool, RunTool
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
