"""Newman sends the whole Postman collection, in its order, as Postman's own runner does."""

import json
import subprocess

import httpx

from tests.accounts import PASSWORD, log_in
from tests.outside.programs import needed, npm_installed

HOW = "this needs newman; `npm install --prefix .ci --no-package-lock` installs it"


def test_the_whole_collection_succeeds(server, tmp_path):
    newman = needed(npm_installed("newman"), HOW)
    with log_in(server, "admin") as admin:
        email = admin.get("/auth/me").json()["email"]
        before = {name: admin.get(f"/{name}").json()["total"] for name in ("crews", "agents", "tasks")}
    collection = httpx.get(f"{server.url}/v1/postman.json").json()
    (tmp_path / "collection.json").write_text(json.dumps(collection))
    ended = subprocess.run(
        [
            *(newman, "run", "collection.json", "--color", "off", "--disable-unicode"),
            *("--env-var", f"email={email}", "--env-var", f"password={PASSWORD}"),
            *("--reporters", "cli,json", "--reporter-json-export", "report.json"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = json.loads((tmp_path / "report.json").read_text())["run"]
    assert run["failures"] == []
    sent = {execution["item"]["name"] for execution in run["executions"]}
    assert sent == {item["name"] for folder in collection["item"] for item in folder["item"]}
    assert all(execution["assertions"] for execution in run["executions"])
    told = [each["assertion"] for execution in run["executions"] for each in execution["assertions"]]
    assert "It has completed" in told
    with server.client() as owner:
        after = {name: owner.get(f"/{name}").json()["total"] for name in ("crews", "agents", "tasks")}
    assert after == before
