"""What a run's process is told of an MCP server."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from kasal_jupyter.hiding import MIN_SECRET, credentials_of, secrets_among
from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.mcp_fields import CALL_SECONDS, Transport


class McpTool(Model):
    """A tool of an MCP server, as the catalogue has it."""

    name: str = Field(description="What agents call it by.")
    remote_name: str = Field(description="What its server calls it.")
    description: str
    parameters: dict[str, Any] = Field(description="The JSON schema of its arguments.")


class RunMcpServer(Model):
    """A server with its secrets, for the run's process alone; nothing writes this object down."""

    name: str
    transport: Transport
    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    url: str | None = Field(None, repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    guarded: bool = Field(
        True,
        description="Whether its address was given by a user who may not name any: only public hosts and the "
        "spec's allowed_hosts may be called there.",
    )
    timeout: float = Field(CALL_SECONDS, description="Seconds that a call may take.")
    tools: list[McpTool]

    def secrets(self) -> list[str]:
        """Give what must never be seen of it: headers, and the variables that are called like secrets."""
        query = parse_qsl(urlsplit(self.url).query) if self.url else []
        found = secrets_among([*self.env.items(), *query, *self.headers.items()])
        # Whoever repeats a bearer token seldom repeats the word before it.
        sent = (each for value in self.headers.values() for each in (value, credentials_of(value)))
        return [*found, *(each for each in sent if len(each) >= MIN_SECRET)]
