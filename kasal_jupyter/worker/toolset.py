"""A run's tools, as CrewAI's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from crewai.tools.base_tool import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name

from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.tools.catalog import find_tool
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.http_tool import http_tool
from kasal_jupyter.tools.tool import ToolContext
from kasal_jupyter.worker.client_tool import ClientCalls
from kasal_jupyter.worker.mcp_arguments import arguments_of
from kasal_jupyter.worker.tool import crew_tool


class Toolset:
    """Makes the tools of one run, each once.

    Parameters
    ----------
    spec
        The run.
    calls
        How the client's tools are called and humans are asked; None will do where a run has neither.
    """

    def __init__(self, spec: RunSpec, calls: ClientCalls | None) -> None:
        self._calls = calls
        guard = HostGuard(spec.allowed_hosts)
        self._guard = guard
        context = ToolContext(Path(spec.folder), guard, spec.tool_settings)
        if calls is not None:
            context = replace(context, ask=calls.ask, sleep=calls.signal.sleep)
        self._context = context
        self._custom = {tool.name: tool for tool in spec.tools}
        self._clients = {tool.name: tool for tool in spec.client_tools}
        self._for_all = [tool.name for tool in spec.client_tools if tool.for_all]
        self._made: dict[str, BaseTool] = {}

    def of_agent(self, names: Sequence[str]) -> list[BaseTool]:
        """Give an agent's tools: those it names, and those that are for all."""
        return [self.tool(name) for name in dict.fromkeys([*names, *self._for_all])]

    def tool(self, name: str) -> BaseTool:
        """Give a tool."""
        if name not in self._made:
            self._made[name] = self._new(name)
        return self._made[name]

    def names(self) -> dict[str, str]:
        """Give the names of the tools that were made, by CrewAI's spelling of them."""
        return {sanitize_tool_name(name): name for name in self._made}

    def _new(self, name: str) -> BaseTool:
        if (clients := self._clients.get(name)) is not None:
            calls = self._calls
            assert calls is not None, "a client has brought this tool"
            return crew_tool(clients, lambda **arguments: calls.call(clients, arguments))
        servers = self._calls.servers if self._calls is not None else None
        if servers is not None and (served := servers.find(name)) is not None:
            arguments = arguments_of(served.parameters, f"{name}_arguments")
            return crew_tool(served, lambda **given: servers.call(name, given), arguments)
        custom = self._custom.get(name)
        tool = http_tool(custom, self._guard) if custom is not None else find_tool(name)
        return crew_tool(tool, partial(tool.run, self._context))
