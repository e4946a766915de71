"""The tools that come with the product. Each is one module of :mod:`kasal_jupyter.tools.builtin`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from kasal_jupyter.errors import NotFound
from kasal_jupyter.tools import builtin
from kasal_jupyter.tools.tool import Tool


@cache
def builtin_tools() -> tuple[Tool, ...]:
    """Give every built-in tool, by name: the ``TOOL`` of each module in ``builtin``."""
    modules = (import_module(f"{builtin.__name__}.{found.name}") for found in iter_modules(builtin.__path__))
    return tuple(sorted((module.TOOL for module in modules), key=lambda tool: tool.name))


@cache
def builtin_names() -> frozenset[str]:
    """Give the built-in tools' names, without loading any: each is its module's."""
    return frozenset(found.name for found in iter_modules(builtin.__path__))


def find_tool(name: str) -> Tool:
    """Give the tool of that name.

    Raises
    ------
    NotFound
        There is none.
    """
    for tool in builtin_tools():
        if tool.name == name:
            return tool
    raise NotFound(f"There is no tool named {name!r}.")
