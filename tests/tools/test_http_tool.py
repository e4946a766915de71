"""Custom tools, called as an agent calls them."""

import base64

import pytest

from kasal_jupyter.schemas.tools import FREE_PARAMETERS, RunTool
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from kasal_jupyter.tools.http_tool import MAX_CHARACTERS, http_tool
from kasal_jupyter.tools.tool import ToolContext
from tests.servers.endpoint_server import redirect, reply

SECRET = "s3cret-of-the-endpoint"


@pytest.fixture
def call(server, tmp_path):
    """Calls a tool whose endpoint is on the server."""

    def run(path="/tool", arguments=None, **fields):
        tool = http_tool(definition(server, path, **fields), HostGuard(["127.0.0.1"]))
        return tool.run(ToolContext(tmp_path), **(arguments or {}))

    return run


def definition(server, path="/tool", **fields):
    return RunTool(name="lookup", description="Looks up", endpoint=f"{server.url}{path}", **fields)


@pytest.mark.parametrize(
    ("fields", "twice"),
    [
        ({"method": "GET"}, True),
        ({"method": "POST"}, False),
        ({"method": "POST", "idempotent": True}, True),
        ({"method": "GET", "idempotent": False}, False),
    ],
)
def test_it_is_known_whether_a_call_may_be_made_twice(server, fields, twice):
    assert http_tool(definition(server, **fields), HostGuard()).idempotent({}) is twice


def parameters(*names, required=()):
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": [*required],
    }


def test_a_tool_is_as_its_definition_says(server):
    tool = http_tool(definition(server, parameters=parameters("city"), category="weather"), HostGuard())
    assert (tool.name, tool.description, tool.category) == ("lookup", "Looks up", "weather")
    assert tool.parameters == parameters("city")
    assert http_tool(definition(server), HostGuard()).parameters == FREE_PARAMETERS


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_arguments_go_into_the_body(server, call, method):
    arguments = {"city": "Köln", "days": 3, "tags": ["a", {"b": None}]}
    said = call(arguments=arguments, method=method, parameters=parameters("city", "days", "tags"))
    asked = server.asked[0]
    assert (asked.method, asked.target, asked.json()) == (method, "/tool", arguments)
    assert asked.headers["content-type"] == "application/json"
    assert '"method": "' + method in said


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_or_into_the_query(server, call, method):
    call(
        "/tool?units=metric",
        {"city": "Köln & Bonn", "days": 3, "wet": True, "tags": ["a", "b"], "at": {"x": 1}},
        method=method,
        parameters=parameters("city", "days", "wet", "tags", "at"),
    )
    asked = server.asked[0]
    assert (asked.method, asked.body) == (method, b"")
    assert asked.query == {
        "units": ["metric"],
        "city": ["Köln & Bonn"],
        "days": ["3"],
        "wet": ["true"],
        "tags": ["a", "b"],
        "at": ['{"x": 1}'],
    }


def test_what_the_query_of_the_endpoint_fixes_stays(server, call):
    call("/tool?account=42", {"input": '{"account": 43, "city": "Rome"}'}, method="GET")
    assert server.asked[0].query == {"account": ["42"], "city": ["Rome"]}


def test_or_into_the_path(server, call):
    fields = {"parameters": parameters("id", "part", "note", required=("id", "part")), "method": "PUT"}
    call("/crm/{id}/x-{part}?a=1", {"id": "7/../8?a#b%", "part": "é", "note": "n"}, **fields)
    asked = server.asked[0]
    assert asked.target == "/crm/7%2F..%2F8%3Fa%23b%25/x-%C3%A9?a=1"
    assert asked.json() == {"note": "n"}


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_no_argument_leads_to_another_path(server, call, value):
    with pytest.raises(ValueError, match="cannot stand"):
        call("/crm/{id}/secrets", {"id": value}, parameters=parameters("id", required=("id",)))
    assert server.asked == []


def test_a_missing_argument_of_the_path_is_named(server, call):
    with pytest.raises(ValueError, match="needs 'id'"):
        call("/crm/{id}", {}, parameters=parameters("id", required=("id",)))


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ({"input": "Rome"}, {"input": "Rome"}),
        ({"input": '{"city": "Rome"}'}, {"city": "Rome"}),
        ({"input": "[1]"}, {"input": "[1]"}),
        ({"input": ""}, {"input": ""}),
        ({}, {}),
    ],
)
def test_without_a_schema_a_text_or_any_object_is_sent(server, call, arguments, sent):
    call(arguments=arguments)
    assert server.asked[0].json() == sent


def test_a_parameter_may_have_any_name(server, call):
    names = ("context", "function", "name", "schema")
    call(arguments=dict.fromkeys(names, "x"), parameters=parameters(*names))
    assert server.asked[0].json() == dict.fromkeys(names, "x")


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"auth_type": "bearer"}, ("authorization", f"Bearer {SECRET}")),
        ({"auth_type": "api_key"}, ("x-api-key", SECRET)),
        ({"auth_type": "api_key", "header": "X-Token"}, ("x-token", SECRET)),
        (
            {"auth_type": "basic", "username": "ada"},
            ("authorization", f"Basic {base64.b64encode(f'ada:{SECRET}'.encode()).decode()}"),
        ),
    ],
)
def test_the_secret_goes_to_the_endpoint_and_nowhere_else(server, elsewhere, call, fields, sent):
    header, value = sent
    server.replies["/tool"] = redirect(f"{elsewhere.url}/end", 307)
    elsewhere.replies["/end"] = lambda handler, asked: reply(str(asked))(handler, asked)
    said = call(secret=SECRET, **fields)
    assert server.asked[0].headers[header] == value
    assert SECRET not in said
    assert value not in said
    assert header not in elsewhere.asked[0].headers


@pytest.mark.parametrize("fields", [{"auth_type": "bearer"}, {"auth_type": "basic", "username": "ada"}])
@pytest.mark.parametrize("status", [200, 401])
def test_an_endpoint_that_repeats_the_secret_does_not_tell_the_model(server, call, fields, status):
    server.replies["/tool"] = lambda handler, asked: reply(
        f"You are {asked.headers['authorization']}, password {SECRET}", status
    )(handler, asked)
    if status == 200:
        said = call(secret=SECRET, **fields)
    else:
        with pytest.raises(ValueError, match="401") as caught:
            call(secret=SECRET, **fields)
        said = str(caught.value)
    assert said.endswith("[secret], password [secret]")


def test_a_secret_is_not_in_what_is_printed(server):
    tool = definition(server, auth_type="basic", username="ada", secret=SECRET)
    assert SECRET not in repr(tool)
    assert SECRET not in repr(http_tool(tool, HostGuard()))
    assert tool.secrets() == [SECRET]
    assert definition(server).secrets() == []


def test_no_secret_is_sent_without_auth(server, call):
    call()
    assert not {"authorization", "x-api-key", "cookie"} & server.asked[0].headers.keys()


@pytest.mark.parametrize("status", [400, 404, 500, 304])
def test_a_refusal_is_an_error_for_the_agent(server, call, status):
    server.replies["/tool"] = reply("no such city\n" + "x" * 10_000, status)
    with pytest.raises(ValueError, match=f"^lookup answered {status} ") as caught:
        call()
    assert len(str(caught.value)) < 600


def test_a_long_answer_is_cut_and_says_so(server, call):
    server.replies["/tool"] = reply("é" * (MAX_CHARACTERS + 1))
    said = call()
    assert said.startswith("é" * MAX_CHARACTERS + "\n[")
    assert said.endswith("this is its beginning.]")
    server.replies["/tool"] = reply("é" * MAX_CHARACTERS)
    assert call() == "é" * MAX_CHARACTERS


def test_an_answer_without_text_is_described(server, call):
    server.replies["/tool"] = reply(b"", 204, content_type=None)
    assert call() == "[Nothing; the status is 204 No Content.]"
    server.replies["/tool"] = reply(b"\x89PNG", content_type="image/png")
    assert call() == "[4 bytes of image/png, which is no text.]"


def test_where_a_tool_may_not_call_is_an_error_for_the_agent(server, tmp_path):
    with pytest.raises(HostRefused, match="this machine"):
        http_tool(definition(server), HostGuard()).run(ToolContext(tmp_path))
    assert server.asked == []
