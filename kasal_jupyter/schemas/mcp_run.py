"""What a run's process is told of an MCP server."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from kasal_jupyter.hiding import MIN_SECRET, credentials_of, secrets_among
from kasal_jupyter.schemas.base import Model
from kasal_jupyter.schemas.tools import Entrusted, Header, address, header_value, long_enough

# The fields of an MCP server's registration.

Transport = Literal["stdio", "http"]
"""``stdio``: a program that is started and spoken to. ``http``: a streamable-HTTP endpoint."""

CALL_SECONDS = 60.0
"""How long a call may take where nothing else is said."""

MAX_VALUES = 32_000
"""Most characters of all headers, or of all variables: few servers read more, and all of it is looked for."""

_LINE = r"^[^\x00\r\n]*$"

ServerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=32)]
"""What the names of a server's tools begin with."""

Command = Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=_LINE)]

Argument = Annotated[str, StringConstraints(max_length=8_000, pattern=r"^[^\x00]*$")]

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]

VariableValue = Annotated[str, StringConstraints(max_length=8_000, pattern=r"^[^\x00]*$")]

RemoteName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def _query(url: str) -> str:
    long_enough(dict(parse_qsl(urlsplit(url).query)))
    return url


Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2_000),
    AfterValidator(address),
    AfterValidator(_query),
    Field(json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s@#{}\\]+$"}),
]
"""An ``http`` or ``https`` address."""

HeaderValue = Annotated[Entrusted, AfterValidator(header_value)]

_HEADERS_OF_THE_PROTOCOL = frozenset({"accept", "last-event-id", "mcp-session-id", "mcp-protocol-version"})


def _free_headers(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if name.lower() in _HEADERS_OF_THE_PROTOCOL:
            raise ValueError(f"{name} belongs to the protocol itself; leave it out")
    return headers


def _bounded(values: dict[str, str]) -> dict[str, str]:
    if sum(map(len, values.values())) > MAX_VALUES:
        raise ValueError(f"{MAX_VALUES:,} characters of values at the most")
    return values


Environment = Annotated[
    dict[Variable, VariableValue],
    Field(max_length=100),
    AfterValidator(long_enough),
    AfterValidator(_bounded),
]
Headers = Annotated[
    dict[Header, HeaderValue],
    Field(max_length=50),
    AfterValidator(_free_headers),
    AfterValidator(long_enough),
    AfterValidator(_bounded),
]
Arguments = Annotated[list[Argument], Field(max_length=200)]
Selected = Annotated[list[RemoteName], Field(min_length=1, max_length=500)]


class McpTool(Model):
    """A tool of an MCP server, as the catalogue has it."""

    name: str = Field(description="What agents call it by.")
    remote_name: str = Field(description="What its server calls it.")
    description: str
    parameters: dict[str, Any] = Field(description="The JSON schema of its arguments.")
    idempotent: bool = Field(
        False, description="Whether its server says that a call made twice does no more than once."
    )


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
