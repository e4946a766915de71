"""Searching the web."""

from __future__ import annotations

from kasal_jupyter.hiding import beginning
from kasal_jupyter.tools.search import search
from kasal_jupyter.tools.tool import Tool, ToolContext, always, without_network

MAX_RESULTS = 20
"""Most results of a search."""

MAX_SNIPPET = 600
"""Most characters of what a result says."""


def _run(context: ToolContext, query: str, max_results: int = 8) -> str:
    if not query.strip():
        raise ValueError("query: what to look for is missing.")
    if not 1 <= max_results <= MAX_RESULTS:
        raise ValueError(f"max_results: between 1 and {MAX_RESULTS}, please.")
    found = search(query, max_results, context.settings.search, context.guard)
    if not found:
        return f"Nothing was found for {query!r}; try other words."
    return "\n\n".join(
        f"{number}. {each.title or each.url}\n   {each.url}\n   {snippet}".rstrip()
        for number, each in enumerate(found, 1)
        for snippet in [beginning(each.snippet, MAX_SNIPPET)]
    )


TOOL = Tool(
    name="web_search",
    description="Searches the web, and gives titles, addresses and short texts of what it finds; web_page "
    "reads one of them.",
    category="research",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "What to look for, in a few words.",
                "minLength": 1,
                "maxLength": 400,
                "examples": ["CrewAI agents"],
            },
            "max_results": {
                "type": "integer",
                "description": "How many results to give.",
                "minimum": 1,
                "maximum": MAX_RESULTS,
                "default": 8,
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
    unavailable=without_network,
)
