"""Names as Python takes them: what a crew's members are called in a project's code."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from collections.abc import Iterable

_TAKEN = frozenset(
    {
        # Methods and attributes of CrewAI's base of a crew.
        *("agents", "tasks", "crew", "agents_config", "tasks_config", "llms", "name", "usage_metrics"),
        *("base_directory", "load_configurations", "load_yaml", "close_mcp_server", "get_mcp_tools"),
        *("map_all_agent_variables", "map_all_task_variables", "mcp_server_params", "mcp_connect_timeout"),
        *("is_crew_class", "original_agents_config_path", "original_tasks_config_path", "self"),
        # The marks that the methods of a crew's class have: one of that name would take a mark's place.
        *("agent", "task", "llm"),
        # What YAML 1.1, which CrewAI reads, takes for something else than a text.
        *("yes", "no", "on", "off", "true", "false", "null", "y", "n"),
    }
)


def identifiers(names: Iterable[str], *, kind: str, taken: set[str]) -> dict[str, str]:
    """Give every name an identifier of its own, as near to it as can be.

    Parameters
    ----------
    names
        The names.
    kind
        What an identifier begins with where the name has nothing to begin one with.
    taken
        Identifiers that are used already; those that are made are added.
    """
    found: dict[str, str] = {}
    for name in names:
        base = _identifier(name, kind)
        made, number = base, 1
        while made in taken or made in _TAKEN:
            number += 1
            made = f"{base}_{number}"
        taken.add(made)
        found[name] = made
    return found


def package_name(name: str) -> str:
    """Give a crew's name as a package's, which is none that Python or CrewAI has."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:50].rstrip("_")
    if not base or base[0].isdigit() or keyword.iskeyword(base):
        base = f"crew_{base}".rstrip("_")
    # With the ending it is no module of anybody's.
    return base if base.endswith("_crew") and base not in sys.stdlib_module_names else f"{base}_crew"


def class_name(package: str) -> str:
    """Give a package's name as a class's: ``market_research_crew`` → ``MarketResearchCrew``."""
    return "".join(part.capitalize() for part in package.split("_"))


def _identifier(name: str, kind: str) -> str:
    # Python reads identifiers in this form, and would not find a method by another one.
    text = unicodedata.normalize("NFKC", name.casefold())
    text = re.sub(r"\W+", "_", text).strip("_")[:60].rstrip("_")
    if not text.isidentifier():
        text = f"{kind}_{text}".rstrip("_")
    if not text.isidentifier() or unicodedata.normalize("NFKC", text) != text:
        text = kind
    return f"{text}_{kind}" if keyword.iskeyword(text) or keyword.issoftkeyword(text) else text
