"""The OpenAPI document, made from what the handlers declare and the schemas they work with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from pydantic import BaseModel

from kasal_jupyter.api.components import (
    RATE_HEADERS,
    REF,
    SECURITY,
    Json,
    Mode,
    Schemas,
    error_name,
    error_responses,
    markdown,
    query_parameters,
)
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import PATH_NAME, Answer, Media, Operation, operation_of
from kasal_jupyter.api.websocket import AuthMessage, SubscribeMessage
from kasal_jupyter.events.event import Event
from kasal_jupyter.schemas.server import ErrorBody
from kasal_jupyter.version import __version__

INTRODUCTION = """\
Crews of agents on CrewAI, served by the Jupyter server: define them, run them, watch what they do.

**Who asks.** Log in with `POST /auth/login` and send the access token as `Authorization: Bearer …`, or use
an API key of `POST /auth/keys`. Whoever the Jupyter server itself has let in needs no second login.

**Lists** answer a page: `page` counts from 1, `per_page` says how long one is, `total` how many there are;
`search` and `sort` work on every list.

**Errors** have one form, see `ErrorBody`. Besides those an operation names, a path that is nothing is
answered with 404, and a method that a resource does not have with 405 and `Allow`.

**Requests.** Unknown fields and unknown parameters are errors. A body is 2 MiB at the most, where the
server's `max_body_bytes` says nothing else. `HEAD` is served where `GET` is.
"""

TAGS: Mapping[str, str] = {
    "Authentication Endpoints": "Log in, refresh and end logins; who one is; API keys.",
    "Crew Management": "Crews: agents and tasks that belong together.",
    "Agent Management": "The agents of crews.",
    "Execution Management": "Run crews, and see what they did.",
    "Evaluation": "What people make of executions, and the datasets that crews are compared on.",
    "Schedules": "Crews that are run by the clock.",
    "Batches": "Run a crew over many rows.",
    "Usage and Cost": "Who used what, when, and what it cost.",
    "Task Management": "The tasks of crews.",
    "Tool Management": "Built-in tools, and HTTP endpoints as tools.",
    "Model Management": "What agents think with, and what it costs.",
    "Memory Management": "What crews remember.",
    "Knowledge": "Files and texts that crews can look things up in.",
    "WebSocket Events": "What happens in executions, as it happens.",
    "Testing": "This document, its page, and the Postman collection.",
    "Administration": "Users, and the server as a whole.",
}
"""What the parts of the API are about, in the reference's order."""

HEADER_FORMS: Mapping[str, Json] = {
    "If-Match": {"pattern": r'^("[0-9]{1,18}"|\*)$', "examples": ['"3"']},
    "If-None-Match": {"examples": ['"3"']},
    "Idempotency-Key": {
        "pattern": r"^[!-~]{1,200}$",
        "examples": ["0b9a3c1e-8a64-4d0e-9d0b-6a2f3a5f7c11"],
    },
    "Last-Event-ID": {"pattern": "^[0-9]{0,12}$", "examples": ["17"]},
}
"""What the request headers look like."""

WEBSOCKET = """\
Follow executions as they happen. A token comes with the request (header or `token`), or as the first
message, within 10 seconds, from those who cannot send one with it.

Messages are JSON objects in text frames. The client sends `auth`, `subscribe` and `unsubscribe`; `after` is
the `seq` of the last event already known, so that nothing is missed and nothing comes twice after a
reconnection. The server sends the events of the executions subscribed to, in order, from the first one behind
`after`; `{"type": "authenticated", "name": …}` in answer to `auth`; and `{"type": "error", "code": …,
"message": …, "details": …, "job_id": …}`, which has no `seq`, in answer to a message that is wrong.

The connection is closed with 4401 where no valid token comes, or it counts no longer, and with 4008 where the
client stops reading: connect again, and subscribe with `after`.
"""


class OpenApi:
    """The document, but for the servers' addresses.

    Parameters
    ----------
    resources
        The resources by the templates of their paths, in the order they shall have.
    """

    def __init__(self, resources: Resources) -> None:
        self.endpoints = list(endpoints(resources))
        self._schemas = Schemas(models_of(self.endpoints), {"Event": Event})
        self.document: Json = {
            "openapi": "3.1.0",
            "info": {"title": "Kasal API", "version": __version__, "description": INTRODUCTION},
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "security": [{name: []} for name in SECURITY],
            "paths": self._paths(),
            "components": {
                "schemas": self._schemas.components,
                "responses": error_responses(),
                "securitySchemes": SECURITY,
            },
        }
        self._json = orjson.dumps(self.document)

    def to_json(self, server: str) -> bytes:
        """Give the document as JSON.

        Parameters
        ----------
        server
            Where the API is: its address, or its path on the server that the document comes from.
        """
        return b'{"servers":%b,%b' % (orjson.dumps([{"url": server}]), self._json[1:])

    def _paths(self) -> Json:
        paths: Json = {}
        for endpoint in self.endpoints:
            item = paths.setdefault(endpoint.path, {})
            if endpoint.path_names and not item:
                item["parameters"] = [
                    {
                        "name": name,
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1, "examples": [ID_EXAMPLES[name]]},
                    }
                    for name in endpoint.path_names
                ]
            item[endpoint.method.lower()] = self._operation(endpoint)
        paths["/ws"] = {"get": self._websocket()}
        return paths

    def _operation(self, endpoint: Endpoint) -> Json:
        operation = endpoint.operation
        written: Json = {
            "operationId": endpoint.id,
            "tags": [endpoint.tag],
            "summary": operation.summary,
            "description": f"{markdown(operation.description)}\n\n{endpoint.needs}",
        }
        parameters = query_parameters(operation.query) + [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": text,
                "schema": {"type": "string", **HEADER_FORMS[name]},
            }
            for name, text in operation.headers.items()
        ]
        if parameters:
            written["parameters"] = parameters
        if operation.body:
            written["requestBody"] = {
                "required": True,
                "content": {
                    "application/json": {"schema": self._schemas.of(operation.body, "validation")},
                    **{name: each for file in operation.files for name, each in self._content(file).items()},
                },
            }
        if operation.upload:
            written["requestBody"] = {"required": True, "content": self._content(operation.upload)}
        written["responses"] = self._responses(endpoint)
        if operation.access == "anyone":
            written["security"] = []
        return written

    def _responses(self, endpoint: Endpoint) -> Json:
        operation = endpoint.operation
        responses: Json = {}
        for status, answer in operation.answers.items():
            response: Json = {"description": HTTPStatus(status).phrase}
            headers = _headers(operation, status)
            if headers:
                response["headers"] = headers
            if content := self._content(answer):
                response["content"] = content
            responses[str(status)] = response
        for status in endpoint.errors:
            responses[str(status)] = {"$ref": f"#/components/responses/{error_name(status)}"}
        return responses

    def _content(self, answer: Answer) -> Json:
        if answer is None:
            return {}
        if isinstance(answer, Media):
            kind = "object" if re.search("json|yaml|event-stream", answer.type) else "string"
            return {answer.type: {"schema": {"type": kind, "description": answer.description}}}
        if isinstance(answer, tuple):
            content: Json = {}
            for each in answer:
                content |= self._content(each)
            return content
        return {"application/json": {"schema": self._schemas.of(answer, "serialization")}}

    def _websocket(self) -> Json:
        messages = [self._schemas.of(model, "validation") for model in (AuthMessage, SubscribeMessage)]
        return {
            "operationId": "open_websocket",
            "tags": ["WebSocket Events"],
            "summary": "Follow executions over a WebSocket",
            "description": WEBSOCKET,
            "security": [*({name: []} for name in SECURITY), {}],
            "responses": {
                "101": {"description": "The connection is a WebSocket from here on."},
                **{
                    str(status): {"$ref": f"#/components/responses/{error_name(status)}"}
                    for status in (400, 401, 403, 429, 500, 503)
                },
            },
            "x-websocket": {"client": messages, "server": [{"$ref": REF.format(model="Event")}]},
        }


def models_of(described: Iterable[Endpoint]) -> Iterator[tuple[type[BaseModel], Mode]]:
    """Give the models that the operations take and answer with."""
    for endpoint in described:
        if body := endpoint.operation.body:
            yield body, "validation"
        for answer in endpoint.operation.answers.values():
            model = answer[0] if isinstance(answer, tuple) else answer
            if isinstance(model, type):
                yield model, "serialization"
    yield ErrorBody, "validation"
    yield AuthMessage, "validation"
    yield SubscribeMessage, "validation"


def _headers(operation: Operation, status: int) -> Json:
    headers: Json = {} if operation.access == "anyone" else dict(RATE_HEADERS)
    for name, text in operation.answer_headers.items():
        if status != 204:
            headers[name] = {"description": text, "schema": {"type": "string"}}
    return headers


# Endpoints: every method of every resource, as what is said about the API goes through them.

Resources = Sequence[tuple[str, type[ApiHandler]]]
"""Handlers by the templates of their paths."""

ID_EXAMPLES: Mapping[str, str] = {
    "dataset_id": "dataset_4t9k2m0x7q1z",
    "schedule_id": "schedule_4t9k2m0x7q1z",
    "crew_id": "crew_abc123",
    "version": "3",
    "agent_id": "agent_001",
    "job_id": "job_qwerty123",
    "batch_id": "batch_4t9k2m0x7q1z",
    "other_id": "job_asdfgh456",
    "task_id": "task_001",
    "call_id": "call_1f6w0c2m9k3x",
    "user_id": "user_4t9k2m0x7q1z",
    "key_id": "key_4t9k2m0x7q1z",
    "tool_id": "tool_custom_001",
    "server_id": "mcp_4t9k2m0x7q1z",
    "memory_id": "mem_4t9k2m0x7q1z",
    "source_id": "source_4t9k2m0x7q1z",
    "name": "web_search",
    "provider": "openai",
    "path": "report.md",
}
"""A value for each name in the paths' templates, the reference's where it has one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one resource, with all that is said of it.

    Attributes
    ----------
    path
        The template of its path.
    method
        In capitals.
    tag
        The part of the API it belongs to.
    operation
        What it takes, answers and requires.
    """

    path: str
    method: str
    tag: str
    operation: Operation

    @property
    def id(self) -> str:
        """Its name for programs, e.g. ``list_crews``, ``get_crew``, ``stop_execution``."""
        parts = [part.removesuffix(".json") for part in self.path.strip("/").split("/") if part != "auth"]
        words: list[str] = []
        for part, before in zip(parts, ["{", *parts], strict=False):
            if part.startswith("{") and before.startswith("{") and words:
                # Two ids in a row: /memory/{crew_id}/{memory_id} is one of its entries.
                words.append("entry")
            elif part.startswith("{"):
                words[-1] = _one_of(words[-1])
            elif before.startswith("{"):
                words.append(part)
            else:
                # Two words without an id between them: /tools/custom holds custom tools.
                words[-1] = f"{part}_{words[-1]}"
        model = self.operation.model
        # One thing may be paged, too: a source of knowledge with its passages.
        lists = isinstance(model, type) and "per_page" in model.model_fields and not self.path.endswith("}")
        match self.method:
            case "GET":
                verb = "list" if lists else "get"
            case "POST" if self.operation.answers.keys() == {201} or self.path.count("/") == 1:
                verb = "create"
                words[-1] = _one_of(words[-1])
            case "POST" if self.path.endswith("}"):
                # What waits for one answer.
                verb = "answer"
            case "POST":
                verb = words.pop()
            case "PUT":
                verb = "update"
            case _:
                verb = self.method.lower()
        return "_".join([verb, *words])

    @property
    def path_names(self) -> list[str]:
        """The names in its path."""
        return PATH_NAME.findall(self.path)

    @property
    def errors(self) -> list[int]:
        """The statuses it may be refused with."""
        operation = self.operation
        statuses = {*operation.errors, 500}
        if operation.body or operation.upload or operation.query.model_fields or operation.headers:
            statuses.add(400)
        if operation.access != "anyone":
            statuses |= {401, 403, 429}
            if not operation.in_maintenance:
                statuses.add(503)
        return sorted(statuses)

    @property
    def needs(self) -> str:
        """Who may call it, and when, as a sentence."""
        match self.operation.access:
            case "anyone":
                needs = "Needs no token"
            case "viewer":
                needs = "Needs a token"
            case role:
                needs = f"Needs the role `{role}`" + (" or `admin`" if role == "editor" else "")
        return f"{needs}{'; served in maintenance mode, too' if self.operation.in_maintenance else ''}."


def _one_of(words: str) -> str:
    """Give the name of one of several things."""
    return words.removesuffix("es" if words.endswith("ches") else "s")


def endpoints(resources: Resources) -> Iterator[Endpoint]:
    """Give every method of every resource, in the reference's order."""
    for path, handler in resources:
        for method in handler.methods():
            if operation := operation_of(handler, method):
                yield Endpoint(path, method, handler.tag, operation)
