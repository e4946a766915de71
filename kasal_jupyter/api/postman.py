"""The Postman collection: every request with its examples, in an order in which all of them succeed.

Folders are the parts of the API in the reference's order; what ends things comes in a folder of its own, the
last. Run from top to bottom, by Postman's or Newman's collection runner, the requests log in, make things,
look at them, run a crew, and take everything away again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel

from kasal_jupyter.api.components import Json, examples_of, markdown, query_parameters
from kasal_jupyter.api.openapi import HEADER_FORMS, TAGS, Endpoint
from kasal_jupyter.api.operation import PATH_NAME

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

LAST_FOLDER = "Cleaning up"

DESCRIPTION = """\
Every request of the API. Set the variables `email` and `password` to those of an account, and send *Login
with credentials*: its token goes into all the others, and what is created puts its id into a variable.

The whole collection can be run from top to bottom, with an account whose role is `admin`: it makes a crew and
runs it with the model in the variable `model` (`sandbox` needs no key and costs nothing), and takes away all
it has made. The WebSocket `/ws` is in no collection of this version; see `/openapi.json`.
"""

VARIABLES: Mapping[str, str] = {
    "email": "user@example.com",
    "password": "secure_password",
    "token": "",
    "refresh_token": "",
    "model": "sandbox",
    "name": "calculator",
    "provider": "example-server",
    "path": "paragraph.md",
    # It comes with an event, which no answer of the collection is.
    "call_id": "call_1f6w0c2m9k3x",
    # Whatever is compared with itself does not differ.
    "other_id": "{{job_id}}",
    "version": "1",
}
"""The collection's variables besides the ids of what it makes, with what they are at first."""

BODIES: Mapping[str, Json] = {
    "login": {"email": "{{email}}", "password": "{{password}}"},
    "refresh": {"refresh_token": "{{refresh_token}}"},
    "update_me": {"current_password": "{{password}}", "password": "{{password}}"},
    # The reference's crew has no task; this one shall run.
    "create_crew": {
        "tasks": [
            {
                "description": "Write a paragraph about {topic}",
                "expected_output": "A paragraph",
                "agent": "Content Writer",
                "output_file": "paragraph.md",
            }
        ]
    },
    "update_provider": {"base_url": "https://models.example.com/v1"},
    # The crew that is run is the one that was created.
    "import_crews": {"save": False},
    "create_user": {"email": "{{$randomUUID}}@example.com"},
    "fork_execution": {"span": 1, "dry_run": True},
}
"""Where a request says something else than its example, by the operation's id: what it says instead."""

_KEEP_TOKENS = """\
const tokens = pm.response.json();
pm.collectionVariables.set("token", tokens.access_token);
pm.collectionVariables.set("refresh_token", tokens.refresh_token);"""

SCRIPTS: Mapping[str, str] = {
    "login": _KEEP_TOKENS,
    "refresh": _KEEP_TOKENS,
    "update_me": """\
// Every login has ended, this one too.
const account = {email: pm.variables.get("email"), password: pm.variables.get("password")};
pm.sendRequest({
  url: pm.variables.replaceIn("{{baseUrl}}/auth/login"),
  method: "POST",
  header: {"Content-Type": "application/json"},
  body: {mode: "raw", raw: JSON.stringify(account)},
}, (error, response) => {
  pm.test("Logged in again", () => pm.expect(error || response.code).to.equal(200));
  pm.collectionVariables.set("token", response.json().access_token);
  pm.collectionVariables.set("refresh_token", response.json().refresh_token);
});""",
    "get_execution": """\
// Ask again until it has ended: twice a second, for two minutes at the most.
const asked = Number(pm.collectionVariables.get("asked") || 0) + 1;
const status = pm.response.json().status;
if (["queued", "running", "waiting_for_input"].includes(status) && asked < 240) {
  pm.collectionVariables.set("asked", asked);
  pm.execution.setNextRequest(pm.info.requestName);
  setTimeout(() => {}, 500);
} else {
  pm.collectionVariables.unset("asked");
  pm.test("It has completed", () => pm.expect(status).to.equal("completed"));
}""",
}
"""What is done with an answer besides looking at its status, by the operation's id."""

STATUSES: Mapping[str, Sequence[int]] = {
    # It may have ended by itself.
    "stop_execution": (409,),
    # The collection's own run has completed.
    "resume_execution": (409,),
    # Whoever uses the collection chooses the file.
    "create_import_execution": (400,),
    # The collection's own batch has completed, where its events have been followed to their end.
    "pause_batch": (409,),
    "resume_batch": (409,),
    "retry_batch": (409,),
    "stop_batch": (409,),
    # The collection's own run calls no tool of a client's, and has ended.
    "answer_execution_tool_call": (404, 409),
    # Its crew names no address to be told of it at.
    "get_execution_webhooks": (404,),
    # There is none of this name until it is set.
    "get_provider": (404,),
    # A server that is not there is not registered, and the example's is nowhere.
    "create_mcp_tool": (400,),
    "get_mcp_tool": (404,),
    "update_mcp_tool": (404,),
    "delete_mcp_tool": (404,),
    "refresh_mcp_tool": (404,),
}
"""Which statuses besides those of success are right where the collection runs as it is, by the operation's
id."""


class Postman:
    """The collection, but for the server's address.

    Parameters
    ----------
    described
        All endpoints, in the reference's order.
    """

    def __init__(self, described: Sequence[Endpoint]) -> None:
        self._made = _made_ids(described)
        ending = [each for each in described if _ends_something(each)]
        folders = [
            {
                "name": tag,
                "description": text,
                "item": [self._item(each) for each in described if each.tag == tag and each not in ending],
            }
            for tag, text in TAGS.items()
        ]
        # What is in something comes behind that in the reference, and so goes before it.
        ending.sort(key=lambda each: each.method == "DELETE")
        ending.reverse()
        last = {
            "name": LAST_FOLDER,
            "description": "What ends things, the latest first, and the login at last.",
            "item": [self._item(each) for each in ending],
        }
        self.variables = {**VARIABLES, **dict.fromkeys(sorted({name for name, _ in self._made.values()}), "")}
        self.collection: Json = {
            "info": {"name": "Kasal API", "schema": SCHEMA, "description": markdown(DESCRIPTION)},
            "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
            "item": [folder for folder in [*folders, last] if folder["item"]],
        }
        self._json = orjson.dumps(self.collection)

    def to_json(self, base_url: str) -> bytes:
        """Give the collection as JSON.

        Parameters
        ----------
        base_url
            Where the API is, ``/v1`` included.
        """
        variables = [
            {"key": name, "value": value, "type": "string"}
            for name, value in {"baseUrl": base_url, **self.variables}.items()
        ]
        return b'{"variable":%b,%b' % (orjson.dumps(variables), self._json[1:])

    def _item(self, endpoint: Endpoint) -> Json:
        request = _request(endpoint)
        return {
            "name": endpoint.operation.summary,
            "event": [
                {
                    "listen": "test",
                    "script": {"type": "text/javascript", "exec": self._script(endpoint).splitlines()},
                }
            ],
            "request": request,
            "response": [
                _response(request, status, answer[0] if isinstance(answer, tuple) else answer)
                for status, answer in endpoint.operation.answers.items()
            ],
        }

    def _script(self, endpoint: Endpoint) -> str:
        statuses = [*sorted(endpoint.operation.answers), *STATUSES.get(endpoint.id, ())]
        wanted = " or ".join(map(str, statuses))
        check = f"() => pm.expect(pm.response.code).to.be.oneOf({statuses})"
        lines = [f'pm.test("The status is {wanted}", {check});']
        if made := self._made.get(endpoint.path if endpoint.method == "POST" else ""):
            lines.append(f'pm.collectionVariables.set("{made[0]}", pm.response.json().{made[1]});')
        if script := SCRIPTS.get(endpoint.id):
            lines.append(script)
        return "\n".join(lines)


def _ends_something(endpoint: Endpoint) -> bool:
    return endpoint.method == "DELETE" or endpoint.id == "logout"


def _made_ids(described: Sequence[Endpoint]) -> dict[str, tuple[str, str]]:
    """Tell what is made at a path: the name of its id in the paths of one, and in the answer."""
    made = {}
    for endpoint in described:
        model = endpoint.operation.model
        if endpoint.method == "POST" and isinstance(model, type):
            for other in described:
                if match := re.fullmatch(re.escape(endpoint.path) + r"/\{([a-z_]+)\}", other.path):
                    name = match[1]
                    made[endpoint.path] = (name, name if name in model.model_fields else "id")
    return made


def _request(endpoint: Endpoint) -> Json:
    operation = endpoint.operation
    path = PATH_NAME.sub(r"{{\1}}", endpoint.path)
    query = [
        {
            "key": each["name"],
            "value": str(each["schema"].get("default", each["schema"].get("examples", [""])[0])),
            "description": each.get("description", ""),
            "disabled": not each["required"],
        }
        for each in query_parameters(operation.query)
    ]
    request: Json = {
        "method": endpoint.method,
        "description": f"{markdown(operation.description)}\n\n{endpoint.needs}",
        "url": {
            "raw": f"{{{{baseUrl}}}}{path}",
            "host": ["{{baseUrl}}"],
            "path": path.strip("/").split("/"),
            **({"query": query} if query else {}),
        },
        "header": [
            {
                "key": name,
                "value": HEADER_FORMS[name]["examples"][0],
                "description": text,
                "disabled": True,
            }
            for name, text in operation.headers.items()
        ],
    }
    if operation.access == "anyone":
        request["auth"] = {"type": "noauth"}
    if operation.body:
        request["header"].append({"key": "Content-Type", "value": "application/json"})
        request["body"] = {
            "mode": "raw",
            "raw": _pretty(_body(endpoint, operation.body)),
            "options": {"raw": {"language": "json"}},
        }
    if operation.upload:
        request["header"].append({"key": "Content-Type", "value": operation.upload.type})
        request["body"] = {"mode": "file", "file": {"src": ""}}
    return request


def _body(endpoint: Endpoint, model: type[BaseModel]) -> Json:
    """Give a body as its example has it, with variables for what only this server knows."""
    body: Json = _with_variables({**_example(model), **BODIES.get(endpoint.id, {})})
    return body


def _with_variables(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_variables(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"{{{{{name}}}}}" if name in {"crew_id", "agent_id", "model"} else _with_variables(each)
        for name, each in value.items()
    }


def _response(request: Json, status: int, answer: Any) -> Json:
    phrase = HTTPStatus(status).phrase
    response: Json = {
        "name": f"{status} {phrase}",
        "originalRequest": request,
        "status": phrase,
        "code": status,
        "header": [],
        "cookie": [],
    }
    if isinstance(answer, type):
        response["header"] = [{"key": "Content-Type", "value": "application/json"}]
        response["body"] = _pretty(_example(answer))
        response["_postman_previewlanguage"] = "json"
    return response


def _example(model: type[BaseModel]) -> Json:
    """Give a model's example; that it has one, a test sees to."""
    return examples_of(model)[0]


def _pretty(value: Json) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
