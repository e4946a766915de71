from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.accounts import log_in
from tests.sample_crews import ENDED, crew_body, is_time, new_crew, run, slow_crew, start, wait_for


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
    (remark,) = accepted.pop("remarks")
    assert remark["field"] == "inputs.deadline"
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
    assert usage["cost"] == 0.0
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


def test_a_retry_with_the_same_key_starts_nothing_again(api, live_server):
    crew_id = new_crew(api, crew_body())
    body = {"crew_id": crew_id, "inputs": {"topic": "tea", "more": [1, 2]}}
    key = {"Idempotency-Key": "4f9e6a0c-retry"}
    first = api.post("/executions", json=body, headers=key)
    assert first.status_code == 202
    again = api.post("/executions", json=dict(reversed(body.items())), headers=key)
    assert (again.status_code, again.json()) == (202, first.json())
    wait_for(api, first.json()["job_id"])
    assert api.post("/executions", json=body, headers=key).json() == first.json()
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 1
    other = api.post("/executions", json={**body, "inputs": {"topic": "coffee"}}, headers=key)
    assert other.status_code == 409
    assert first.json()["job_id"] in other.json()["error"]["message"]
    # Somebody else's key is another key.
    with log_in(live_server) as ada:
        own = {"crew_id": new_crew(ada, crew_body()), "inputs": {"topic": "tea"}}
        assert ada.post("/executions", json=own, headers=key).status_code == 202


def test_many_such_requests_at_once_start_one_run(api, live_server):
    crew_id = new_crew(api, crew_body())
    body = {"crew_id": crew_id, "inputs": {"topic": "tea"}}
    before = len(list((live_server.folder / "runs").glob("*.jsonl")))
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: api.post("/executions", json=body, headers={"Idempotency-Key": "once"}),
                range(16),
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    [job_id] = {answer.json()["job_id"] for answer in answers}
    wait_for(api, job_id)
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 1
    assert len(list((live_server.folder / "runs").glob("*.jsonl"))) == before + 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 201])
def test_a_key_that_is_none_is_refused(api, key):
    body = {"crew_id": new_crew(api, crew_body()), "inputs": {"topic": "tea"}}
    answer = api.post("/executions", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "Idempotency-Key"


def test_the_result_comes_at_the_end(api, report):
    result = api.get(f"/executions/{report['job_id']}/result").json()
    by = result.pop("usage_by")
    assert result == {name: report[name] for name in result}
    assert [(each["name"], each["llm_calls"], each["tool_calls"]) for each in by["tasks"]] == [
        ("research", 2, 1),
        ("report", 1, 0),
    ]
    assert [each["name"] for each in by["agents"]] == ["Researcher", "Writer"]
    (model,) = by["models"]
    # Each way to tell it apart adds up to the same.
    for shares in by.values():
        assert sum(each["total_tokens"] for each in shares) == result["usage"]["total_tokens"]
    assert (model["key"], model["cost"]) == ("sandbox", 0.0)
    told = {"job_id", "status", "result", "partial_result", "error", "usage", "duration", "calls"}
    assert set(result) == told
    assert result["usage"]["total_tokens"] > 0
    job_id = start(api, new_crew(api, slow_crew()))
    early = api.get(f"/executions/{job_id}/result")
    assert early.status_code == 409
    api.post(f"/executions/{job_id}/stop")
    assert api.get(f"/executions/{job_id}/result").json()["status"] == "stopped"


def test_an_execution_is_deleted_with_all_it_left(api, live_server):
    crew_id, execution = run(api, crew_body())
    job_id = execution["job_id"]
    assert api.delete(f"/executions/{job_id}").status_code == 204
    for path in ("", "/traces", "/events", "/result"):
        assert api.get(f"/executions/{job_id}{path}").status_code == 404
    assert not list((live_server.folder / "runs").glob(f"{job_id}*"))
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 0
    assert api.delete(f"/executions/{job_id}").status_code == 404


def test_a_running_execution_is_not_deleted(api):
    job_id = start(api, new_crew(api, slow_crew()))
    wait_for(api, job_id, "running")
    answer = api.delete(f"/executions/{job_id}")
    assert answer.status_code == 409
    assert "stop it first" in answer.json()["error"]["message"]
    api.post(f"/executions/{job_id}/stop")
    assert api.delete(f"/executions/{job_id}").status_code == 204


def test_progress_never_goes_back_and_the_current_task_is_named(api):
    job_id = start(api, new_crew(api, crew_body(latency=0.05)))
    states = []
    while not states or states[-1]["status"] not in ENDED:
        states.append(api.get(f"/executions/{job_id}").json())
    progress = [state["progress"] for state in states]
    assert progress == sorted(progress)
    assert [state["status"] for state in states if state["progress"] == 100] == ["completed"]
    named = {state["current_task"] for state in states if state["status"] == "running"}
    assert named >= {"research", "report"}


def test_a_trace_and_events_are_searched(api):
    _, ended = run(api, crew_body("Searched"))
    path = f"/executions/{ended['job_id']}"
    calls = api.get(f"{path}/events", params={"kind": "tool_call"}).json()["events"]
    word = str(next(iter(calls[0]["arguments"].values())))
    rows = api.get(f"{path}/traces", params={"find": word, "kind": "tool"}).json()["traces"]
    assert [row["action"] for row in rows] == ["calculator"]
    found = api.get(f"{path}/events", params={"find": "TEA"}).json()["events"]
    assert found
    assert all("tea" in str(event).lower() for event in found)
    assert api.get(f"{path}/traces", params={"failed": "true"}).json()["traces"] == []
    assert api.get(f"{path}/events", params={"find": "nowhere"}).json() == {"events": [], "next": None}
    # Not what every event has: its time, its ids.
    assert api.get(f"{path}/traces", params={"find": ended["job_id"]}).json()["traces"] == []
    assert api.get(f"{path}/traces", params={"find": "x" * 201}).status_code == 400
