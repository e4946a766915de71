"""A tool of ours as one of CrewAI's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from crewai.hooks.dispatch import HookAborted
from crewai.tools.base_tool import BaseTool
from crewai.tools.tool_failure import ToolFailure
from crewai.utilities.pydantic_schema_utils import create_model_from_schema
from pydantic import BaseModel, PrivateAttr

from kasal_jupyter.schemas.mcp_run import McpTool
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.tools.tool import Tool
from kasal_jupyter.wellformed import text_of, well_formed
from kasal_jupyter.worker.stop import RunOutOfMemory

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

    def _run(self, /, **arguments: Any) -> Any:
        try:
            return well_formed(self._call(**well_formed(arguments)))
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
        Does what it is for, with its arguments by name.
    arguments
        What shows its arguments to a model; made of its ``parameters``, by default.
    """
    made = CrewTool(
        name=tool.name,
        description=tool.description,
        args_schema=arguments or model_of(tool.parameters, f"{tool.name}_arguments"),
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
