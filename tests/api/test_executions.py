import pytest

from tests.crews import crew_body, is_time, new_crew, run, slow_crew, start, wait_for


@pytest.fixture(scope="module")
def report(live_server):
    """A completed execution of a crew with a tool, a context and an input."""
    with live_server.client() as client:
        return run(client, crew_body())[1]


def test_an_execution_is_accepted_as_in_the_reference(api):
    crew_id = new_crew(api, crew_body())
    inputs = {"topic": "Q4 Marketing Strategy", "deadline": "2024-12-31"}
    answer = api.post("/executions", json={"crew_id": crew_id, "inputs": inputs})
    assert answer.status_code == 202
    accepted = answer.json()
    assert accepted == {"job_id": accepted["job_id"], "status": "queued", "estimated_duration": 60}
    assert accepted["job_id"].startswith("job_")
    assert wait_for(api, accepted["job_id"])["inputs"] == inputs


def test_an_execution_that_runs(api):
    job_id = start(api, new_crew(api, slow_crew()))
    state = wait_for(api, job_id, "running")
    while state["current_task"] is None:
        state = api.get(f"/executions/{job_id}").json()
    assert state["job_id"] == job_id
    assert state["status"] == "running"
    assert state["progress"] == 0
    assert state["current_task"] == "research"
    assert is_time(state["started_at"])
    assert state["ended_at"] is None
    api.post(f"/executions/{job_id}/stop")


def test_an_execution_that_completed(api, report):
    state = api.get(f"/executions/{report['job_id']}").json()
    assert state["status"] == "completed"
    assert state["progress"] == 100
    assert state["current_task"] is None
    assert state["error"] is None
    assert state["result"].startswith("[sandbox]")
    assert is_time(state["created_at"])
    assert is_time(state["ended_at"])
    assert state["duration"] > 0
    usage = state["usage"]
    # The researcher asks for its tool and then answers; the writer answers.
    assert usage["llm_calls"] == 3
    assert usage["tool_calls"] == 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_traces_are_rows_of_what_was_done(api, report):
    answer = api.get(f"/executions/{report['job_id']}/traces")
    assert answer.status_code == 200
    assert set(answer.json()) == {"traces", "next"}
    rows = answer.json()["traces"]
    assert [row["action"] for row in rows] == [
        *("llm_call", "calculator", "llm_call", "task_complete"),
        *("llm_call", "task_complete"),
    ]
    assert [row["agent"] for row in rows] == ["Researcher"] * 4 + ["Writer"] * 2
    assert all(is_time(row["timestamp"]) for row in rows)
    assert all(isinstance(row["result"], str) and row["result"] for row in rows)
    assert all(row["duration_ms"] >= 0 for row in rows)
    assert rows[-1]["result"] == report["result"]


def test_traces_go_on_behind_a_row(api, report):
    path = f"/executions/{report['job_id']}/traces"
    rows = api.get(path).json()["traces"]
    found, after = [], 0
    while page := api.get(path, params={"after": after, "limit": 2}).json()["traces"]:
        found += page
        after = page[-1]["seq"]
    assert found == rows
    assert api.get(path, params={"limit": "x"}).status_code == 400


def test_the_context_reaches_the_second_task(api, live_server, report):
    journal = (live_server.folder / "runs" / f"{report['job_id']}.jsonl").read_text()
    second = next(line for line in journal.splitlines() if '"agent_start"' in line and '"Writer"' in line)
    assert "Previous analysis from Q3" in second
    assert "[sandbox]" in second


def test_an_execution_that_fails_says_why(api):
    _, state = run(api, crew_body(fail_at=2))
    assert state["status"] == "failed"
    assert state["progress"] == 0
    assert set(state["error"]) == {"code", "message", "task"}
    rows = api.get(f"/executions/{state['job_id']}/traces").json()["traces"]
    assert rows[-1]["type"] == "error"
    assert state["error"]["message"] in rows[-1]["result"]
    assert any(row["type"] == "llm_failed" and row["result"].startswith("Error: ") for row in rows)


def test_an_execution_is_stopped_for_good(api):
    job_id = start(api, new_crew(api, slow_crew()))
    wait_for(api, job_id, "running")
    answer = api.post(f"/executions/{job_id}/stop")
    assert answer.status_code == 200
    assert answer.json() == {"job_id": job_id, "status": "stopped"}
    assert wait_for(api, job_id)["status"] == "stopped"
    # Stopped once more is stopped.
    assert api.post(f"/executions/{job_id}/stop").json()["status"] == "stopped"


def test_what_has_ended_otherwise_cannot_be_stopped(api, report):
    answer = api.post(f"/executions/{report['job_id']}/stop")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "CONFLICT"
    assert api.get(f"/executions/{report['job_id']}").json() == report


def test_executions_in_a_list(api):
    crew_id, first = run(api, crew_body())
    second = wait_for(api, start(api, crew_id))
    listed = api.get("/executions", params={"crew_id": crew_id}).json()
    assert listed == {"executions": [second, first], "total": 2, "page": 1, "per_page": 100}
    failed = api.get("/executions", params={"crew_id": crew_id, "status": "failed"}).json()
    assert failed["total"] == 0


def test_the_estimate_comes_from_past_runs(api):
    crew_id, _ = run(api, crew_body())
    answer = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}}).json()
    assert 1 <= answer["estimated_duration"] < 60
    wait_for(api, answer["job_id"])


def test_a_crew_that_is_deleted_leaves_its_executions(api):
    crew_id, state = run(api, crew_body())
    api.delete(f"/crews/{crew_id}")
    assert api.get(f"/executions/{state['job_id']}").json() == state
