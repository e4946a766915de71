"""A tool: what an agent can call, as CrewAI, the API and the notebook all see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know about the run that calls it.

    Attributes
    ----------
    folder
        The run's own working folder: the only place a tool may read or write files.
    """

    folder: Path


@dataclass(frozen=True, slots=True)
class Tool:
    """Something an agent can call.

    Attributes
    ----------
    name
        Unique; lower case with underscores, so that every provider takes it as it is.
    description
        For the model: what it does and when to use it.
    category
        A heading to list it under.
    parameters
        The JSON schema of the arguments, an object. The sandbox model takes its
        arguments from the ``examples`` given there.
    function
        Called with the context and the arguments by name. Raises ``ValueError``
        with a sentence that tells the agent what to do differently.
    """

    name: str
    description: str
    category: str
    parameters: dict[str, Any]
    function: Callable[..., str] = field(repr=False)

    def run(self, context: ToolContext, /, **arguments: Any) -> str:
        """Call the tool.

        Parameters
        ----------
        context
            The run it is called in.
        **arguments
            The arguments, already validated against ``parameters``. ``None`` stands for an
            argument that was not given.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        return self.function(context, **given)
