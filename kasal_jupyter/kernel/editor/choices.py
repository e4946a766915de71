"""What can be chosen: the server's models and tools, and the notebook's functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.schemas.models import ModelInfo
from kasal_jupyter.schemas.tools import ClientTool, ToolInfo

NOTEBOOK = "notebook"
"""The category of the notebook's own functions."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen.

    Attributes
    ----------
    models
        The server's.
    tools
        The server's.
    functions
        The notebook's functions that are tools, by name.
    trouble
        Why the server's are not there, where they are not.
    """

    models: tuple[ModelInfo, ...] = ()
    tools: tuple[ToolInfo, ...] = ()
    functions: Mapping[str, ClientTool] = field(default_factory=dict)
    trouble: str = ""

    @classmethod
    def of(cls, client: Client) -> Choices:
        """Ask the server; where it does not answer, there are the notebook's functions still."""
        try:
            return cls(_models(client), tuple(client.tools()), notebook_functions())
        except KasalError as error:
            return cls(functions=notebook_functions(), trouble=error.message)

    def model(self, name: str) -> ModelInfo | None:
        """Give what is known of a model; None where nothing is."""
        return next((model for model in self.models if model.name == name), None)

    def default_model(self) -> ModelInfo | None:
        """Give the model of agents that name none."""
        return next((model for model in self.models if model.default), None)

    def model_note(self, name: str) -> str:
        """Say why a model cannot run here now; nothing where it can, or where that is not known."""
        model = self.model(name) if name else None
        return (model.reason or "it cannot run now") if model and not model.available else ""

    def model_rows(self) -> list[tuple[str, str]]:
        """Give each model's line for a list, and its name; those that can run first."""
        ranked = sorted(self.models, key=lambda model: (not model.available, model.provider, model.name))
        return [(f"{model.name} · {model_facts(model)}", model.name) for model in ranked]

    def tool_rows(self) -> list[tuple[str, str]]:
        """Give each tool's line for a list, by category, and its name; the notebook's first."""
        rows = [
            (_tool_line(NOTEBOOK, name, tool.description), name)
            for name, tool in sorted(self.functions.items())
        ]
        listed = sorted(self.tools, key=lambda tool: (tool.custom, tool.category, tool.name))
        return rows + [(_tool_line(tool.category, tool.name, tool.description), tool.name) for tool in listed]

    def tool_note(self, name: str) -> str:
        """Say that a tool is not there; nothing where it is, or where that is not known."""
        known = {tool.name for tool in self.tools} | set(self.functions)
        if name in known or self.trouble:
            return ""
        return f"{name!r} is no tool of the server's, nor of this notebook's"


def notebook_functions() -> dict[str, ClientTool]:
    """Give the functions that are tools in this kernel now, by name."""
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    return {name: tool.definition for name, tool in registered().items()}


def model_facts(model: ModelInfo) -> str:
    """Say of a model in one line what one chooses by: provider, key, price."""
    if not model.available:
        return f"{model.provider} · ✖ {one_line(model.reason or 'it cannot run now', 120)}"
    return f"{model.provider} · ✔ ready · {price_text(model)}"


def price_text(model: ModelInfo) -> str:
    """Give a model's price a million tokens."""
    if model.price is None:
        return "price unknown"
    return f"${model.price.input:,.2f} in, ${model.price.output:,.2f} out a million tokens"


def _models(client: Client) -> tuple[ModelInfo, ...]:
    try:
        return tuple(client.models())
    except NotFound:
        # A server of an older version lists none; their names can be typed.
        return ()


def _tool_line(category: str, name: str, description: str) -> str:
    about = one_line(description, 70)
    return f"{category} · {name}{f' · {about}' if about else ''}"
