"""A tool of ours as one of CrewAI's."""

from __future__ import annotations

import re
from typing import Any

from crewai.tools.base_tool import BaseTool
from crewai.utilities.pydantic_schema_utils import create_model_from_schema
from pydantic import BaseModel, PrivateAttr

from kasal_jupyter.tools.tool import Tool, ToolContext


def never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    """Refuse to cache: a tool is asked to be asked."""
    return False


class CrewTool(BaseTool):
    """Calls one of our tools."""

    _tool: Tool = PrivateAttr()
    _context: ToolContext = PrivateAttr()

    def _run(self, /, **arguments: Any) -> str:
        return self._tool.run(self._context, **arguments)


def crew_tool(tool: Tool, context: ToolContext) -> CrewTool:
    """Make a tool that CrewAI's agents can call.

    Parameters
    ----------
    tool
        The tool.
    context
        What it may know about the run.
    """
    made = CrewTool(
        name=tool.name,
        description=tool.description,
        args_schema=model_of(tool.parameters, f"{tool.name}_arguments"),
        cache_function=never_cache,
    )
    made._tool = tool  # noqa: SLF001 - pydantic takes private attributes only after construction
    made._context = context  # noqa: SLF001
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
