"""Questions that agents ask humans: asked in a run's events, answered over REST."""

import json

import pytest

from tests.accounts import log_in
from tests.api.test_tool_calls import answer, events, first
from tests.sample_crews import new_crew, wait_for

CREW = {
    "name": "Asking",
    "agents": [{"role": "Asker", "goal": "Ask", "model": "sandbox", "tools": ["ask_human"]}],
    "tasks": [{"description": "Ask", "expected_output": "An answer", "agent": "Asker"}],
}


def begin(api, **inputs):
    """Start a run that asks, and give its id."""
    answer = api.post("/executions", json={"crew_id": new_crew(api, CREW), "inputs": inputs})
    return answer.json()["job_id"]


def asked(api, live_server, job_id):
    connection = live_server.socket()
    try:
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id}))
        return first(events(connection), "input_request")
    finally:
        connection.close()


def test_a_question_waits_though_nobody_is_connected_and_its_answer_is_the_tools(api, live_server):
    job_id = begin(api, question="Which tea?", choices=["Green", "Black"], timeout=600)
    request = asked(api, live_server, job_id)
    (question,) = api.get(f"/executions/{job_id}").json()["questions"]
    assert question == {
        "call_id": request["call_id"],
        "agent": "Asker",
        "question": "Which tea?",
        "choices": ["Green", "Black"],
        "timeout": 600,
        "asked_at": question["asked_at"],
    }
    refused = answer(api, job_id, request["call_id"], result="oolong")
    assert refused.status_code == 400
    assert refused.json()["error"]["details"] == {
        "field": "result",
        "reason": "answer one of these: Green, Black",
    }
    # However it is written.
    assert answer(api, job_id, request["call_id"], result=" green ").status_code == 200
    state = wait_for(api, job_id)
    assert "ask_human says: Green" in state["result"]
    assert state["questions"] == []
    assert answer(api, job_id, request["call_id"], result="Black").status_code == 409


def test_that_there_is_no_answer_is_an_answer(api, live_server):
    job_id = begin(api)
    request = asked(api, live_server, job_id)
    assert answer(api, job_id, request["call_id"], error="Ask me tomorrow").status_code == 200
    assert "Ask me tomorrow" in wait_for(api, job_id)["result"]


def test_a_run_that_is_stopped_asks_no_more(api, live_server):
    job_id = begin(api)
    request = asked(api, live_server, job_id)
    assert api.post(f"/executions/{job_id}/stop").status_code == 200
    assert api.get(f"/executions/{job_id}").json()["questions"] == []
    assert answer(api, job_id, request["call_id"], result="yes").status_code == 409


def test_nobody_answers_for_another(api, live_server):
    job_id = begin(api)
    request = asked(api, live_server, job_id)
    with log_in(live_server) as other:
        assert answer(other, job_id, request["call_id"], result="yes").status_code == 404
    assert len(api.get(f"/executions/{job_id}").json()["questions"]) == 1
    api.post(f"/executions/{job_id}/stop")


def test_the_answer_is_a_row_of_the_trace(api, live_server):
    job_id = begin(api, question="Which tea?")
    answer(api, job_id, asked(api, live_server, job_id)["call_id"], result="green")
    wait_for(api, job_id)
    rows = api.get(f"/executions/{job_id}/traces", params={"kind": "tool"}).json()["traces"]
    assert [(row["action"], row["result"]) for row in rows] == [("ask_human", "green")]
    found = api.get(f"/executions/{job_id}/events", params={"kind": "input_request"}).json()["events"]
    assert [event["question"] for event in found] == ["Which tea?"]


@pytest.mark.parametrize("result", ["", "x" * 100_000])
def test_any_text_is_an_answer_where_there_is_nothing_to_choose_from(api, live_server, result):
    job_id = begin(api)
    request = asked(api, live_server, job_id)
    assert answer(api, job_id, request["call_id"], result=result).status_code == 200
    wait_for(api, job_id)
