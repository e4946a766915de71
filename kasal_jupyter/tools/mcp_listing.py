"""Which tools an MCP server has, and what goes wrong with it: without the ``mcp`` package, which is heavy."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.schemas.base import Deferred
from kasal_jupyter.schemas.json_schema import object_schema
from kasal_jupyter.schemas.mcp import McpLeftOut, McpTool


class McpFailed(ValueError):
    """A server cannot be reached, is none, or did not do what it was asked.

    Parameters
    ----------
    text
        What happened.
    field
        The field of its registration that is to blame: ``command`` or ``url``, where one is.
    """

    def __init__(self, text: str, *, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field


# An MCP server's tools as the catalogue has them: names that every model takes, schemas within bounds.

MAX_TOOLS = 500
"""Tools of one server; more would fill a model's context by themselves."""

MAX_NAME = 64
"""Characters of a tool's name that every provider takes."""

MAX_DESCRIPTION = 4_000
"""Characters of a description that are kept."""

MAX_SCHEMA = 50_000
"""Bytes of a tool's schema, as JSON."""

MAX_LIST = 1_000_000
"""Bytes of all that is kept of one server's tools: lists of tools are read again and again."""

_WORD_BEGINS = re.compile(r"(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z0-9])(?=[A-Z])")


class RemoteTool(Deferred):
    """A tool as its server describes it."""

    name: str
    description: str = ""
    parameters: dict[str, Any]
    idempotent: bool = False


@dataclass(slots=True)
class Listing:
    """What became of a server's tools.

    Attributes
    ----------
    tools
        Those that agents can have.
    left_out
        The others.
    """

    tools: list[McpTool] = field(default_factory=list)
    left_out: list[McpLeftOut] = field(default_factory=list)


def list_tools(
    server: str,
    remote: Iterable[RemoteTool],
    *,
    selected: Collection[str] | None = None,
    known: Mapping[str, str] | None = None,
) -> Listing:
    """Make a catalogue's entries of what a server says.

    Parameters
    ----------
    server
        The name that it was registered by.
    remote
        Its tools.
    selected
        The names of those that are wanted; all, where none are given.
    known
        The names that its tools have had, by the server's: they keep them.
    """
    listing = Listing()
    names = dict(known or {})
    taken = {name: remote_name for remote_name, name in names.items()}
    seen: set[str] = set()
    size = 0
    for tool in remote:
        if selected is not None and tool.name not in selected:
            continue
        reason = _reason_against(tool, seen, len(listing.tools))
        schema: dict[str, Any] = {}
        if reason is None:
            try:
                schema = _schema(tool.parameters)
                size += len(json.dumps(schema)) + min(len(tool.description), MAX_DESCRIPTION)
            except (ValueError, RecursionError) as error:
                reason = f"Its arguments cannot be used: {str(error) or 'they are too deep'}"
        if reason is None and size > MAX_LIST:
            reason = f"All its tools together are larger than {MAX_LIST} bytes; say which are to be taken"
        if reason is not None:
            listing.left_out.append(McpLeftOut(remote_name=tool.name[:200], reason=reason[:1_000]))
            continue
        seen.add(tool.name)
        name = names.get(tool.name) or _name(server, tool.name, taken)
        taken[name] = tool.name
        listing.tools.append(
            McpTool(
                name=name,
                remote_name=tool.name,
                description=_description(tool, server),
                parameters=schema,
                idempotent=tool.idempotent,
            )
        )
    for name in selected or ():
        if name not in seen and not any(each.remote_name == name[:200] for each in listing.left_out):
            listing.left_out.append(
                McpLeftOut(remote_name=name, reason="The server has no tool of this name")
            )
    return listing


def _reason_against(tool: RemoteTool, seen: Collection[str], count: int) -> str | None:
    if tool.name in seen:
        return "The server has two tools of this name"
    if count >= MAX_TOOLS:
        return f"The server has more than {MAX_TOOLS} tools; say which are to be taken"
    if len(tool.name) > 200 or not tool.name.strip():
        return "Its name is empty, or longer than 200 characters"
    return None


def _name(server: str, remote: str, taken: Mapping[str, str]) -> str:
    """Give the name that agents call a tool by: what CrewAI offers models without a change."""
    plain = unicodedata.normalize("NFKD", _WORD_BEGINS.sub("_", remote)).encode("ascii", "ignore").decode()
    word = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    name = f"{server}_{word}" if word else server
    if word and len(name) <= MAX_NAME and name not in taken:
        return name
    # Told apart by what its server calls it, and so the same at the next time.
    mark = hashlib.sha256(remote.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9].rstrip('_')}_{mark}"


def _description(tool: RemoteTool, server: str) -> str:
    text = tool.description.strip()
    if not text:
        return f"The tool {tool.name} of the MCP server {server}"
    return text if len(text) <= MAX_DESCRIPTION else f"{text[: MAX_DESCRIPTION - 1]}…"


def _schema(given: dict[str, Any]) -> dict[str, Any]:
    """Give a schema that describes an object.

    Raises
    ------
    ValueError
        It is no such schema.
    """
    # Servers of tools without arguments leave the type out now and then.
    schema = {"type": "object", **given}
    if len(json.dumps(schema)) > MAX_SCHEMA:
        raise ValueError(f"their schema is larger than {MAX_SCHEMA} bytes")
    if "self" in (schema.get("properties") or {}):
        raise ValueError("CrewAI cannot pass an argument that is called 'self'")
    # What a model is shown of it is written without references, and with an end:
    # ``worker/crew/mcp_arguments``.
    return object_schema(schema, replaced=False)
