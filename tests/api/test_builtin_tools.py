"""The built-in tools in the catalogue, and what the deployer has to say about them."""

import subprocess
import sys

import pytest

from tests.private import lonely
from tests.sample_crews import new_crew, start, wait_for
from tests.server import start_server

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
