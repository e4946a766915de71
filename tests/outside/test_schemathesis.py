"""Schemathesis asks for all that the OpenAPI document says may be asked, and much that it says may not."""

import json
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from kasal_jupyter.schemas.base import new_id
from tests import sample_crews
from tests.outside.programs import installed, needed
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.thorough import some_or_all

CONFIG = Path(__file__).with_name("schemathesis.toml")

FEWER = """
# They take the parameters of the others, from the same classes.
[[operations]]
include-operation-id-regex = "^list_(?!crews$|usage$|memory_entries$)|^get_execution_(events|traces)$"
[operations.phases.coverage]
enabled = false

# Their bodies are those of what creates the same, or starts it.
[[operations]]
include-operation-id = ["update_custom_tool", "update_mcp_tool", "update_user", "resume_execution"]
[operations.phases.coverage]
enabled = false
"""
"""What is left out of the configuration where everything is tried: see `tests/thorough.py`."""

BY_THEMSELVES = ("update_maintenance", "logout")
"""Operations after which no other one would be served."""

NOT_MADE = ("create_import_execution",)
"""What takes a file that Schemathesis cannot make."""

IN_VAIN = {
    # There is no such server, and none that Schemathesis could think of.
    *("create_mcp_tool", "get_mcp_tool", "update_mcp_tool", "delete_mcp_tool", "refresh_mcp_tool"),
    # The runs that there are have asked nothing, tell nobody and write no files, and no crew remembers.
    *("answer_execution_tool_call", "get_execution_webhooks", "get_execution_artifact"),
    "update_memory_entry",
    # It has completed.
    *("pause_batch", "resume_batch", "retry_batch", "stop_batch"),
    # It has completed, and nothing says at which of its calls another could begin.
    *("resume_execution", "fork_execution"),
    # What they are about shall stay; and see the configuration.
    *("delete_agent", "delete_memory_entry", "delete_crew_knowledge", "update_me", "open_websocket"),
}
"""Operations that need not succeed."""


def new_admin(server):
    """Make a user who may do everything as often as they like; give their id and a token."""
    account = {"email": f"{new_id('user')}@example.com", "password": "no example's password"}
    with server.client() as owner:
        user = owner.post("/users", json={**account, "role": "admin", "tier": "enterprise"})
        assert user.status_code == 201, user.text
        tokens = owner.post("/auth/login", json=account).json()
    return user.json()["id"], tokens["access_token"]


@pytest.fixture(scope="module")
def document(server):
    """The OpenAPI document, where the ids of its examples are those of things that there are."""
    document = httpx.get(f"{server.url}/v1/openapi.json").json()
    runnable = json.loads(json.dumps(crew_body("Runnable Crew")).replace("{topic}", "tea"))
    with server.client() as owner:
        crew_id = new_crew(owner, runnable)
        # The agents and tasks of a crew that is changed would soon be gone.
        other = owner.get(f"/crews/{new_crew(owner, crew_body('Other Crew'))}").json()
        job_id = start(owner, crew_id)
        wait_for(owner, job_id)
        batch = owner.post("/batches", json={"crew_id": crew_id, "rows": [{"inputs": {}}]}).json()
        # It is followed to its end.
        owner.get(f"/batches/{batch['id']}/events")
        running = start(owner, new_crew(owner, slow_crew()))
        there = {
            "/crews/{crew_id}": {"crew_abc123": new_crew(owner, crew_body("Changed Crew"))},
            "/executions/{job_id}/stop": {"job_qwerty123": running},
        }
    usual = {
        "crew_abc123": crew_id,
        "agent_001": other["agents"][0]["id"],
        "task_001": other["tasks"][0]["id"],
        "job_qwerty123": job_id,
        "job_asdfgh456": job_id,
        "batch_4t9k2m0x7q1z": batch["id"],
        "gpt-4": "sandbox",
    }
    schemas = _with_ids(document["components"]["schemas"], usual)
    paths = {path: _with_ids(item, usual | there.get(path, {})) for path, item in document["paths"].items()}
    for path, item in paths.items():
        if "delete" in item:
            # These stay. What is deleted are things that Schemathesis has made.
            item["delete"].setdefault("parameters", []).extend(document["paths"][path]["parameters"])
    yield {**document, "paths": paths, "components": {**document["components"], "schemas": schemas}}
    with server.client() as owner:
        for state in ("queued", "running"):
            found = owner.get("/executions", params={"status": state, "per_page": 500}).json()
            for execution in found["executions"]:
                owner.post(f"/executions/{execution['job_id']}/stop")


def _with_ids(part, ids):
    text = json.dumps(part)
    for example, real in ids.items():
        text = text.replace(f'"{example}"', f'"{real}"')
    return json.loads(text)


@pytest.fixture
def fuzz(server, document, tmp_path):
    """Run Schemathesis and give its report, and each operation's statuses."""
    program = needed(installed("st"), "this needs schemathesis; `pip install schemathesis` installs it")

    def run(*options):
        url = f"{server.url}/v1"
        _, token = new_admin(server)
        victim, _ = new_admin(server)
        with server.client() as owner:
            done = sample_crews.run(owner, crew_body("Done"))[1]["job_id"]
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "schemathesis.toml").write_text(CONFIG.read_text() + some_or_all(FEWER, ""))
        ended = subprocess.run(
            [
                *(program, "--config-file", "schemathesis.toml", "--no-color"),
                *("run", "openapi.json", "--url", url, "--checks", "all", "--warnings", "off"),
                # What is read or written for somebody in a limited process stands back where much goes on.
                "--request-timeout=60",
                *(
                    "--report",
                    "json,har",
                    "--report-json-path",
                    "report.json",
                    "--report-har-path",
                    "all.har",
                ),
                *options,
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "KASAL_TOKEN": token,
                "KASAL_USER": victim,
                "KASAL_JOB": done,
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        report = json.loads((tmp_path / "report.json").read_text())
        return report, statuses(tmp_path / "all.har", document, url)

    return run


def statuses(har, document, url):
    """Give the statuses that each operation was answered with."""
    base = urlsplit(url).path
    patterns = [
        (
            re.compile(f"{re.escape(base)}{re.sub(r'{[a-z_]+}', '[^/]+', path)}"),
            method,
            described["operationId"],
        )
        for path, item in document["paths"].items()
        for method, described in item.items()
        if method != "parameters"
    ]
    seen = defaultdict(set)
    for entry in json.loads(har.read_text())["log"]["entries"]:
        path = urlsplit(entry["request"]["url"]).path
        for pattern, method, name in patterns:
            if entry["request"]["method"].lower() == method and pattern.fullmatch(path):
                seen[name].add(entry["response"]["status"])
                break
    return seen


def test_no_operation_fails_or_breaks_its_word(fuzz):
    excluded = [part for name in BY_THEMSELVES for part in ("--exclude-operation-id", name)]
    report, seen = fuzz(*excluded, "--max-examples", some_or_all("2", "3"))
    operations = report["operations"]
    assert operations["tested"] == operations["total"] - len(BY_THEMSELVES + NOT_MADE)
    assert report["test_cases"]["errored"] == 0
    assert report["failures"] == []
    # Where hardly anything succeeds, hardly anything is checked.
    failing = {name for name, answers in seen.items() if not answers & {200, 201, 202, 204}}
    assert failing <= IN_VAIN
    assert not any(status >= 500 for answers in seen.values() for status in answers)


def test_maintenance_mode(fuzz, server):
    try:
        report, seen = fuzz(
            "--include-operation-id", "update_maintenance", "--max-examples", some_or_all("10", "50")
        )
    finally:
        with server.client() as owner:
            answer = owner.put("/maintenance", json={"enabled": False})
    assert answer.status_code == 200
    assert report["operations"]["tested"] == 1
    assert seen["update_maintenance"] >= {200, 400, 401}


def test_logout(fuzz):
    """The first one succeeds; whatever the token is used for then is refused."""
    report, seen = fuzz("--include-operation-id", "logout", "--phases", "coverage,fuzzing")
    assert report["operations"]["tested"] == 1
    assert seen["logout"] == {204, 401}
