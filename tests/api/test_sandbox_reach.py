"""What whoever has the sandbox's token can reach: nothing that the machine's files or its network hold.

The server allows its own users all there is: Python, a folder of the machine, the addresses of this machine.
"""

import base64
import io
import socket
import zipfile
from pathlib import Path

import pytest

from tests.sample_crews import crew_body, new_crew, wait_for
from tests.server import start_server
from tests.servers.mcp_server import stdio

TOKEN = "sandbox-token-of-the-tests"
CANARY = "kanarienvogel"

LOCAL = ["ask_human", "calculator", "directory_list", "file_reader", "file_writer", "sql_query", "wait"]
"""The sandbox's tools."""

OUTWARD = ["http_request", "python", "web_page", "web_search"]
"""Those that it does not have."""


class Listener:
    """An address of this machine that nobody should call."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{CANARY}"

    def was_called(self):
        try:
            self.socket.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "canary.csv").write_text(f"{CANARY}\n{CANARY}\n")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, outside):
    server = start_server(
        tmp_path_factory.mktemp("sandbox"),
        f"--KasalApp.tool_folders={outside}",
        "--KasalApp.python_tool=True",
        "--KasalApp.allowed_hosts=127.0.0.1",
        "--KasalApp.allowed_hosts=localhost",
        environ={"KASAL_SANDBOX_TOKEN": TOKEN, "KASAL_TEST_CANARY": CANARY},
    )
    yield server
    server.close()


@pytest.fixture(scope="module")
def sandbox(server):
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


@pytest.fixture(scope="module")
def listener():
    listener = Listener()
    yield listener
    listener.socket.close()


@pytest.fixture(autouse=True)
def untouched(listener, outside):
    yield
    assert not listener.was_called()
    assert [each.name for each in outside.iterdir()] == ["canary.csv"]


def worker(*tools, **fields):
    """Describe a crew of one agent with some tools."""
    body = crew_body()
    body["agents"] = [
        {"role": "Worker", "goal": "Do", "backstory": "", "model": "sandbox", "tools": [*tools]}
    ]
    body["tasks"] = [
        {"name": "t", "description": "Do it", "expected_output": "It", "agent": "Worker", **fields}
    ]
    return body


def fault(answer):
    assert answer.status_code == 400, answer.text
    details = answer.json()["error"]["details"]
    return (details[0] if isinstance(details, list) else details)["reason"]


def test_its_list_of_tools_says_which_it_has(server, sandbox):
    def available(api):
        tools = api.get("/tools", params={"per_page": 100}).json()["tools"]
        return {tool["name"]: tool["available"] for tool in tools}

    assert available(sandbox) == dict.fromkeys(LOCAL, True) | dict.fromkeys(OUTWARD, False)
    assert "sandbox" in sandbox.get("/tools/web_page").json()["reason"]
    with server.client() as owner:
        assert set(available(owner).values()) == {True}


@pytest.mark.parametrize("tool", OUTWARD)
def test_a_crew_with_another_tool_does_not_run_there(sandbox, tool):
    crew_id = new_crew(sandbox, worker(tool))
    refused = sandbox.post("/executions", json={"crew_id": crew_id, "inputs": {}})
    assert refused.json()["error"]["code"] == "CREW_NOT_RUNNABLE"


HOSTILE = {
    "file_reader": [
        {"path": "{outside}/canary.csv"},
        {"path": "../../../../../../../../../../..{outside}/canary.csv"},
        {"path": "/proc/self/environ"},
        {"path": "/proc/self/cwd/../../.."},
    ],
    "directory_list": [{"path": "{outside}"}, {"path": "/"}, {"path": "../.."}],
    "file_writer": [
        {"path": "{outside}/written.txt", "content": "x"},
        {"path": "../../../../../../../../../../..{outside}/written.txt", "content": "x"},
    ],
    "sql_query": [
        {"statement": "SELECT * FROM '{outside}/canary.csv'"},
        {"statement": "FROM read_csv('{outside}/canary.csv', delim='|') NATURAL JOIN (SELECT 1 AS q)"},
        {"statement": "SELECT content FROM read_text('/proc/self/environ')"},
        {"statement": "SELECT * FROM read_csv('{url}')"},
        {"statement": "SELECT * FROM '{url}.csv'"},
    ],
    "calculator": [{"expression": "open('{outside}/canary.csv').read()"}, {"expression": "9 ** 9 ** 9"}],
    "wait": [{"seconds": 601}],
}


def test_each_of_its_tools_is_tried():
    # It shows a question, and reads what the sandbox's own caller answers.
    assert {*HOSTILE} == {*LOCAL} - {"ask_human"}


@pytest.mark.parametrize("tool", HOSTILE)
def test_none_of_its_tools_opens_a_file_or_an_address(sandbox, outside, listener, tool):
    for arguments in HOSTILE[tool]:
        inputs = {
            name: value.replace("{outside}", str(outside)).replace("{url}", listener.url)
            if isinstance(value, str)
            else value
            for name, value in arguments.items()
        }
        answer = sandbox.post(
            "/executions", json={"crew_id": new_crew(sandbox, worker(tool)), "inputs": inputs}
        )
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["job_id"]
        wait_for(sandbox, job_id)
        events = sandbox.get(f"/executions/{job_id}/events", params={"kind": "tool_call,tool_failed"}).json()
        called, failed = events["events"]
        assert called["arguments"].items() >= inputs.items()
        assert failed["type"] == "tool_failed"
        # The address that was asked for stands there, and nothing of what is there.
        told = sandbox.get(f"/executions/{job_id}/events").text.replace(listener.url, "")
        assert CANARY not in told
        assert sandbox.get(f"/executions/{job_id}/artifacts").json()["artifacts"] == []


@pytest.mark.parametrize("path", ["../../x.txt", "/etc/x.txt"])
def test_a_task_writes_its_result_nowhere_else(sandbox, path):
    assert sandbox.post("/crews", json=worker(output_file=path)).status_code == 400


def test_artifacts_are_those_of_the_run(sandbox, outside):
    body = {"crew_id": new_crew(sandbox, worker()), "inputs": {}}
    job_id = sandbox.post("/executions", json=body).json()["job_id"]
    wait_for(sandbox, job_id)
    for path in (f"../../../..{outside}/canary.csv", str(outside / "canary.csv"), "../../kasal.db"):
        quoted = path.replace("/", "%2F")
        answer = sandbox.get(f"/executions/{job_id}/artifacts/{quoted}")
        assert answer.status_code in (400, 404), answer.text


def addresses(listener):
    return [listener.url, f"http://localhost:{listener.port}/", "https://example.com/x", "http://10.0.0.1/"]


def test_it_names_no_address_for_others_to_call(sandbox, listener):
    """A custom tool, an MCP server, a provider and a webhook are refused by one rule."""
    for number, url in enumerate(addresses(listener)):
        custom = {"name": f"custom{number}", "description": "x", "endpoint": url}
        assert "sandbox" in fault(sandbox.post("/tools/custom", json=custom))
        mcp = {"name": f"mcp{number}", "description": "x", "transport": "http", "url": url}
        assert "sandbox" in fault(sandbox.post("/tools/mcp", json=mcp))
        for provider in ("mine", "openai", "ollama", "searxng", "azure"):
            body = {"base_url": url, "api_key": "k" * 20}
            answer = sandbox.put(f"/providers/{provider}", json=body)
            assert answer.status_code == 400, answer.text
        hooked = {**worker(), "webhook": {"url": url}}
        assert "sandbox" in fault(sandbox.post("/crews", json=hooked))
        crew_id = new_crew(sandbox, worker())
        assert "sandbox" in fault(sandbox.put(f"/crews/{crew_id}", json={"webhook": {"url": url}}))
    assert sandbox.get("/models").json()["total"] == 1


def test_it_starts_no_program(sandbox, tmp_path):
    body = {"name": "program", "description": "x", **stdio(tmp_path / "notes")}
    assert sandbox.post("/tools/mcp", json=body).status_code == 403
    assert not (tmp_path / "notes").exists()


AGENTS = "worker: {role: Worker, goal: Do, backstory: Old}"
TASKS = "t: {description: Do, expected_output: It, agent: worker}"


def test_what_it_imports_brings_no_address(sandbox, listener):
    text = f"name: Hooked\nwebhook: {{url: '{listener.url}'}}\nagents:\n  {AGENTS}\ntasks:\n  {TASKS}\n"
    assert "sandbox" in fault(sandbox.post("/crews/import", json={"text": text}))
    assert (
        sandbox.post("/crews/import", json={"text": text.replace("webhook", "# webhook")}).status_code == 201
    )


def test_what_it_imports_brings_no_file(sandbox, outside):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        link = zipfile.ZipInfo("config/agents.yaml")
        link.external_attr = 0o120777 << 16
        made.writestr(link, str(outside / "canary.csv"))
        made.writestr("config/tasks.yaml", TASKS)
    archive = base64.b64encode(packed.getvalue()).decode()
    answer = sandbox.post("/crews/import", json={"archive": archive})
    assert answer.status_code == 400
    assert CANARY not in answer.text
    included = {
        "agents.yaml": f"worker: !include {outside}/canary.csv",
        "tasks.yaml": TASKS,
    }
    answer = sandbox.post("/crews/import", json={"files": included})
    assert CANARY not in answer.text


def test_what_it_knows_is_what_was_sent(sandbox, outside):
    crew_id = new_crew(sandbox, worker())
    canary = str(outside / "canary.csv")
    named = sandbox.post(f"/crews/{crew_id}/knowledge", json={"name": canary, "text": "tea"})
    assert named.status_code in (201, 400)
    assert sandbox.post(f"/crews/{crew_id}/knowledge", json={"name": "x", "path": canary}).status_code == 400
    assert CANARY not in sandbox.get(f"/crews/{crew_id}/knowledge").text
    query = {"query": "tea", "type": "knowledge"}
    assert CANARY not in sandbox.get(f"/memory/{crew_id}/search", params=query).text


def test_it_sees_nothing_of_the_server_itself(server, sandbox):
    for path in ("/users", "/metrics", "/providers", "/usage", "/health", "/maintenance", "/openapi.json"):
        text = sandbox.get(path).text
        assert CANARY not in text
        assert str(server.folder) not in text
        assert str(Path.home()) not in text
