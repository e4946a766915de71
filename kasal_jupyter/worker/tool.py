"""A tool of ours as one of CrewAI's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from crewai.tools.base_tool import BaseTool
from crewai.utilities.pydantic_schema_utils import create_model_from_schema
from pydantic import BaseModel, PrivateAttr

from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.tools.tool import Tool


def never_cache(_arguments: Any = None, _result: Any = None) -> bool:
    """Refuse to cache: a tool is asked to be asked."""
    return False


class CrewTool(BaseTool):
    """Calls one of our tools, or one of the client's."""

    _call: Callable[..., Any] = PrivateAttr()

    def _run(self, /, **arguments: Any) -> Any:
        return self._call(**arguments)


def crew_tool(tool: Tool | ClientTool, call: Callable[..., Any]) -> CrewTool:
    """Make a tool that CrewAI's agents can call.

    Parameters
    ----------
    tool
        The tool.
    call
        Does what it is for, with its arguments by name.
    """
    made = CrewTool(
        name=tool.name,
        description=tool.description,
        args_schema=model_of(tool.parameters, f"{tool.name}_arguments"),
        cache_function=never_cache,
    )
    made._call = call  # noqa: SLF001 - pydantic takes private attributes only after construction
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
