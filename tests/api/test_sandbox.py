import json

import httpx
import pytest
import websocket

from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.server import start_server

TOKEN = "sandbox-token-of-the-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = start_server(tmp_path_factory.mktemp("sandbox"), environ={"KASAL_SANDBOX_TOKEN": TOKEN})
    yield server
    if server.process.poll() is None:
        server.close()


@pytest.fixture
def owner(server):
    with server.client() as client:
        yield client


@pytest.fixture
def sandbox(server):
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client


def test_what_is_made_there_stays_there(owner, sandbox):
    inside = new_crew(sandbox, crew_body("Inside"))
    outside = new_crew(owner, crew_body("Outside"))
    assert [crew["name"] for crew in sandbox.get("/crews").json()["crews"]] == ["Inside"]
    assert "Inside" not in [crew["name"] for crew in owner.get("/crews").json()["crews"]]
    assert owner.get(f"/crews/{inside}").status_code == 404
    assert sandbox.get(f"/crews/{outside}").status_code == 404


def test_its_runs_are_replayed_resumed_and_asked_for_once(sandbox, owner):
    crew_id, failed = run(sandbox, crew_body("Fails", fail_at=2))
    for verb, body, status in (("replay", None, "failed"), ("resume", {}, "completed")):
        answer = sandbox.post(f"/executions/{failed['job_id']}/{verb}", json=body)
        assert answer.status_code == 202, answer.text
        assert wait_for(sandbox, answer.json()["job_id"])["status"] == status
        assert owner.post(f"/executions/{failed['job_id']}/{verb}", json=body).status_code == 404
    crew_id, done = run(sandbox, crew_body("Again"))
    asked = {"crew_id": crew_id, "inputs": {"topic": "tea"}, "once": True}
    assert sandbox.post("/executions", json=asked).json()["recorded"]["from"] == done["job_id"]


def test_its_list_of_models_has_the_sandbox_model_alone(owner, sandbox):
    (only,) = sandbox.get("/models").json()["models"]
    assert (only["name"], only["available"], only["default"]) == ("sandbox", True, True)
    assert owner.get("/models").json()["total"] > 1


def test_every_model_is_the_sandbox_model(server, owner, sandbox):
    body = crew_body()
    for agent, model in zip(body["agents"], ("gpt-4", "claude-3-opus"), strict=True):
        agent["model"] = model
    job_id = wait_for(sandbox, start(sandbox, new_crew(sandbox, body)))["job_id"]
    execution = sandbox.get(f"/executions/{job_id}").json()
    assert execution["status"] == "completed"
    assert execution["result"].startswith("[sandbox]")
    # Whatever it was called: it is not what gpt-4 would have cost.
    assert execution["usage"]["cost"] == 0.0
    connection = websocket.create_connection(
        f"{server.url.replace('http', 'ws', 1)}/v1/ws?token={TOKEN}", timeout=60
    )
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
    assert json.loads(connection.recv())["job_id"] == job_id
    connection.shutdown()
    connection = server.socket()
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
    assert json.loads(connection.recv())["code"] == "NOT_FOUND"
    connection.shutdown()
    # Outside, the same crew is refused: no key is set.
    refused = owner.post("/executions", json={"crew_id": new_crew(owner, body), "inputs": {"topic": "tea"}})
    assert refused.json()["error"]["code"] == "CREW_NOT_RUNNABLE"


def test_the_sandbox_token_is_nobodys_account(sandbox):
    assert sandbox.get("/auth/me").json()["role"] == "editor"
    assert sandbox.get("/users").status_code == 403
    assert sandbox.post("/auth/keys", json={"name": "mine"}).status_code == 403
    assert sandbox.put("/maintenance", json={"enabled": True}).status_code == 403


def test_there_is_none_by_default(live_server):
    answer = httpx.get(f"{live_server.url}/v1/crews", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 401


def test_the_token_is_not_among_the_settings_that_handlers_and_templates_see(server, owner):
    assert TOKEN not in owner.get("/metrics").text
    assert TOKEN not in server.log.read_text()


def test_it_is_thrown_away_at_the_end(server, sandbox):
    run(sandbox, crew_body("Gone"))
    job_id = start(sandbox, new_crew(sandbox, slow_crew("Gone too")))
    wait_for(sandbox, job_id, "running")
    folders = list((server.folder / "sandbox").iterdir())
    assert len(folders) == 1
    assert (folders[0] / "runs" / f"{job_id}.jsonl").exists()
    server.close()
    assert not folders[0].exists()


def test_what_a_killed_server_left_is_thrown_away_by_the_next(tmp_path):
    environ = {"KASAL_SANDBOX_TOKEN": TOKEN}
    server = start_server(tmp_path / "a", folder=tmp_path / "data", environ=environ)
    with server.client() as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        new_crew(client, crew_body())
    [folder] = (server.folder / "sandbox").iterdir()
    server.process.kill()
    server.process.wait()
    assert folder.exists()
    start_server(tmp_path / "b", folder=tmp_path / "data", environ=environ).close()
    assert not folder.exists()
