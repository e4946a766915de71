"""The reference's shell examples: curl runs them as they are written, apart from hosts and tokens."""

import json
import shutil
import subprocess

import pytest

from tests.reference.examples import examples
from tests.reference.world import EMAIL, PASSWORD, SANDBOX_TOKEN
from tests.sample_crews import wait_for
from tests.server import start_server

LOGIN = """
curl -X POST https://api.example.com/v1/auth/login \\
  -H "Content-Type: application/json" \\
  -d '{"email": "user@example.com", "password": "secure_pass"}'
"""

USE_TOKEN = """
curl -X GET https://api.example.com/v1/crews \\
  -H "Authorization: Bearer YOUR_ACCESS_TOKEN"
"""

SANDBOX = """
curl -X POST https://sandbox-api.kasal.ai/v1/crews \\
  -H "Authorization: Bearer SANDBOX_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d @crew.json
"""

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def shell(command, folder, **replaced):
    """Run a command of the reference and give the answer."""
    for word, text in replaced.items():
        command = command.replace(word, text)
    done = subprocess.run(
        ["sh", "-c", command], check=False, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_login_and_its_token(world, tmp_path):
    host = {"https://api.example.com": world.server.url}
    with world.server.client() as owner:
        (user,) = owner.get("/users", params={"search": EMAIL}).json()["users"]
        owner.put(f"/users/{user['id']}", json={"password": "secure_pass"})
        tokens = shell(LOGIN, tmp_path, **host)
        assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", 86_400)
        crews = shell(USE_TOKEN, tmp_path, **host, YOUR_ACCESS_TOKEN=tokens["access_token"])
        assert crews["page"] == 1
        assert "Updated Crew Name" in {crew["name"] for crew in crews["crews"]}
        owner.put(f"/users/{user['id']}", json={"password": PASSWORD})
    world.log_in()


def test_the_sandbox_is_apart_and_thrown_away(tmp_path):
    def a_server():
        return start_server(tmp_path, environ={"KASAL_SANDBOX_TOKEN": SANDBOX_TOKEN})

    (crew,) = (example.request for example in examples() if example.operation == "POST /crews")
    (tmp_path / "crew.json").write_text(json.dumps(crew))
    server = a_server()
    try:
        host = {"https://sandbox-api.kasal.ai": server.url}
        made = shell(SANDBOX, tmp_path, **host, SANDBOX_TOKEN=SANDBOX_TOKEN)
        assert made["name"] == "Marketing Crew"
        with server.client() as owner, server.client() as sandbox:
            sandbox.headers["Authorization"] = f"Bearer {SANDBOX_TOKEN}"
            assert [each["id"] for each in sandbox.get("/crews").json()["crews"]] == [made["id"]]
            assert owner.get("/crews").json()["total"] == 0
            assert owner.get(f"/crews/{made['id']}").status_code == 404
            assert ran_on_sandbox(sandbox, made["id"])
            assert owner.get("/executions").json()["total"] == 0
    finally:
        server.close()
    assert list((server.folder / "sandbox").iterdir()) == []
    server = a_server()
    try:
        with server.client() as owner, server.client() as sandbox:
            sandbox.headers["Authorization"] = f"Bearer {SANDBOX_TOKEN}"
            assert owner.get("/crews").json()["total"] == 0
            assert sandbox.get("/crews").json()["total"] == 0
    finally:
        server.close()


def ran_on_sandbox(sandbox, crew_id):
    """Give the reference's crew a task, run it, and say whether its gpt-4 was the sandbox model."""
    (agent,) = sandbox.get("/agents", params={"crew_id": crew_id}).json()["agents"]
    assert agent["model"] == "gpt-4"
    task = {"agent_id": agent["id"], "description": "Write", "expected_output": "A text"}
    assert sandbox.post("/tasks", json=task).status_code == 201
    job_id = sandbox.post("/executions", json={"crew_id": crew_id}).json()["job_id"]
    ended = wait_for(sandbox, job_id, "completed")
    return ended["result"].startswith("[sandbox]")
