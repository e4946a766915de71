"""A run's tools, as CrewAI's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crewai.hooks.dispatch import HookAborted
from crewai.tools.base_tool import BaseTool
from crewai.tools.tool_failure import ToolFailure
from crewai.utilities.pydantic_schema_utils import create_model_from_schema
from crewai.utilities.string_utils import sanitize_tool_name
from pydantic import BaseModel, PrivateAttr, ValidationError

from kasal_jupyter.schemas.mcp import McpTool
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.http_tool import http_tool
from kasal_jupyter.tools.tool import Tool, ToolContext, always, find_tool, never
from kasal_jupyter.wellformed import text_of, well_formed
from kasal_jupyter.worker.crew.client_tool import ClientCalls
from kasal_jupyter.worker.crew.mcp_arguments import arguments_of
from kasal_jupyter.worker.crew.people import Approvals
from kasal_jupyter.worker.crew.record import RunRecord
from kasal_jupyter.worker.process.stop import RunOutOfMemory

log = logging.getLogger(__name__)


def never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    """Refuse to cache: a tool is asked to be asked."""
    return False


class CrewTool(BaseTool):
    """Calls one of our tools, or one of the client's.

    What goes wrong is given back and not raised: in ReAct mode CrewAI answers an exception by calling the
    tool again, up to three times, when it may have done half of its work.
    """

    _call: Callable[..., Any] = PrivateAttr()
    _record: RunRecord | None = PrivateAttr(default=None)
    _parameters: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _approvals: Approvals | None = PrivateAttr(default=None)
    # Without a default: pydantic would make a method of it.
    _idempotent: Callable[[Mapping[str, Any]], bool] = PrivateAttr()

    def _run(self, /, **arguments: Any) -> Any:
        call = partial(self._live, arguments)
        if self._record is None:
            return call(None)
        leave = None
        if self._approvals is not None and self._approvals.needed(self.name, arguments, self._parameters):
            leave = partial(self._approvals.call, self.name, arguments, self._changed)
        idempotent = self._idempotent(arguments)
        return self._record.tool(self.name, call, idempotent=idempotent, leave=leave)

    def _changed(self, arguments: dict[str, Any], call_key: str, *, changed: bool) -> Any:
        """Call it with what a person has said, which is looked at as a model's arguments are."""
        if not changed:
            return self._live(arguments, call_key)
        try:
            read = self.args_schema.model_validate(arguments).model_dump()
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            words = f"A person has changed the arguments, which do not fit: {where}: {fault['msg']}"
            return ToolFailure(message=words)
        return self._live(read, call_key)

    def _live(self, arguments: dict[str, Any], call_key: str | None) -> Any:
        try:
            return well_formed(self._call(call_key, **well_formed(arguments)))
        except HookAborted:
            # The run must end.
            raise
        except MemoryError as error:
            raise RunOutOfMemory from error
        except ValueError as error:
            return ToolFailure(message=text_of(error) or "It does not work with these arguments")
        except Exception as error:
            # The border of what an agent has asked for: it may go on without this tool.
            log.exception("The tool %s failed.", self.name)
            said = text_of(error)
            return ToolFailure(message=f"{type(error).__name__}{f': {said}' if said else ''}")


def crew_tool(
    tool: Tool | ClientTool | McpTool, call: Callable[..., Any], arguments: type[BaseModel] | None = None
) -> CrewTool:
    """Make a tool that CrewAI's agents can call.

    Parameters
    ----------
    tool
        The tool.
    call
        Does what it is for, with the call's key (see `ToolContext`), and its arguments by name.
    arguments
        What shows its arguments to a model; made of its ``parameters``, by default.
    """
    made = CrewTool(
        name=tool.name,
        description=tool.description,
        args_schema=arguments or model_of(tool.parameters, f"{tool.name}_arguments"),
        cache_function=never_cache,
    )
    # Pydantic takes private attributes only after construction.
    made._call, made._idempotent = call, never  # noqa: SLF001
    made._parameters = tool.parameters  # noqa: SLF001
    return made


class Sparse(BaseModel):
    """A model that gives back what it was given, without the ``null`` of every optional field."""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Give what was set."""
        return super().model_dump(**{"exclude_unset": True, **options})

    def model_dump_json(self, **options: Any) -> str:
        """Give what was set, as JSON."""
        return super().model_dump_json(**{"exclude_unset": True, **options})


def model_of(schema: dict[str, Any], name: str) -> type[BaseModel]:
    """Make a pydantic model of a JSON schema.

    Raises
    ------
    ValueError
        The schema describes no object, or nothing CrewAI can make a model of.
    """
    if schema.get("type", "object") != "object" and "$ref" not in schema:
        raise ValueError(f"The schema of {name} describes no object.")
    return create_model_from_schema(schema, model_name=re.sub(r"\W", "_", name), __base__=Sparse)


class Toolset:
    """Makes the tools of one run, each once; each call of theirs goes through the run's record.

    Parameters
    ----------
    spec
        The run.
    calls
        How the client's tools are called and humans are asked; None will do where a run has neither.
    record
        What the run asks, and what an earlier one was answered.
    """

    def __init__(self, spec: RunSpec, calls: ClientCalls | None, record: RunRecord | None = None) -> None:
        self._calls = calls
        self._record = record
        guard = HostGuard(spec.allowed_hosts)
        self._guard = guard
        context = ToolContext(Path(spec.folder), guard, spec.tool_settings)
        if calls is not None:
            context = replace(context, sleep=calls.signal.sleep)
        if record is not None:
            context = replace(context, ask=record.answer_of)
        self._approvals = Approvals(spec, record) if record is not None else None
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
        made, idempotent = self._unrecorded(name)
        made._record, made._idempotent = self._record, idempotent  # noqa: SLF001 - as in `crew_tool`
        made._approvals = self._approvals  # noqa: SLF001
        return made

    def _unrecorded(self, name: str) -> tuple[CrewTool, Callable[[Mapping[str, Any]], bool]]:
        """Make a tool; give what says whether a call does no more than once that is made twice."""
        if (clients := self._clients.get(name)) is not None:
            calls = self._calls
            assert calls is not None, "a client has brought this tool"
            repeatable = always if clients.idempotent else never
            return crew_tool(clients, lambda _key, /, **given: calls.call(clients, given)), repeatable
        servers = self._calls.servers if self._calls is not None else None
        if servers is not None and (served := servers.find(name)) is not None:
            arguments = arguments_of(served.parameters, f"{name}_arguments")
            repeatable = always if served.idempotent else never
            made = crew_tool(served, lambda key, /, **given: servers.call(name, given, key), arguments)
            return made, repeatable
        custom = self._custom.get(name)
        tool = http_tool(custom, self._guard) if custom is not None else find_tool(name)
        return crew_tool(tool, partial(self._run, tool)), tool.idempotent

    def _run(self, tool: Tool, call_key: str | None, /, **arguments: Any) -> str:
        return tool.run(replace(self._context, call_key=call_key), **arguments)
