"""Tools over the API, from registration to the run that uses them."""

import json
import subprocess
import sys

import pytest

from tests.private import lonely
from tests.sample_crews import crew_body, new_crew, start, wait_for
from tests.server import start_server
from tests.servers.endpoint_server import endpoint_server, redirect, reply

SECRET = "s3cret-of-the-endpoint"


@pytest.fixture(scope="module")
def allowing(tmp_path_factory):
    """A server whose tools may call this machine."""
    server = start_server(tmp_path_factory.mktemp("allowing"), "--KasalApp.allowed_hosts=127.0.0.1")
    yield server
    server.close()


@pytest.fixture
def tools_api(allowing):
    with allowing.client() as client:
        yield client


@pytest.fixture
def endpoint():
    with endpoint_server() as running:
        yield running


names = iter(f"tool_{number}" for number in range(1_000))


def body(**fields):
    """A body like the reference's, with a name that is free."""
    known = {
        "name": next(names),
        "description": "Query Salesforce data",
        "endpoint": "https://api.example.com/salesforce",
        "auth_type": "bearer",
    }
    return {**known, **fields}


def register(api, **fields):
    answer = api.post("/tools/custom", json=body(**fields))
    assert answer.status_code == 201, answer.text
    return answer.json()["tool_id"]


def fault(answer, status=400):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["details"]["field"]


def test_the_built_in_tools_as_the_reference_lists_them(api):
    answer = api.get("/tools")
    assert answer.status_code == 200
    listed = {tool["name"]: tool for tool in answer.json()["tools"]}
    assert listed["file_reader"]["category"] == "data"
    assert not listed["file_reader"]["custom"]
    assert listed["calculator"]["parameters"]["required"] == ["expression"]
    assert {"name", "description", "category"} <= listed["wait"].keys()
    assert answer.json()["total"] == len(listed)


def test_a_custom_tool_as_the_reference_registers_it(api):
    sent = body(name="salesforce_api")
    answer = api.post("/tools/custom", json=sent)
    assert answer.status_code == 201
    registered = answer.json()
    assert registered == {"tool_id": registered["tool_id"], "status": "registered"}
    assert registered["tool_id"].startswith("tool_")
    listed = {tool["name"]: tool for tool in api.get("/tools").json()["tools"]}
    assert listed["salesforce_api"]["custom"]
    assert listed["salesforce_api"]["tool_id"] == registered["tool_id"]
    assert listed["salesforce_api"]["category"] == "custom"
    assert api.get("/tools/salesforce_api").json() == listed["salesforce_api"]
    shown = api.get(f"/tools/custom/{registered['tool_id']}").json()
    assert sent.items() <= shown.items()
    assert shown["has_secret"] is False


def test_lists_of_tools_are_searched_sorted_and_paged(api):
    mine = register(api, name="zebra_finder", description="Finds stripes", category="zoo")
    assert [tool["name"] for tool in api.get("/tools?category=zoo").json()["tools"]] == ["zebra_finder"]
    assert [tool["name"] for tool in api.get("/tools?search=STRIPES").json()["tools"]] == ["zebra_finder"]
    names = [tool["name"] for tool in api.get("/tools?sort=-name").json()["tools"]]
    assert names == sorted(names, reverse=True)
    page = api.get("/tools?per_page=2&page=2&sort=-name").json()
    assert [tool["name"] for tool in page["tools"]] == names[2:4]
    assert (page["total"], page["page"], page["per_page"]) == (len(names), 2, 2)
    custom = api.get("/tools/custom?search=stripes").json()
    assert [tool["tool_id"] for tool in custom["tools"]] == [mine]
    assert api.get("/tools/custom?category=zoo").json()["total"] == 1
    assert fault(api.get("/tools?sort=colour")) == "sort"


def test_a_tool_that_is_not_there_is_not_found(api):
    assert api.get("/tools/calculater").status_code == 404
    assert "did you mean 'calculator'" in api.get("/tools/calculater").json()["error"]["message"]
    for method in ("GET", "DELETE"):
        assert api.request(method, "/tools/custom/tool_nobody").status_code == 404
    assert api.put("/tools/custom/tool_nobody", json={"timeout": 1}).status_code == 404


def test_the_secret_is_never_given_out(api, live_server):
    sent = body(secret=SECRET)
    tool_id = api.post("/tools/custom", json=sent).json()["tool_id"]
    answers = [
        api.get("/tools"),
        api.get(f"/tools/{sent['name']}"),
        api.get("/tools/custom"),
        api.get(f"/tools/custom/{tool_id}"),
        api.put(f"/tools/custom/{tool_id}", json={"category": "crm"}),
        api.put(f"/tools/custom/{tool_id}", json={"secret": f"{SECRET}\n"}),
        api.post("/tools/custom", json={**sent, "auth_type": "none"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 400, 400]
    assert all(SECRET not in answer.text for answer in answers)
    assert api.get(f"/tools/custom/{tool_id}").json()["has_secret"] is True
    for file in live_server.folder.glob("kasal.db*"):
        assert SECRET.encode() not in file.read_bytes()
    assert SECRET not in live_server.log.read_text()


def test_a_tool_is_changed_and_deleted(api):
    tool_id = register(api)
    assert api.put(f"/tools/custom/{tool_id}", json={"timeout": 5, "secret": SECRET}).json() == {
        "id": tool_id,
        "updated": True,
    }
    shown = api.get(f"/tools/custom/{tool_id}").json()
    assert (shown["timeout"], shown["has_secret"]) == (5, True)
    assert (
        fault(api.put(f"/tools/custom/{tool_id}", json={"endpoint": "https://evil.example/"})) == "endpoint"
    )
    assert fault(api.put(f"/tools/custom/{tool_id}", json={"name": None})) == "name"
    assert api.delete(f"/tools/custom/{tool_id}").status_code == 204
    assert api.get(f"/tools/custom/{tool_id}").status_code == 404


def test_a_name_is_there_once(api):
    sent = body()
    assert api.post("/tools/custom", json=sent).status_code == 201
    assert fault(api.post("/tools/custom", json=sent), 409) == "name"
    assert fault(api.post("/tools/custom", json=body(name="calculator"))) == "name"


@pytest.mark.parametrize(
    "endpoint", ["http://localhost:8888/api", "http://169.254.169.254/", "http://10.0.0.1/", "http://[::1]/"]
)
def test_endpoints_inside_are_refused_at_registration(api, endpoint):
    sent = body(endpoint=endpoint)
    answer = api.post("/tools/custom", json=sent)
    assert fault(answer) == "endpoint"
    assert "only public hosts may be called" in answer.json()["error"]["details"]["reason"]
    assert api.get(f"/tools/{sent['name']}").status_code == 404


def test_a_tool_in_use_is_deleted_only_by_force(api):
    sent = body()
    tool_id = api.post("/tools/custom", json=sent).json()["tool_id"]
    crew = crew_body()
    crew["agents"][0]["tools"] = [sent["name"]]
    crew_id = new_crew(api, crew)
    refusal = api.delete(f"/tools/custom/{tool_id}")
    assert refusal.status_code == 409
    assert "agent 'Researcher'" in refusal.json()["error"]["message"]
    assert api.delete(f"/tools/custom/{tool_id}?force=true").status_code == 204
    refusal = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}})
    assert fault(refusal) == "agents[0].tools[0]"


def test_a_run_whose_tool_lacks_its_secret_is_refused_before_it_begins(api):
    sent = body()
    tool_id = api.post("/tools/custom", json=sent).json()["tool_id"]
    crew = crew_body()
    crew["agents"][0]["tools"] = [sent["name"]]
    crew_id = new_crew(api, crew)
    refusal = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}})
    assert fault(refusal) == "agents[0].tools[0]"
    assert f"PUT /tools/custom/{tool_id}" in refusal.json()["error"]["details"]["reason"]


def run_with(api, tool):
    """Run a crew whose first agent has the tool."""
    crew = crew_body()
    crew["agents"][0]["tools"] = [tool]
    job_id = start(api, new_crew(api, crew))
    return job_id, wait_for(api, job_id)


def test_an_agent_uses_a_custom_tool_and_its_secret_stays_secret(tools_api, allowing, endpoint):
    # The endpoint gives back what it got, secret and all.
    endpoint.replies["/crm/tea"] = lambda handler, asked: reply(json.dumps(asked.headers))(handler, asked)
    sent = body(
        endpoint=f"{endpoint.url}/crm/{{topic}}",
        secret=SECRET,
        parameters={
            "type": "object",
            "properties": {"topic": {"type": "string"}, "depth": {"type": "integer", "examples": [2]}},
            "required": ["topic", "depth"],
        },
    )
    assert tools_api.post("/tools/custom", json=sent).status_code == 201
    job_id, state = run_with(tools_api, sent["name"])
    assert state["status"] == "completed"
    (asked,) = endpoint.asked
    assert (asked.method, asked.path, asked.json()) == ("POST", "/crm/tea", {"depth": 2})
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    traces = tools_api.get(f"/executions/{job_id}/traces").text
    assert sent["name"] in traces
    assert "[secret]" in traces
    kept = [path for path in allowing.folder.rglob("*") if path.is_file()]
    assert any(path.name == f"{job_id}.jsonl" for path in kept)
    for path in [*kept, allowing.log]:
        assert SECRET.encode() not in path.read_bytes(), path


def test_a_redirect_inside_is_not_followed(tools_api, endpoint):
    endpoint.replies["/tool"] = redirect("http://127.0.0.2:9/inside")
    sent = body(endpoint=f"{endpoint.url}/tool", auth_type="none")
    assert tools_api.post("/tools/custom", json=sent).status_code == 201
    job_id, state = run_with(tools_api, sent["name"])
    assert state["status"] == "completed"
    assert len(endpoint.asked) == 1
    assert "127.0.0.2 is this machine" in tools_api.get(f"/executions/{job_id}/traces").text


def test_what_is_not_allowed_is_refused_there_too(tools_api):
    assert fault(tools_api.post("/tools/custom", json=body(endpoint="http://127.0.0.2/"))) == "endpoint"


@pytest.fixture(scope="module")
def users(live_server):
    """Clients of three Kasal users, two editors and a viewer."""
    clients = {}
    with live_server.client() as admin:
        for name, role in (("ada", "editor"), ("bob", "editor"), ("eve", "viewer")):
            account = {"email": f"{name}@tools.example", "password": "correct horse"}
            assert admin.post("/users", json={**account, "role": role}).status_code == 201
            token = admin.post("/auth/login", json=account).json()["access_token"]
            clients[name] = live_server.client()
            clients[name].headers["Authorization"] = f"Bearer {token}"
    yield clients
    for client in clients.values():
        client.close()


def test_tools_are_their_owner_s(api, users):
    sent = body(name="of_ada")
    tool_id = users["ada"].post("/tools/custom", json=sent).json()["tool_id"]
    bob = users["bob"]
    assert bob.get(f"/tools/custom/{tool_id}").status_code == 404
    assert bob.put(f"/tools/custom/{tool_id}", json={"timeout": 1}).status_code == 404
    assert bob.delete(f"/tools/custom/{tool_id}").status_code == 404
    assert bob.get("/tools/of_ada").status_code == 404
    assert bob.get("/tools/custom").json()["total"] == 0
    assert bob.post("/tools/custom", json=sent).status_code == 201
    assert api.get(f"/tools/custom/{tool_id}").json()["name"] == "of_ada"
    # The server's owner sees it, but it is not among what the server's own crews can use.
    assert api.get("/tools/of_ada").status_code == 404


def test_a_viewer_reads_and_changes_nothing(users):
    eve = users["eve"]
    assert eve.get("/tools").status_code == 200
    assert eve.get("/tools/custom").status_code == 200
    assert eve.post("/tools/custom", json=body()).status_code == 403
    assert eve.put("/tools/custom/tool_nobody", json={}).status_code == 403
    assert eve.delete("/tools/custom/tool_nobody").status_code == 403
    assert eve.post("/memory/crew_nobody/clear", json={"type": "all"}).status_code == 403


def test_another_s_crew_has_no_memory_to_see(users):
    crew_id = new_crew(users["ada"], crew_body())
    assert users["ada"].get(f"/memory/{crew_id}").status_code == 200
    assert users["bob"].get(f"/memory/{crew_id}").status_code == 404
    assert users["bob"].post(f"/memory/{crew_id}/clear", json={"type": "all"}).status_code == 404


# The built-in tools in the catalogue, and what the deployer has to say about them.


NAMES = {
    "ask_human": "human",
    "calculator": "computation",
    "directory_list": "data",
    "file_reader": "data",
    "file_writer": "data",
    "http_request": "integration",
    "python": "computation",
    "sql_query": "data",
    "wait": "time",
    "web_page": "research",
    "web_search": "research",
}


def crew(*tools):
    agent = {"role": "Worker", "goal": "Work", "model": "sandbox", "tools": list(tools)}
    task = {"description": "Work", "expected_output": "Something", "agent": "Worker"}
    return {"name": "Working", "agents": [agent], "tasks": [task]}


def test_all_are_listed_with_their_categories_and_arguments(api):
    listed = [tool for tool in api.get("/tools").json()["tools"] if not tool["custom"]]
    # The server is other tests' as well, and they have registered MCP servers.
    tools = {tool["name"]: tool for tool in listed if tool["category"] != "mcp"}
    assert {name: tool["category"] for name, tool in tools.items()} == NAMES
    for tool in tools.values():
        assert tool["parameters"]["type"] == "object"
        assert tool["description"]
        assert tool["available"] == (tool["reason"] is None)
    assert [name for name, tool in tools.items() if not tool["available"]] == ["python"]


def test_one_that_cannot_be_used_says_why_and_so_does_the_check(api):
    tool = api.get("/tools/python").json()
    assert tool["available"] is False
    assert "KasalApp.python_tool = True" in tool["reason"]
    crew_id = new_crew(api, crew("python", "calculator"))
    checked = api.post(f"/crews/{crew_id}/check", json={}).json()
    assert "KasalApp.python_tool = True" in str(checked)
    refused = api.post("/executions", json={"crew_id": crew_id})
    assert refused.status_code == 400
    assert refused.json()["error"]["details"]["field"] == "agents[0].tools[0]"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "prices.csv").write_text("tea,price\ngreen,10\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def generous(tmp_path_factory, shared):
    """A server that lets agents run Python and read a folder."""
    server = start_server(
        tmp_path_factory.mktemp("generous"),
        "--KasalApp.python_tool=True",
        f"--KasalApp.tool_folders={shared}",
        environ={"KASAL_SANDBOX_TOKEN": "token-of-the-sandbox"},
    )
    yield server
    server.close()


def test_what_the_deployer_allows_agents_do(generous, shared):
    with generous.client() as api:
        assert api.get("/tools/python").json()["available"] is True
        crew_id = new_crew(api, crew("python", "file_reader", "sql_query"))
        inputs = {
            "code": "print('from python')",
            "path": str(shared / "prices.csv"),
            "statement": f"SELECT price * 2 AS twice FROM '{shared}/prices.csv'",
        }
        job_id = api.post("/executions", json={"crew_id": crew_id, "inputs": inputs}).json()["job_id"]
        result = wait_for(api, job_id)["result"]
    assert "python says: from python" in result
    rows = {row["action"]: row["result"] for row in traces_of(generous, job_id)}
    assert rows["file_reader"] == "tea,price\ngreen,10\n"
    assert "| 20 |" in rows["sql_query"]


def traces_of(server, job_id):
    with server.client() as api:
        return api.get(f"/executions/{job_id}/traces", params={"kind": "tool"}).json()["traces"]


def test_whoever_holds_the_sandboxs_token_gets_none_of_it(generous, shared):
    with generous.client() as api:
        api.headers["Authorization"] = "Bearer token-of-the-sandbox"
        assert api.get("/tools/python").json()["available"] is False
        crew_id = new_crew(api, crew("file_reader"))
        job_id = api.post(
            "/executions", json={"crew_id": crew_id, "inputs": {"path": str(shared / "prices.csv")}}
        ).json()["job_id"]
        assert "outside the run's folder" in wait_for(api, job_id)["result"]


def test_a_folder_by_a_relative_path_is_refused_at_the_start(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "kasal_jupyter.cli", "--KasalApp.tool_folders=data", "--port=0"],
        env=lonely(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "KasalApp.tool_folders: 'data' is no absolute path" in ended.stderr


def test_a_search_without_the_internet_fails_in_words(api):
    """Where there is one, it finds something; either way the run goes on."""
    crew_id = new_crew(api, crew("web_search"))
    job_id = start(api, crew_id)
    assert wait_for(api, job_id)["status"] == "completed"
