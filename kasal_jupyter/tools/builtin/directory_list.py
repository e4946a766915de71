"""Listing folders that the run's tools can read."""

from __future__ import annotations

from fnmatch import fnmatchcase

from kasal_jupyter.tools.tool import Tool, ToolContext, always
from kasal_jupyter.tools.workspace import Workspace

MOST_ENTRIES = 500
"""Entries that are given."""

MAX_LEVELS = 8
"""Levels of folders that are listed."""


def listing(workspace: Workspace, path: str = ".", pattern: str = "*", depth: int = 1) -> str:
    """List a folder, a line an entry: folders with a slash, files with their size.

    Parameters
    ----------
    workspace
        What may be listed.
    path
        The folder.
    pattern
        ``*``, ``?`` and ``[…]`` stand for characters; one without a slash is compared with the last name.
    depth
        How many levels.
    """
    lines: list[str] = []
    for entry in workspace.entries(path, depth):
        compared = entry.path if "/" in pattern else entry.path.rpartition("/")[2]
        if not fnmatchcase(compared, pattern):
            continue
        if len(lines) == MOST_ENTRIES:
            lines.append(f"[There is more; these are the first {MOST_ENTRIES}. A pattern narrows it down.]")
            break
        match entry.kind:
            case "folder":
                lines.append(f"{entry.path}/")
            case "file":
                lines.append(f"{entry.path}  {entry.size:,} bytes")
            case kind:
                lines.append(f"{entry.path}  ({kind})")
    if not lines:
        lines.append("The folder is empty." if pattern == "*" else f"Nothing there is called {pattern!r}.")
    if path == "." and workspace.readable:
        lines.append(f"[These can be read as well: {', '.join(workspace.readable)}]")
    return "\n".join(lines)


def _run(context: ToolContext, path: str = ".", pattern: str = "*", depth: int = 1) -> str:
    if not 1 <= depth <= MAX_LEVELS:
        raise ValueError(f"depth: between 1 and {MAX_LEVELS}, please.")
    return listing(Workspace.of(context), path, pattern, depth)


TOOL = Tool(
    name="directory_list",
    description="Lists the files of a folder with their sizes: of the run's working folder, or of one that "
    "may be read besides it.",
    category="data",
    parameters={
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "The folder; '.' is the working folder.",
                "default": ".",
            },
            "pattern": {
                "type": "string",
                "description": "Only names like this, e.g. *.csv.",
                "default": "*",
            },
            "depth": {
                "type": "integer",
                "description": "How many levels of folders.",
                "minimum": 1,
                "maximum": MAX_LEVELS,
                "default": 1,
            },
        },
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
)
