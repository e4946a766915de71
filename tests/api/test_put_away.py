"""Runs that wait for people: without a process, beside others, and longer than their server lives."""

import os
import signal
import time

import psutil

from tests.api.test_tool_calls import answer
from tests.sample_crews import new_crew, wait_for
from tests.server import start_server

CREW = {
    "name": "Careful",
    "agents": [
        {"role": "Counter", "goal": "Count", "model": "sandbox", "tools": ["calculator"]},
        {
            "role": "Writer",
            "goal": "Write",
            "model": "sandbox",
            "needs_approval": ["calculator"],
            "tools": ["calculator"],
        },
    ],
    "tasks": [
        {"description": "Count", "expected_output": "A sum", "agent": "Counter"},
        {"description": "Draft", "expected_output": "A text", "agent": "Counter", "human_input": True},
        {"description": "Write", "expected_output": "A text", "agent": "Writer"},
    ],
}
OPTIONS = ("--KasalApp.put_away_seconds=0", "--KasalApp.max_running=1")


def waiting(api, kind, job_id=None):
    """Start a run, or go on with one, and give it as it waits for a person, without a process."""
    if job_id is None:
        body = {
            "crew_id": new_crew(api, CREW),
            "inputs": {"expression": "1 + 1"},
            "budget": {"max_seconds": 60},
        }
        job_id = api.post("/executions", json=body).json()["job_id"]
    while True:
        state = wait_for(api, job_id, "waiting_for_input", "failed")
        assert state["status"] == "waiting_for_input", state
        if state["questions"][0]["kind"] == kind:
            return job_id, state["questions"][0]["call_id"]


def story(api, job_id):
    events = api.get(f"/executions/{job_id}/events").json()["events"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["job_id"] for event in events}) == 1
    opened = [event["span_id"] for event in events if event["type"] in OPENS]
    closed = [event["span_id"] for event in events if event["type"] in CLOSES]
    assert len(opened) == len(set(opened))
    assert sorted(opened) == sorted(closed)
    return [event["type"] for event in events if event["type"] not in {"llm_chunk"} | RUNS]


RUNS = {"execution_status"}
OPENS = {"task_start", "agent_start", "llm_call", "tool_call"}
CLOSES = {"task_complete", "agent_complete", "llm_response", "tool_result"}


def at_work(server):
    """Say whether any process of the server's is a run's: it writes what is printed into the run's folder."""
    return any(_is_runs(each) for each in psutil.Process(server.process.pid).children(recursive=True))


def _is_runs(process):
    try:
        return any("job_" in file.path for file in process.open_files())
    except psutil.Error:
        return False


def begun(api, job_id):
    """Give how many processes a run has had."""
    events = api.get(f"/executions/{job_id}/events", params={"kind": "status"}).json()["events"]
    return [event["status"] for event in events].count("running")


def answered(api, job_id, asked):
    """Answer both questions of a run, and give what it has told then."""
    for kind, known in asked:
        call_id = known or waiting(api, kind, job_id)[1]
        assert answer(api, job_id, call_id, result="approve").status_code == 200
        assert answer(api, job_id, call_id, result="reject").status_code == 409
    state = wait_for(api, job_id)
    assert state["status"] == "completed", state
    return story(api, job_id), state["result"], state["usage"], state["calls"]


def two_at_once(api):
    """Have two tasks wait at the same time, and answer them one after the other."""
    later = {"async_execution": True, "human_input": True}
    tasks = [
        {"description": text, "expected_output": "A text", "agent": who, **fields}
        for text, who, fields in (("One", "Counter", later), ("Two", "Other", later), ("Join", "Other", {}))
    ]
    agents = [{"role": who, "goal": "Work", "model": "sandbox"} for who in ("Counter", "Other")]
    crew = {"name": "Both", "agents": agents, "tasks": tasks}
    job_id = api.post("/executions", json={"crew_id": new_crew(api, crew)}).json()["job_id"]
    asked = []
    while len(asked) < 2:
        asked = wait_for(api, job_id, "waiting_for_input", "failed")["questions"]
    for question in asked:
        assert answer(api, job_id, question["call_id"], result="approve").status_code == 200
        state = wait_for(api, job_id, "waiting_for_input", "completed", "failed")
    assert wait_for(api, job_id)["status"] == "completed", state
    assert story(api, job_id).count("input_request") == 2
    assert begun(api, job_id) > 1


def test_a_run_that_was_put_away_goes_on_as_if_nothing_had_been(tmp_path, live_server):
    with live_server.client() as api:
        # Its process waits.
        job_id, _ = waiting(api, "review")
        undisturbed = answered(api, job_id, [("review", None), ("approval", None)])
        assert begun(api, job_id) == 1
    server = start_server(tmp_path / "room", *OPTIONS)

    def next_one(ends):
        os.kill(server.process.pid, ends)
        server.process.wait()
        return start_server(tmp_path / f"room{ends}", *OPTIONS, folder=server.folder)

    try:
        with server.client() as api:
            job_id, call_id = waiting(api, "review")
            # In the only place that there is.
            other, _ = waiting(api, "review")
            while at_work(server):
                time.sleep(0.05)
            assert answered(api, other, [("review", None), ("approval", None)]) == undisturbed
            assert begun(api, other) > 1
            two_at_once(api)
        server = next_one(signal.SIGKILL)
        with server.client() as api:
            assert api.get(f"/executions/{job_id}").json()["status"] == "waiting_for_input"
            assert answer(api, job_id, call_id, result="approve").status_code == 200
            assert answer(api, job_id, call_id, result="reject").status_code == 409
            _, call_id = waiting(api, "approval", job_id)
        server = next_one(signal.SIGTERM)
        with server.client() as api:
            assert answered(api, job_id, [("approval", call_id)]) == undisturbed
            assert begun(api, job_id) == 3
            stopped, _ = waiting(api, "review")
            assert api.post(f"/executions/{stopped}/stop").json()["status"] == "stopped"
            partial = api.get(f"/executions/{stopped}").json()["partial_result"]
            assert "calculator says: 2" in partial
    finally:
        server.close()
