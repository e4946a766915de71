"""A client that openapi-python-client makes of the OpenAPI document, used as its users would."""

import json
import os
import subprocess
import sys

import httpx

from tests.accounts import PASSWORD, log_in
from tests.outside.programs import installed, needed
from tests.sample_crews import crew_body

HOW = "this needs openapi-python-client; `pip install openapi-python-client` installs it"

OTHERS = ("application/x-ndjson", "application/zip", "text/csv", "application/vnd.apache.parquet")
LINES = dict.fromkeys(OTHERS, "application/octet-stream")
"""What it has no names of its own for."""

USE = """
import json
import sys
import time

from kasal_api_client import AuthenticatedClient, Client
from kasal_api_client.api.authentication_endpoints import get_me, login
from kasal_api_client.api.crew_management import create_crew, get_crew
from kasal_api_client.api.execution_management import create_execution, get_execution, get_execution_traces
from kasal_api_client.models import (
    CrewCreate, CrewDetails, ErrorBody, ExecutionCreate, ExecutionCreateInputs, LoginRequest,
)

url, email, password, crew = sys.argv[1:]

tokens = login.sync(client=Client(url), body=LoginRequest(email=email, password=password))
wrong = login.sync(client=Client(url), body=LoginRequest(email=email, password="not this one"))
assert isinstance(wrong, ErrorBody), wrong
assert wrong.error.code == "UNAUTHORIZED"

with AuthenticatedClient(url, tokens.access_token) as client:
    assert get_me.sync(client=client).email == email
    made = create_crew.sync(client=client, body=CrewCreate.from_dict(json.loads(crew)))
    details = get_crew.sync(made.id, client=client)
    assert isinstance(details, CrewDetails), details
    inputs = ExecutionCreateInputs.from_dict({"topic": "tea"})
    job = create_execution.sync(client=client, body=ExecutionCreate(crew_id=made.id, inputs=inputs))
    while (state := get_execution.sync(job.job_id, client=client)).status in ("queued", "running"):
        time.sleep(0.1)
    traces = get_execution_traces.sync(job.job_id, client=client)
    print(json.dumps({
        "crew": made.name,
        "agents": [agent.name for agent in details.agents],
        "status": state.status,
        "tokens": state.usage.total_tokens,
        "actions": [row.action for row in traces.traces],
    }))
"""


def test_it_logs_in_runs_a_crew_and_reads_its_trace(server, tmp_path):
    program = needed(installed("openapi-python-client"), HOW)
    (tmp_path / "openapi.json").write_text(httpx.get(f"{server.url}/v1/openapi.json").text)
    # What it is made with otherwise tidies the code up, and may not be installed.
    (tmp_path / "config.json").write_text(json.dumps({"post_hooks": [], "content_type_overrides": LINES}))
    made = subprocess.run(
        [
            *(program, "generate", "--path", "openapi.json", "--config", "config.json"),
            *("--meta", "none", "--output-path", "kasal_api_client", "--fail-on-warning"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    with log_in(server, "editor") as editor:
        email = editor.get("/auth/me").json()["email"]
    used = subprocess.run(
        [sys.executable, "-c", USE, f"{server.url}/v1", email, PASSWORD, json.dumps(crew_body())],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert used.returncode == 0, used.stdout + used.stderr
    told = json.loads(used.stdout)
    assert told["crew"] == "Report Crew"
    assert told["agents"] == ["Researcher", "Writer"]
    assert told["status"] == "completed"
    assert told["tokens"] > 0
    assert "calculator" in told["actions"]
