"""The OpenAPI document: everything that is served, and nothing else."""

import re

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import Operation, operation_of
from kasal_jupyter.api.routes import RESOURCES, served
from tests.accounts import log_in
from tests.sample_crews import crew_body, run

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def document(live_server):
    answer = httpx.get(f"{live_server.url}/v1/openapi.json", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def operations(document):
    return {
        (path, method): item[method]
        for path, item in document["paths"].items()
        for method in METHODS & item.keys()
    }


def schema_of(document, name):
    """Give a schema that can be used by itself."""
    return {
        "$ref": f"#/components/schemas/{name}",
        "components": {"schemas": document["components"]["schemas"]},
    }


def declared():
    return {
        (path, method.lower()): (handler, operation_of(handler, method))
        for path, handler in RESOURCES
        for method in handler.methods()
    }


def test_it_is_valid(document):
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_method_of_every_route_is_in_it(document):
    assert operations(document).keys() == {*declared(), ("/ws", "get")}
    for path, handler in RESOURCES:
        assert handler.methods(), f"{path} has no operation"


def test_nothing_else_is_served(document):
    templates = {template for template, _, _ in served()}
    # The files of the page, and what answers for paths that are nothing.
    assert templates - {"/docs/{file}", "other"} == document["paths"].keys()


def test_every_method_of_a_handler_is_an_operation():
    """A method without the decorator would be served, and in no description."""
    for path, handler in RESOURCES:
        for method in METHODS:
            own = getattr(handler, method) is not getattr(ApiHandler, method)
            assert own == isinstance(operation_of(handler, method), Operation), f"{method} {path}"


def test_every_operation_says_what_it_is(document):
    identifiers = set()
    known = {tag["name"] for tag in document["tags"]}
    for where, operation in operations(document).items():
        assert operation["summary"], where
        described = declared()[where][1].description if where in declared() else operation["description"]
        assert len(described) > 10, f"{where} has no description"
        assert len(operation["tags"]) == 1, where
        assert set(operation["tags"]) <= known, where
        assert re.fullmatch(r"[a-z][a-z_]+", operation["operationId"]), where
        identifiers.add(operation["operationId"])
    assert len(identifiers) == len(operations(document))
    assert all(tag["description"] for tag in document["tags"])


def test_parameters_are_described_and_never_null(document):
    for where, operation in operations(document).items():
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"]), (where, parameter["name"])
            assert "anyOf" not in parameter["schema"], (where, parameter["name"])
        named = set(re.findall(r"\{(\w+)\}", where[0]))
        assert {each["name"] for each in document["paths"][where[0]].get("parameters", [])} == named
    listed = operations(document)["/crews", "get"]["parameters"]
    assert {each["name"] for each in listed} == {"page", "per_page", "search", "sort", "name"}
    deleted = operations(document)["/crews/{crew_id}", "delete"]["parameters"]
    assert [(each["in"], each["name"]) for each in deleted] == [("header", "If-Match")]


def test_answers_are_those_that_are_declared(document):
    described = operations(document)
    for where, (_, operation) in declared().items():
        answers = described[where]["responses"]
        assert {str(status) for status in operation.answers} <= answers.keys(), where
        assert {str(status) for status in operation.errors} <= answers.keys(), where
        assert ("401" in answers) or operation.access == "anyone", where
        assert ("503" in answers) or operation.in_maintenance or operation.access == "anyone", where
        takes = operation.body is not None or operation.upload is not None
        assert ("requestBody" in described[where]) == takes, where
    assert "content" not in described["/crews/{crew_id}", "delete"]["responses"]["204"]
    assert "content" not in described["/crews/{crew_id}", "get"]["responses"]["304"]
    assert "ETag" in described["/crews/{crew_id}", "get"]["responses"]["304"]["headers"]
    traces = described["/executions/{job_id}/traces", "get"]["responses"]["200"]["content"]
    assert traces.keys() == {"application/json", "text/event-stream"}
    assert described["/auth/login", "post"]["security"] == []
    refused = document["components"]["responses"]
    assert refused["TooManyRequests"]["headers"].keys() >= {"Retry-After", "X-RateLimit-Reset"}
    assert "WWW-Authenticate" in refused["Unauthorized"]["headers"]


def test_every_schema_takes_its_own_examples(document):
    seen = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            jsonschema.validate(example, schema_of(document, name))
            seen += 1
    assert seen > 20


def test_everything_taken_and_answered_has_an_example(document):
    components = document["components"]["schemas"]
    for where, operation in operations(document).items():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (each.get("content", {}).get("application/json") for each in contents):
            if content and "$ref" in content["schema"]:
                name = content["schema"]["$ref"].rpartition("/")[2]
                assert components[name].get("examples"), f"{where}: {name} has no example"


def test_an_answer_is_as_its_schema_says(document, live_server):
    with log_in(live_server, "editor") as client:
        crew_id, execution = run(client, crew_body("Described Crew"))
        job = f"/executions/{execution['job_id']}"
        answers = {
            "/crews/{crew_id}": client.get(f"/crews/{crew_id}"),
            "/executions/{job_id}": client.get(job),
            "/executions/{job_id}/traces": client.get(f"{job}/traces"),
            "/executions/{job_id}/events": client.get(f"{job}/events"),
        }
    for path, answer in answers.items():
        content = operations(document)[path, "get"]["responses"]["200"]["content"]["application/json"]
        jsonschema.validate(answer.json(), schema_of(document, content["schema"]["$ref"].rpartition("/")[2]))
    assert len(answers["/executions/{job_id}/events"].json()["events"]) > 10


def test_errors_are_as_their_schema_says(document, live_server):
    with live_server.client() as client:
        refused = [
            client.get("/crews/crew_unknown"),
            client.post("/crews", json={"name": "", "proces": "sequential"}),
            client.get("/crews", params={"page": 0}),
            client.patch("/crews"),
        ]
    assert [answer.status_code for answer in refused] == [404, 400, 400, 405]
    for answer in refused:
        jsonschema.validate(answer.json(), schema_of(document, "ErrorBody"))
    assert refused[3].headers["allow"] == "GET, POST"


def test_the_address_is_the_one_it_was_asked_at(document, live_server):
    assert document["servers"] == [{"url": "/a%40b/v1"}]
    base = httpx.URL(f"{live_server.url}/v1/openapi.json").join(document["servers"][0]["url"])
    assert httpx.get(f"{base}/health").json()["status"] == "ok"


def test_the_websocket_is_described(document):
    described = operations(document)["/ws", "get"]
    assert "101" in described["responses"]
    assert "subscribe" in described["description"]
    for reference in (*described["x-websocket"]["client"], *described["x-websocket"]["server"]):
        assert reference["$ref"].rpartition("/")[2] in document["components"]["schemas"]
