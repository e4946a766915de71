"""MCP servers: tools that other programs serve by the Model Context Protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from kasal_jupyter.hiding import MIN_SECRET, credentials_of, secrets_among
from kasal_jupyter.schemas.base import Document, Given, Listed, ListQuery, Model, Name, Query, called
from kasal_jupyter.schemas.tools import Entrusted, Header, Timeout, address, header_value, long_enough

# What a run's process is told of an MCP server.

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


class McpLeftOut(Model):
    """A tool of an MCP server that the catalogue does not have."""

    remote_name: str
    reason: str


class McpServerFields(Model):
    """What describes an MCP server, apart from its secrets."""

    name: ServerName = Field(description="What the names of its tools begin with.")
    description: str = Field("", max_length=4_000, description="For people: what the server is for.")
    transport: Transport
    command: Command | None = Field(None, description="Of stdio: the program, a name on the PATH or a path.")
    args: Arguments = Field(default_factory=list, description="Of stdio: the program's arguments.")
    url: Url | None = Field(
        None,
        description="Of http: the endpoint, e.g. https://example.com/mcp. What stands behind a question mark "
        "is stored encrypted and never given out again.",
    )
    timeout: Timeout = Field(CALL_SECONDS, description="Seconds that a call may take.")
    category: Name = Field("mcp", description="What its tools are listed under.")
    shared: bool = Field(False, description="Whether everybody's crews may use it; for admins.")


class McpServerCreate(McpServerFields):
    """The body of ``POST /tools/mcp``."""

    env: Environment = Field(
        default_factory=dict,
        repr=False,
        description="Of stdio: variables of the program's environment, which has few others. Their values "
        "are stored encrypted and never given out again.",
    )
    headers: Headers = Field(
        default_factory=dict,
        repr=False,
        description="Of http: headers that are sent, e.g. Authorization. Their values are stored encrypted "
        "and never given out again.",
    )
    tools: Selected | None = Field(
        None, description="Which of its tools are taken, by the server's names for them; all, by default."
    )

    @model_validator(mode="after")
    def _one_transport(self) -> Self:
        if reason := mismatch(self):
            raise ValueError(reason)
        return self


def mismatch(server: McpServerCreate | McpServer) -> str | None:
    """Say what of a server does not belong to its transport, or what is missing; None where it fits."""
    given = {
        "command": server.command is not None,
        "args": bool(server.args),
        "env": bool(server.env),
        "url": server.url is not None,
        "headers": bool(server.headers),
    }
    needed, others = {
        "stdio": ("command", ("url", "headers")),
        "http": ("url", ("command", "args", "env")),
    }[server.transport]
    if not given[needed]:
        return f"transport {server.transport} needs {needed}"
    if foreign := [name for name in others if given[name]]:
        return f"transport {server.transport} has no {' and no '.join(foreign)}"
    return None


class McpServerUpdate(Model):
    """The body of ``PUT /tools/mcp/{server_id}``: what is given changes.

    ``env`` and ``headers`` are replaced as a whole. A ``url`` on another host needs the headers again.
    """

    name: Given[ServerName] = None
    description: Given[Annotated[str, Field(max_length=4_000)]] = None
    transport: Given[Transport] = None
    command: Command | None = None
    args: Given[Arguments] = None
    env: Given[Environment] = Field(None, repr=False)
    url: Url | None = None
    headers: Given[Headers] = Field(None, repr=False)
    timeout: Given[Timeout] = None
    category: Given[Name] = None
    shared: Given[bool] = None
    tools: Selected | None = Field(None, description="Null: all of its tools.")


class McpServer(McpServerFields, Document):
    """An MCP server as it is stored. Never an answer: see :class:`McpServerDetails`."""

    id: str
    owner: str
    env: list[str] = Field(default_factory=list, description="The names of its variables.")
    headers: list[str] = Field(default_factory=list, description="The names of its headers.")
    sealed: str | None = Field(None, repr=False, description="A McpSecrets as JSON, encrypted.")
    guarded: bool = Field(description="Whether its address is held to the rules for tools.")
    selected: list[str] | None = None
    version: str | None = Field(None, description="What the server says it is, with its version.")
    tools: list[McpTool] = Field(default_factory=list)
    left_out: list[McpLeftOut] = Field(default_factory=list)
    listed_at: str
    created_at: str
    updated_at: str

    def details(self, *, whole: bool) -> McpServerDetails:
        """Give what may be shown of the server.

        Parameters
        ----------
        whole
            Whether it is shown to somebody who may change it: how it is reached is nobody else's business.
        """
        hidden = () if whole else ("command", "args", "url", "env", "headers")
        shown = self.model_dump(exclude={"id", "sealed", "guarded", *hidden})
        return McpServerDetails.model_validate({**shown, "server_id": self.id})


class McpSecrets(Model):
    """What is sealed of a server."""

    env: dict[str, str] = Field(default_factory=dict, repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    query: str = Field("", repr=False, description="What stands behind the question mark of its address.")


class McpServerDetails(Model):
    """An MCP server as it is shown; how it is reached to those alone who may change it."""

    server_id: str
    owner: str
    name: str
    description: str
    transport: Transport
    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: list[str] = Field(default_factory=list, description="The names of its variables.")
    url: str | None = None
    headers: list[str] = Field(default_factory=list, description="The names of its headers.")
    timeout: float
    category: str
    shared: bool
    selected: list[str] | None = Field(description="Which of its tools are taken; null: all.")
    version: str | None
    tools: list[McpTool]
    left_out: list[McpLeftOut] = Field(description="Tools that agents cannot have, and why.")
    listed_at: str = Field(description="When its tools were listed.")
    created_at: str
    updated_at: str


class McpServerQuery(ListQuery):
    """The query of ``GET /tools/mcp``."""

    sort: Literal["created_at", "-created_at", "name", "-name"] = "created_at"


class McpServerList(Listed[McpServerDetails], alias_generator=called("servers")):
    """The answer of ``GET /tools/mcp``."""


class McpRegistered(Model):
    """The answer of ``POST /tools/mcp``."""

    server_id: str
    status: Literal["registered"] = "registered"
    tools: list[str] = Field(description="The names that agents call its tools by.")
    left_out: list[McpLeftOut] = Field(description="Tools that agents cannot have, and why.")


class McpRefreshed(Model):
    """The answer of ``POST /tools/mcp/{server_id}/refresh``."""

    server_id: str
    tools: list[str] = Field(description="The names of all its tools now.")
    added: list[str]
    removed: list[str]
    changed: list[str] = Field(description="Those whose description or arguments are other ones.")
    left_out: list[McpLeftOut] = Field(description="Tools that agents cannot have, and why.")


class McpDeleteQuery(Query):
    """The query of ``DELETE /tools/mcp/{server_id}``."""

    force: bool = Field(False, description="Delete the server even where agents or tasks use its tools.")
