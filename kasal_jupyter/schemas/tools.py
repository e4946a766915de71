"""Tools: the reference's *Tool Management*."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, WithJsonSchema

from kasal_jupyter.hiding import credentials_of, too_short
from kasal_jupyter.schemas.base import Document, Given, Listed, ListQuery, Model, Name, Query, called
from kasal_jupyter.schemas.json_schema import OBJECT_SCHEMA_FORM, known_schema

AuthType = Literal["none", "bearer", "api_key", "basic"]
"""How a tool shows its endpoint who it is: not at all, by a bearer token, a header, or user and password."""

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A custom tool's name: what every model's provider takes as it is."""

DEFAULT_HEADER = "X-API-Key"
"""The header of an API key where none is named."""

FREE_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "input": {
            "type": "string",
            "description": 'What to send: a text, or a JSON object such as {"city": "Rome"}.',
        }
    },
    "additionalProperties": False,
}
"""The arguments of a tool that declares none."""

_OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept-encoding"}
)
"""Headers that say how the request itself is to be read."""

_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")

IN_PATH = re.compile(r"\{([A-Za-z][A-Za-z0-9_.-]{0,63})\}")
"""Where an argument stands in the path of an endpoint."""


def endpoint(text: str) -> str:
    """Give an address that may be called; a ``{parameter}`` may stand in its path."""
    if re.search(r"[\x00-\x20\x7f\\]", text):
        raise ValueError("an address has no blanks, backslashes or control characters")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an address is needed that begins with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("no user or password in the address; use auth_type basic")
    if parts.fragment:
        raise ValueError("an address that is called has no #fragment")
    if re.search(r"[{}]", parts.netloc + parts.query + IN_PATH.sub("", parts.path)):
        raise ValueError("a {parameter} may stand in the path only")
    return text


def address(text: str) -> str:
    """Give an address that may be called, without any ``{parameter}``."""
    endpoint(text)
    if "{" in text:
        raise ValueError("an address has no {parameters} here")
    return text


def header_value(text: str) -> str:
    """Give a text that a header can carry."""
    # The reason must not show it.
    if not text.isascii():
        raise ValueError("ASCII characters only: it is sent in a header")
    return text


def _entrusted(text: str) -> str:
    # The reason must not show it.
    if re.search(r"[\x00-\x1f\x7f]", text) or text != text.strip():
        raise ValueError("no control characters, and no blank at either end")
    return text


def _secret(text: str) -> str:
    if reason := too_short(text):
        raise ValueError(reason)
    return text


def long_enough(values: dict[str, str]) -> dict[str, str]:
    """Give named values, of which those that are secrets are long enough to be hidden."""
    for name, value in values.items():
        if reason := too_short(credentials_of(value), name):
            raise ValueError(f"{name}: {reason}")
    return values


def _parameters(schema: dict[str, Any]) -> dict[str, Any]:
    known_schema(schema)
    for name in schema.get("properties", {}):
        # CrewAI makes a pydantic model of it, whose own methods cannot be fields.
        if not _PARAMETER.fullmatch(name) or name == "self" or _is_reserved(name):
            raise ValueError(f"a parameter cannot be called {name!r}; use letters, digits and underscores")
    return schema


def _is_reserved(name: str) -> bool:
    return name.startswith("model_") and hasattr(BaseModel, name)


def _free_header(name: str) -> str:
    if name.lower() in _OWN_HEADERS:
        raise ValueError("this header belongs to the request itself; name another")
    return name


Header = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"), AfterValidator(_free_header)
]
"""The name of an HTTP header that a tool may set."""

Timeout = Annotated[float, Field(gt=0, le=600)]
"""Seconds."""

Endpoint = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2_000),
    AfterValidator(endpoint),
    Field(json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s@#\\]+$"}),
]
"""An ``http`` or ``https`` address, whose path may have ``{parameters}``."""

Entrusted = Annotated[str, StringConstraints(min_length=1, max_length=8_000), AfterValidator(_entrusted)]
"""What is stored sealed, whether it is a secret or not."""

Secret = Annotated[Entrusted, AfterValidator(_secret)]
"""A token, a key or a password."""

Parameters = Annotated[dict[str, Any], AfterValidator(_parameters), WithJsonSchema(OBJECT_SCHEMA_FORM)]
"""The JSON schema of a tool's arguments."""

Username = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f:]+$")]
"""A user of HTTP's basic authentication, whose name ends at a colon."""

MOST_DESCRIPTION = 4_000
"""Characters of what a tool is described by."""

MOST_CLIENT_SECONDS = 3_600
"""How long a client may take for the answer of its tool."""

Description = Annotated[str, StringConstraints(min_length=1, max_length=MOST_DESCRIPTION, pattern=r"\S")]


class CustomToolFields(Model):
    """What describes a custom tool, apart from its secret."""

    name: ToolName
    description: Description = Field(description="For the model: what the tool does and when to use it.")
    endpoint: Endpoint = Field(
        description="Called with the arguments: those that stand in its path as {name} there, the others "
        "as the query of GET and DELETE, else as a JSON object in the body."
    )
    method: Method = "POST"
    auth_type: AuthType = "none"
    username: Username | None = Field(
        None, description="The user of auth_type basic; the password is the secret."
    )
    header: Header | None = Field(
        None, description=f"The header of auth_type api_key; {DEFAULT_HEADER} where none is given."
    )
    parameters: Parameters | None = Field(
        None,
        description="A JSON schema of the arguments, an object. Without one the tool takes a text, `input`; "
        "a text that is a JSON object is sent as that object.",
    )
    timeout: Timeout = Field(30, description="Seconds a call may take in all.")
    idempotent: bool | None = Field(
        None,
        description="Whether a call that is made twice does no more than once, so that a resumed run may "
        "make one again whose end is unknown; null: a GET is, and nothing else.",
    )
    category: Name = "custom"


class CustomToolCreate(CustomToolFields):
    """The body of ``POST /tools/custom``."""

    secret: Secret | None = Field(
        None,
        repr=False,
        description="The token, the key or the password. It is stored encrypted and never given out again.",
    )


class CustomToolUpdate(Model):
    """The body of ``PUT /tools/custom/{tool_id}``: what is given changes.

    A ``secret`` of null takes the stored one away. An endpoint on another host needs the secret again.
    """

    name: Given[ToolName] = None
    description: Given[Description] = None
    endpoint: Given[Endpoint] = None
    method: Given[Method] = None
    auth_type: Given[AuthType] = None
    username: Username | None = None
    header: Header | None = None
    parameters: Parameters | None = None
    timeout: Given[Timeout] = None
    idempotent: bool | None = None
    category: Given[Name] = None
    secret: Secret | None = Field(None, repr=False)


class CustomTool(CustomToolFields, Document):
    """A custom tool as it is stored. Never an answer: see :class:`CustomToolDetails`."""

    id: str
    owner: str
    sealed_secret: str | None = Field(None, repr=False, description="The secret, encrypted.")
    created_at: str
    updated_at: str

    def definition(self) -> dict[str, Any]:
        """Give what describes the tool, as :class:`CustomToolFields` has it."""
        return self.model_dump(include=set(CustomToolFields.model_fields))

    def details(self) -> CustomToolDetails:
        """Give what may be shown of the tool."""
        return CustomToolDetails(
            **self.definition(),
            tool_id=self.id,
            owner=self.owner,
            has_secret=self.sealed_secret is not None,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


ClientToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
"""A client's tool's name: what every provider takes, and what a Python function may be called."""


class ClientTool(Model):
    """A tool that the client which starts a run brings along, and answers for while it runs.

    A notebook's functions are such tools. Nothing stores them.
    """

    name: ClientToolName
    description: str = Field(
        "", max_length=MOST_DESCRIPTION, description="For the model: what it does, when to use it."
    )
    parameters: Annotated[dict[str, Any], AfterValidator(_parameters), WithJsonSchema(OBJECT_SCHEMA_FORM)] = (
        Field(
            default_factory=lambda: {"type": "object", "properties": {}},
            description="A JSON schema of its arguments.",
        )
    )
    timeout: float = Field(
        60.0, gt=0, le=MOST_CLIENT_SECONDS, description="Seconds the client may take for an answer."
    )
    for_all: bool = Field(
        False, description="Whether every agent has it, not only those whose tools, or whose task's, name it."
    )
    idempotent: bool = Field(
        False,
        description="Whether a call that is made twice does no more than once, so that a resumed run may "
        "make one again whose end is unknown.",
    )


class RunTool(CustomToolFields):
    """A custom tool with its secret, for the run's process alone; nothing writes this object down."""

    secret: str | None = Field(None, repr=False)

    def secrets(self) -> list[str]:
        """Give what must never be seen of it."""
        return [self.secret] if self.secret else []


class CustomToolDetails(CustomToolFields):
    """A custom tool as it is shown."""

    tool_id: str
    owner: str
    has_secret: bool
    created_at: str
    updated_at: str


class ToolInfo(Model):
    """A tool as a list shows it, built-in or custom."""

    name: str
    description: str
    category: str
    custom: bool
    tool_id: str | None = Field(description="A custom tool's; null for others.")
    server_id: str | None = Field(None, description="The MCP server's whose tool it is; null for others.")
    parameters: dict[str, Any] = Field(description="The JSON schema of its arguments.")
    available: bool = Field(True, description="Whether it can be used on this server.")
    reason: str | None = Field(None, description="Why not, and what to do.")


class ToolQuery(ListQuery):
    """The query of ``GET /tools``."""

    category: str | None = Field(None, description="Only the tools of this category.")
    sort: Literal["name", "-name", "category", "-category"] = "name"


class CustomToolQuery(ListQuery):
    """The query of ``GET /tools/custom``."""

    category: str | None = Field(None, description="Only the tools of this category.")
    sort: Literal["created_at", "-created_at", "updated_at", "-updated_at", "name", "-name"] = "created_at"


class ToolList(Listed[ToolInfo], alias_generator=called("tools")):
    """The answer of ``GET /tools``."""


class CustomToolList(Listed[CustomToolDetails], alias_generator=called("tools")):
    """The answer of ``GET /tools/custom``."""


class ToolRegistered(Model):
    """The answer of ``POST /tools/custom``."""

    tool_id: str
    status: Literal["registered"] = "registered"


class ToolDeleteQuery(Query):
    """The query of ``DELETE /tools/custom/{tool_id}``."""

    force: bool = Field(False, description="Delete the tool even where agents or tasks use it.")
