"""What the operations of the OpenAPI document share: the schemas, the errors, the ways to authenticate."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from kasal_jupyter.errors import (
    Conflict,
    Fault,
    Forbidden,
    InvalidRequest,
    KasalError,
    MethodNotAllowed,
    ModelCallFailed,
    NotFound,
    NotGenerated,
    PreconditionFailed,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from kasal_jupyter.schemas.server import ErrorBody

Json = dict[str, Any]

Mode = Literal["validation", "serialization"]

REF = "#/components/schemas/{model}"

ERROR_EXAMPLES: Mapping[int, KasalError] = {
    400: InvalidRequest(
        "Invalid crew configuration", faults=[Fault("agents", "At least one agent required")]
    ),
    401: Unauthorized("Send a valid token: Authorization: Bearer <token>"),
    403: Forbidden("This needs the role editor; yours is viewer. Ask an administrator"),
    404: NotFound("There is no crew crew_abc123"),
    405: MethodNotAllowed("The resource is there, and has no such method"),
    409: Conflict("Execution job_qwerty123 is running; its result comes when it has ended"),
    412: PreconditionFailed("The crew has changed since; read it again"),
    415: UnsupportedMedia("A batch is no text/html; send JSON, text/csv or application/x-ndjson"),
    422: NotGenerated(
        "gpt-4 was asked 3 times and has given no crew that could run: there is no agent 'writer'",
        faults=[Fault("tasks.report.agent", "line 12: there is no agent 'writer'")],
    ),
    429: TooManyRequests("Rate limit exceeded", retry_after=12),
    500: KasalError("Internal Error"),
    502: ModelCallFailed("openai/gpt-4: the provider refused the API key (401).", cause="MODEL_AUTH"),
    503: Unavailable("The server is in maintenance", retry_after=300),
}
"""An error of each status that an operation may be refused with."""

ERROR_TEXTS: Mapping[int, str] = {
    400: "A parameter, a header or the body is wrong; every fault is named.",
    401: "There is no token, or one that is invalid, expired or revoked.",
    403: "The caller's role is too low, or the request comes from a page that may not make it.",
    404: "There is no such resource, or it is somebody else's.",
    405: "The resource is there, and has no such method; `Allow` names those it has.",
    409: "The resource is in a state that forbids this.",
    412: "Somebody else has changed the resource since it was read.",
    415: "The body is of a kind that is not taken here.",
    422: "The model has answered with nothing that could be used; every fault is named.",
    429: "The rate limit is used up; `Retry-After` says for how long.",
    500: "The server failed; its log says how.",
    502: "The model that was needed has not answered; the code is that of its failure.",
    503: "Maintenance mode, or too many executions wait.",
}

RATE_HEADERS: Json = {
    "X-RateLimit-Limit": {
        "description": "Requests that the caller's tier admits by its longest limit; absent where there is "
        "no limit, as are the next two.",
        "schema": {"type": "integer"},
    },
    "X-RateLimit-Remaining": {
        "description": "Requests that are left in it.",
        "schema": {"type": "integer"},
    },
    "X-RateLimit-Reset": {
        "description": "Seconds until there are more.",
        "schema": {"type": "integer"},
    },
}

_RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "Seconds after which the request may succeed, where that is known.",
        "schema": {"type": "integer"},
    }
}

_ERROR_HEADERS: Mapping[int, Json] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    405: {"Allow": {"description": "The methods of the resource.", "schema": {"type": "string"}}},
    429: {**_RETRY_AFTER, **RATE_HEADERS},
    503: _RETRY_AFTER,
}

SECURITY: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The access token of `POST /auth/login`, an API key of `POST /auth/keys`, the "
        "sandbox's token, or the Jupyter server's own.",
    },
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "The same, for those who cannot set a header. It shows in logs: prefer the header.",
    },
}


def examples_of(model: type[BaseModel]) -> list[Json]:
    """Give a model's examples, or its base's; all are in ``schemas/examples.json``."""
    known = _examples()
    return next((known[base.__name__] for base in model.__mro__ if base.__name__ in known), [])


@cache
def _examples() -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = json.loads((files("kasal_jupyter.schemas") / "examples.json").read_bytes())
    return found


class _Schemas(GenerateJsonSchema):
    """Schemas as a client sees them: no titles that repeat names; an answer has all of its fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as pydantic calls it
        return False

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002
        # By the alphabet it would be, the examples too.
        return value

    def default_schema(self, schema: Any) -> Json:
        if self.mode == "serialization":
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def model_schema(self, schema: Any) -> Json:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        if examples := examples_of(model):
            # What is read and written has one example, which may leave fields out where it is read.
            made["examples"] = (
                [model.model_validate(example).model_dump(mode="json") for example in examples]
                if self.mode == "serialization"
                else examples
            )
        return made

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization" and field["type"] == "model-field":
            return True
        return super().field_is_required(field, total)


def error_name(status: int) -> str:
    """Name the component that describes an error, e.g. ``NotFound``."""
    return HTTPStatus(status).phrase.title().replace(" ", "")


def error_responses() -> Json:
    """Give the answers that any operation may refer to."""
    return {
        error_name(status): {
            "description": ERROR_TEXTS[status],
            **({"headers": _ERROR_HEADERS[status]} if status in _ERROR_HEADERS else {}),
            "content": {
                "application/json": {
                    "schema": {"$ref": REF.format(model=ErrorBody.__name__)},
                    "example": example.body(),
                }
            },
        }
        for status, example in ERROR_EXAMPLES.items()
    }


class Schemas:
    """The schemas of all that is sent and answered, each written down once and referred to.

    Parameters
    ----------
    models
        The models, each with whether it is read (``validation``) or written (``serialization``).
    others
        More types by the names that they shall have, e.g. unions.
    """

    def __init__(self, models: Iterable[tuple[type[BaseModel], Mode]], others: Mapping[str, Any]) -> None:
        inputs: list[tuple[Any, Mode, TypeAdapter[Any]]] = [
            (model, mode, TypeAdapter(model)) for model, mode in dict.fromkeys(models)
        ]
        inputs += [(name, "serialization", TypeAdapter(type_)) for name, type_ in others.items()]
        references, defs = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=_Schemas)
        self._references: dict[Any, Json] = _plainly_named(references)
        defs = _plainly_named(defs)
        named = {name: self._references[name, "serialization"] for name in others}
        self.components: Json = describe({**defs.get("$defs", {}), **named})
        for schema in self.components.values():
            # It repeats the name, but where one model is read and written in two forms, and so has two names.
            schema.pop("title", None)

    def of(self, model: type[BaseModel], mode: Mode) -> Json:
        """Give the reference to a model's schema."""
        reference = self._references[model, mode]
        return {"$ref": reference["$ref"]}


def query_parameters(model: type[BaseModel]) -> list[Json]:
    """Give the parameters of a query. Left out, not null, is how one says nothing in a query."""
    schema = describe(model.model_json_schema(schema_generator=_Schemas))
    required = schema.get("required", [])
    parameters = []
    for name, written in schema.get("properties", {}).items():
        described = dict(written)
        if "anyOf" in described:
            (given,) = (each for each in described.pop("anyOf") if each.get("type") != "null")
            described = {**given, **described}
        if described.get("default", "") is None:
            del described["default"]
        parameter: Json = {"name": name, "in": "query", "required": name in required}
        if text := described.pop("description", None):
            parameter["description"] = text
        parameters.append({**parameter, "schema": described})
    return parameters


def _plainly_named(part: Any) -> Any:
    """Call what is sent by its own name, though it is answered in another form: no ``CrewCreate-Input``."""
    if isinstance(part, str):
        return part.removesuffix("-Input")
    if isinstance(part, list):
        return [_plainly_named(each) for each in part]
    if isinstance(part, dict):
        return {_plainly_named(key): _plainly_named(each) for key, each in part.items()}
    return part


def describe(schema: Any) -> Any:
    """Give a schema whose descriptions are Markdown."""
    if isinstance(schema, list):
        return [describe(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: markdown(value)
        if name == "description" and isinstance(value, str)
        else value
        if name in {"examples", "default", "const", "enum"}
        else describe(value)
        for name, value in schema.items()
    }


def markdown(docstring: str) -> str:
    """Make Markdown of a docstring: its paragraphs on a line each, its names between backticks."""
    text = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", inspect.cleandoc(docstring)).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
