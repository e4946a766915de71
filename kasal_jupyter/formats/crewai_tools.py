"""What CrewAI's and Kasal's tools are called here.

The names are those of the ``crewai_tools`` package, and the numbers those that Kasal's own seeds give its
tools (``src/backend/src/seeds/tools.py`` of databrickslabs/kasal).
"""

from __future__ import annotations

import re

_HERE = {
    "web_search": (
        "SerperDev",
        "BraveSearch",
        "TavilySearch",
        "EXASearch",
        "LinkupSearch",
        "SerplyWebSearch",
        "SerpApiGoogleSearch",
        "DuckDuckGoSearch",
    ),
    "web_page": (
        "ScrapeWebsite",
        "ScrapeElementFromWebsite",
        "FirecrawlScrapeWebsite",
        "SerplyWebpageToMarkdown",
        "TavilyExtractor",
    ),
    "file_reader": ("FileRead",),
    "file_writer": ("FileWriter", "FileWrite"),
    "directory_list": ("DirectoryRead",),
    "python": ("CodeInterpreter",),
}
"""Our built-in tools, each with those of CrewAI that do the same."""

KASAL_TOOLS = {
    6: "Dall-E Tool",
    16: "SerperDevTool",
    26: "ScrapeWebsiteTool",
    31: "PerplexityTool",
    35: "GenieTool",
    36: "DatabricksKnowledgeSearchTool",
    69: "MCPTool",
    70: "DatabricksJobsTool",
    71: "AgentBricksTool",
    72: "Power BI Comprehensive Analysis Tool",
    73: "Measure Conversion Pipeline",
    74: "M-Query Conversion Pipeline",
    75: "Power BI Relationships Tool",
    76: "Power BI Hierarchies Tool",
    77: "Power BI Field Parameters & Calculation Groups Tool",
    78: "Power BI Report References Tool",
    79: "Power BI Semantic Model Fetcher",
    80: "Power BI Semantic Model DAX Generator",
    81: "Power BI Metadata Reducer",
    82: "Power BI DAX Executor",
    85: "DAX to SQL Translator",
    86: "UC Metric View Generator",
    87: "PBI Measure Allocator",
    88: "Metric View Deployer",
    89: "Config Generator",
    90: "Pipeline Config Generator",
    91: "Metric View Validator",
    92: "Genie Space Generator",
    93: "UCMV Genie Space Config Generator",
    94: "PBI Visual-UCMV Mapper",
    95: "Databricks Dashboard Creator",
}
"""Kasal's tools by the numbers that a canvas has for them."""

IN_KASAL = {"web_search": "16", "web_page": "26"}
"""Our built-in tools that Kasal has one for."""


def tool_here(name: str) -> str | None:
    """Give our built-in tool that does what one of CrewAI's does; None where there is none.

    Parameters
    ----------
    name
        As CrewAI takes it: ``SerperDevTool``, ``SerperDev``, ``serper_dev``.
    """
    return _BY_NAME.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"_|tool$", "", name.lower())


_BY_NAME = {_plain(theirs): ours for ours, names in _HERE.items() for theirs in names}
