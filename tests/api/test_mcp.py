"""MCP servers over the API, from registration to the run that uses them."""

import json

import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, start, wait_for
from tests.servers.endpoint_server import endpoint_server, redirect, reply
from tests.servers.mcp_server import McpNotes, http_mcp_server, stdio

SECRET = "s3cret-of-the-mcp-server"

names = iter(f"server{number}" for number in range(1_000))


@pytest.fixture
def notes(tmp_path):
    return McpNotes(tmp_path / "notes")


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The server on loopback."""
    with http_mcp_server(tmp_path_factory.mktemp("web") / "notes") as running:
        yield running


@pytest.fixture
def editor(live_server):
    """A user who is no admin."""
    with log_in(live_server) as client:
        yield client


def http(web, **fields):
    """A body of the server on loopback, with a name that is free."""
    return {"name": next(names), "transport": "http", "url": web.url, **fields}


def register(api, body):
    answer = api.post("/tools/mcp", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["server_id"]


def fault(answer, status=400):
    """Give the field that a refusal blames, and why."""
    assert answer.status_code == status, answer.text
    details = answer.json()["error"]["details"]
    return details["field"], details["reason"]


def test_a_server_is_registered_and_its_tools_join_the_catalogue(api, notes):
    body = {"name": "calc", "description": "Numbers", "tools": ["add", "process"], **stdio(notes.path)}
    answer = api.post("/tools/mcp", json=body)
    assert answer.status_code == 201, answer.text
    server_id = answer.json()["server_id"]
    assert answer.json() == {
        "server_id": server_id,
        "status": "registered",
        "tools": ["calc_add", "calc_process"],
        "left_out": [],
    }
    listed = {tool["name"]: tool for tool in api.get("/tools?category=mcp&search=add two").json()["tools"]}
    assert listed["calc_add"]["description"] == "Add two numbers."
    assert listed["calc_add"]["parameters"]["required"] == ["a", "b"]
    assert (listed["calc_add"]["custom"], listed["calc_add"]["server_id"]) == (False, server_id)
    assert api.get("/tools/calc_add").json() == listed["calc_add"]
    details = api.get(f"/tools/mcp/{server_id}").json()
    assert details["version"].startswith("friendly ")
    assert details["selected"] == ["add", "process"]
    assert details["command"] == body["command"]
    assert details in api.get("/tools/mcp?search=NUMBERS").json()["servers"]
    assert api.delete(f"/tools/mcp/{server_id}").status_code == 204
    assert api.get(f"/tools/mcp/{server_id}").status_code == 404
    assert api.get("/tools/calc_add").status_code == 404


def test_a_crew_uses_its_tools(api, web):
    server_id = register(api, http(web, name="used", headers={"Authorization": f"Bearer {SECRET}"}))
    body = crew_body("With MCP")
    body["agents"][0]["tools"] = ["used_add", "used_headers"]
    body["tasks"][1]["tools"] = ["used_process"]
    crew_id = new_crew(api, body)
    looked_at = len(web.notes.lines("session"))
    job_id = start(api, crew_id)
    assert wait_for(api, job_id)["status"] == "completed"
    assert len(web.notes.lines("session")) == looked_at + 1
    events = api.get(f"/executions/{job_id}/events").text
    assert "used_process" in events
    assert "authorization" in events
    assert SECRET not in events
    # Kept while they are used, and a crew without them cannot run.
    refused = api.delete(f"/tools/mcp/{server_id}")
    assert refused.status_code == 409
    assert "agent 'Researcher'" in refused.json()["error"]["message"]
    assert api.put(f"/tools/mcp/{server_id}", json={"name": "other"}).status_code == 409
    assert api.put(f"/tools/mcp/{server_id}", json={"tools": ["add"]}).status_code == 409
    assert api.delete(f"/tools/mcp/{server_id}?force=true").status_code == 204
    checked = api.post(f"/crews/{crew_id}/check", json={"inputs": {"topic": "tea"}}).json()
    assert [each["field"] for each in checked["faults"]] == [
        "agents[0].tools[0]",
        "agents[0].tools[1]",
        "tasks[1].tools[0]",
    ]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"transport": "stdio", "command": "no-such-program"}, "command", "There is no program"),
        ({"transport": "stdio", "command": "false"}, "command", "has ended without a word of MCP"),
        ({"transport": "http", "url": "http://127.0.0.1:9/mcp"}, "url", "The connection to 127.0.0.1 failed"),
        ({"transport": "http", "url": "http://no-such-host.invalid/mcp"}, "url", "no public host"),
        ({"transport": "http"}, "body", "transport http needs url"),
        ({"transport": "stdio", "command": "true", "url": "http://a.example/"}, "body", "has no url"),
        ({"transport": "http", "url": "ftp://a.example/"}, "url", "http://"),
        ({"transport": "http", "url": "http://a.example/", "headers": {"Host": "b"}}, "headers", "header"),
        (
            {"transport": "http", "url": "http://a.example/", "headers": {"Mcp-Session-Id": "b"}},
            "headers",
            "protocol",
        ),
    ],
)
def test_what_cannot_be_reached_is_not_registered(api, fields, field, words):
    before = api.get("/tools/mcp").json()["total"]
    blamed, reason = fault(api.post("/tools/mcp", json={"name": next(names), **fields}))
    assert blamed.startswith(field)
    assert words in reason
    assert api.get("/tools/mcp").json()["total"] == before


def test_the_last_words_of_a_program_are_told_without_its_secrets(api):
    script = "import os, sys; sys.exit('bad token ' + os.environ['API_TOKEN'])"
    body = {"transport": "stdio", "command": "python3", "args": ["-c", script], "env": {"API_TOKEN": SECRET}}
    field, reason = fault(api.post("/tools/mcp", json={"name": next(names), **body}))
    assert (field, "bad token [secret]" in reason) == ("command", True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<html>", content_type="text/html"), "is no MCP server"),
        (reply("no", 403), "answers 403 Forbidden"),
        (redirect("http://169.254.169.254/latest/", 307), "redirects to 169.254.169.254"),
    ],
)
def test_nor_is_what_is_no_mcp_server(api, answer, words):
    with endpoint_server() as server:
        server.replies["/mcp"] = answer
        body = {"name": next(names), "transport": "http", "url": f"{server.url}/mcp"}
        field, reason = fault(api.post("/tools/mcp", json=body))
    assert field == "url"
    assert words in reason


def test_programs_this_machine_and_sharing_are_for_admins(api, editor, web, notes):
    body = {"name": "mine", **stdio(notes.path)}
    refused = editor.post("/tools/mcp", json=body)
    assert refused.status_code == 403
    assert "only an admin" in refused.json()["error"]["message"]
    assert notes.lines("process") == []
    assert editor.post("/tools/mcp", json=http(web, shared=True)).status_code == 403
    field, reason = fault(editor.post("/tools/mcp", json=http(web)))
    assert (field, "127.0.0.1 is this machine" in reason) == ("url", True)
    # An admin's may be anywhere, and is nobody else's unless it is shared.
    body = http(web, tools=["add"], headers={"X-Team": SECRET})
    server_id = register(api, body)
    tool = f"{body['name']}_add"
    assert editor.get(f"/tools/mcp/{server_id}").status_code == 404
    assert editor.get(f"/tools/{tool}").status_code == 404
    assert api.put(f"/tools/mcp/{server_id}", json={"shared": True}).status_code == 200
    shown = editor.get(f"/tools/mcp/{server_id}").json()
    assert (shown["url"], shown["headers"], shown["shared"]) == (None, [], True)
    assert [each["name"] for each in shown["tools"]] == [tool]
    for answer in (
        editor.put(f"/tools/mcp/{server_id}", json={"timeout": 5}),
        editor.delete(f"/tools/mcp/{server_id}"),
        editor.post(f"/tools/mcp/{server_id}/refresh"),
    ):
        assert answer.status_code == 404
    crew = crew_body("Shared MCP")
    crew["agents"][0]["tools"] = [tool]
    job_id = start(editor, new_crew(editor, crew))
    assert wait_for(editor, job_id)["status"] == "completed"
    assert "tool_failed" not in editor.get(f"/executions/{job_id}/events").text
    # It is used by somebody whose crews are not the admin's to see named here.
    for answer in (
        api.delete(f"/tools/mcp/{server_id}"),
        api.put(f"/tools/mcp/{server_id}", json={"shared": False}),
    ):
        assert answer.status_code == 409
        assert "1 agents or tasks of other users" in answer.json()["error"]["message"]
    assert api.delete(f"/tools/mcp/{server_id}?force=true").status_code == 204


def test_whoever_may_start_programs_no_more_has_none_started(live_server, api, notes):
    with log_in(live_server, role="admin") as admin:
        register(admin, {"name": "once", **stdio(notes.path), "tools": ["add"]})
        crew = crew_body("Of an admin")
        crew["agents"][0]["tools"] = ["once_add"]
        crew_id = new_crew(admin, crew)
        path = f"/crews/{crew_id}/check"
        assert admin.post(path, json={"inputs": {"topic": "tea"}}).json()["faults"] == []
        me = admin.get("/auth/me").json()
        assert api.put(f"/users/{me['id']}", json={"role": "editor"}).status_code == 200
        (error,) = admin.post(path, json={"inputs": {"topic": "tea"}}).json()["faults"]
        assert "may start no programs any more" in error["reason"]
        tool = admin.get("/tools/once_add").json()
        assert (tool["available"], "any more" in tool["reason"]) == (False, True)


def test_secrets_are_never_given_out(api, live_server, web):
    body = http(web, headers={"Authorization": f"Bearer {SECRET}"}, tools=["add"])
    body["url"] += f"?api_key={SECRET}-too"
    server_id = register(api, body)
    answers = [
        api.get("/tools/mcp"),
        api.get(f"/tools/mcp/{server_id}"),
        api.put(f"/tools/mcp/{server_id}", json={"timeout": 5}),
        api.post(f"/tools/mcp/{server_id}/refresh"),
        api.put(f"/tools/mcp/{server_id}", json={"headers": {"X-A": f"{SECRET}\n"}}),
        api.put(f"/tools/mcp/{server_id}", json={"url": f"{web.url}x?api_key={SECRET}-too"}),
        api.post("/tools/mcp", json={**body, "name": "UPPER"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 400, 400]
    assert all(SECRET not in answer.text for answer in answers)
    shown = api.get(f"/tools/mcp/{server_id}").json()
    assert (shown["url"], shown["headers"], shown["timeout"]) == (web.url, ["Authorization"], 5)
    for file in live_server.folder.glob("kasal.db*"):
        assert SECRET.encode() not in file.read_bytes()
    assert SECRET not in live_server.log.read_text()
    # Entrusted for that host, they are not sent to another.
    with endpoint_server() as other:
        field, reason = fault(api.put(f"/tools/mcp/{server_id}", json={"url": f"{other.url}/mcp"}))
        assert (field, "for another host" in reason) == ("url", True)
        assert other.asked == []


def test_tools_are_listed_anew_and_keep_their_names(api, web):
    extra = web.notes.path.with_suffix(".extra")
    one = {"name": "extraOne", "description": "The first", "inputSchema": {"type": "object"}}
    extra.write_text(json.dumps([one]))
    server_id = register(api, http(web, name="fresh", tools=["extraOne", "extra-two", "add"]))
    assert api.get("/tools/fresh_extra_one").json()["description"] == "The first"
    extra.write_text(json.dumps([{**one, "description": "The first, changed"}]))
    found = api.post(f"/tools/mcp/{server_id}/refresh").json()
    assert (found["added"], found["removed"], found["changed"]) == ([], [], ["fresh_extra_one"])
    # Two that would be called the same: the one that was there keeps its name.
    extra.write_text(json.dumps([{**one, "name": "extra_one"}, {**one, "name": "extraOne"}]))
    assert api.put(f"/tools/mcp/{server_id}", json={"tools": None}).json()["updated"]
    names_of = {
        tool["remote_name"]: tool["name"] for tool in api.get(f"/tools/mcp/{server_id}").json()["tools"]
    }
    assert names_of["extraOne"] == "fresh_extra_one"
    assert names_of["extra_one"].startswith("fresh_extra_one_")
    extra.unlink()
    found = api.post(f"/tools/mcp/{server_id}/refresh").json()
    assert sorted(found["removed"]) == sorted([names_of["extraOne"], names_of["extra_one"]])


def test_names_that_are_taken(api, web):
    body = http(web, tools=["add"])
    register(api, body)
    assert fault(api.post("/tools/mcp", json=body), 409)[0] == "name"
    same = {"name": f"{body['name']}_add", "description": "Adds", "endpoint": "https://api.example.com/"}
    assert fault(api.post("/tools/custom", json=same), 409)[0] == "name"
    # Two ways to the same tool's name.
    custom = {"name": "twofold_add", "description": "Adds", "endpoint": "https://api.example.com/"}
    assert api.post("/tools/custom", json=custom).status_code == 201
    field, reason = fault(api.post("/tools/mcp", json=http(web, name="twofold", tools=["add"])), 409)
    assert (field, "'twofold_add' would be called like a custom tool" in reason) == ("name", True)
    field, reason = fault(api.post("/tools/mcp", json=http(web, tools=["subtract"])))
    assert field == "tools"
    assert "it has add, process" in reason


def test_hostile_names_and_schemas_are_made_harmless_or_left_out(api, notes):
    answer = api.post("/tools/mcp", json={"name": "hostile", **stdio(notes.path, "hostile")})
    assert answer.status_code == 201, answer.text
    tools = answer.json()["tools"]
    assert len(set(tools)) == len(tools) == 7
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() and name.isascii() for name in tools)
    left_out = {each["remote_name"]: each["reason"] for each in answer.json()["left_out"]}
    assert set(left_out) == {"abroad", "listed", "enormous", "myself", "either"}
    assert "may refer to its own parts only" in left_out["abroad"]
    # Names stay as they are, whatever else comes and goes.
    again = api.post(f"/tools/mcp/{answer.json()['server_id']}/refresh").json()
    assert again["tools"] == tools


def test_an_export_has_no_secret_in_it(live_server, api, web, tmp_path):
    from kasal_jupyter.store.dump import export_json

    register(api, http(web, headers={"X-Key": SECRET}, tools=["add"]))
    export_json(live_server.folder, tmp_path / "export.json")
    text = (tmp_path / "export.json").read_text()
    assert json.loads(text)["mcp_servers"]
    assert SECRET not in text
