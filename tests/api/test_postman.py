"""The Postman collection: every request, in an order in which all succeed."""

import json
import re

import httpx
import pytest

from kasal_jupyter.api.postman import LAST_FOLDER


@pytest.fixture(scope="module")
def collection(live_server):
    answer = httpx.get(f"{live_server.url}/v1/postman.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.fixture(scope="module")
def document(live_server):
    return httpx.get(f"{live_server.url}/v1/openapi.json").json()


def items(collection):
    return [item for folder in collection["item"] for item in folder["item"]]


def item(collection, name):
    (found,) = (each for each in items(collection) if each["name"] == name)
    return found


def script(item):
    (event,) = item["event"]
    assert event["listen"] == "test"
    return "\n".join(event["script"]["exec"])


def variables(collection):
    return {variable["key"]: variable["value"] for variable in collection["variable"]}


def test_every_operation_is_in_it_once(collection, document):
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters" and path != "/ws"
    }
    sent = [
        (each["request"]["method"], re.sub(r"\{\{(\w+)\}\}", r"{\1}", "/" + "/".join(url["path"])))
        for each in items(collection)
        for url in [each["request"]["url"]]
    ]
    assert sorted(sent) == sorted(described)


def test_names_are_unique(collection):
    """By its name a request is asked to be sent again."""
    names = [each["name"] for each in items(collection)]
    assert len(set(names)) == len(names)


def test_folders_are_the_references_sections(collection, document):
    tags = [tag["name"] for tag in document["tags"] if tag["name"] != "WebSocket Events"]
    assert [folder["name"] for folder in collection["item"]] == [*tags, LAST_FOLDER]
    assert collection["item"][0]["item"][0]["name"] == "Login with credentials"
    ends = [each["request"]["method"] for each in collection["item"][-1]["item"]]
    assert set(ends[:-1]) == {"DELETE"}
    assert collection["item"][-1]["item"][-1]["name"] == "Invalidate tokens"
    assert all(each["request"]["method"] != "DELETE" for each in items(collection)[: -len(ends)])


def test_every_variable_is_declared(collection):
    used = set(
        re.findall(r"\{\{([^$}]+)\}\}", json.dumps(collection["item"]) + json.dumps(collection["auth"]))
    )
    assert used == variables(collection).keys()


def test_every_id_that_is_used_is_kept_when_it_is_made(collection):
    # A call is made by an agent, not by a request; the other execution is the same.
    ids = {name for name in variables(collection) if name.endswith("_id")} - {"call_id", "other_id"}
    assert ids == {
        *("crew_id", "agent_id", "task_id", "job_id", "tool_id", "server_id"),
        *("memory_id", "source_id", "key_id", "user_id", "dataset_id", "batch_id", "schedule_id"),
    }
    kept = re.findall(r'collectionVariables\.set\("(\w+_id)"', "\n".join(map(script, items(collection))))
    assert sorted(kept) == sorted(ids)
    assert '.set("job_id", pm.response.json().job_id)' in script(item(collection, "Start crew execution"))


def test_the_login_stores_the_token(collection):
    login = item(collection, "Login with credentials")
    assert login["request"]["auth"] == {"type": "noauth"}
    assert json.loads(login["request"]["body"]["raw"]) == {"email": "{{email}}", "password": "{{password}}"}
    assert '.set("token", tokens.access_token)' in script(login)
    assert collection["auth"]["bearer"][0]["value"] == "{{token}}"


def test_bodies_and_answers_are_the_references_examples(collection):
    made = item(collection, "Create new crew")
    body = json.loads(made["request"]["body"]["raw"])
    assert body["name"] == "Marketing Crew"
    assert body["agents"][0]["model"] == "{{model}}"
    (answer,) = made["response"]
    assert (answer["code"], answer["status"]) == (201, "Created")
    assert json.loads(answer["body"]) == {
        "id": "crew_xyz789",
        "name": "Marketing Crew",
        "status": "configuring",
    }
    for each in items(collection):
        assert each["response"], each["name"]
        if each["request"].get("body", {}).get("mode") == "raw":
            json.loads(each["request"]["body"]["raw"])


def test_the_address_is_the_servers(collection, live_server):
    assert variables(collection)["baseUrl"] == f"{live_server.url}/v1"
    assert collection["info"]["schema"].endswith("/v2.1.0/collection.json")
