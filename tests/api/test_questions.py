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
        "kind": "question",
        "task": "Ask",
        **dict.fromkeys(["on_timeout", "output", "tool", "arguments", "digest", "crew_version"]),
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


# -- reviews and approvals -----------------------------------------------------------------------------


def changed(**fields):
    """The crew, with a calculator whose calls need leave, and other fields."""
    agents = [CREW["agents"][0] | {"tools": ["calculator"], "needs_approval": ["calc*(expression=1*)"]}]
    return {**CREW, "agents": agents, **fields}


def waiting(api, crew, **inputs):
    """Start a run, and give its id when it waits for a person, with what it asks."""
    body = {"crew_id": new_crew(api, crew), "inputs": inputs}
    job_id = api.post("/executions", json=body).json()["job_id"]
    state = wait_for(api, job_id, "waiting_for_input")
    return job_id, state["questions"][0]


def test_of_several_answers_the_first_counts_and_it_is_on_record_who_gave_it(api):
    job_id, asked = waiting(api, changed(), expression="1 + 1")
    assert (asked["kind"], asked["tool"]) == ("approval", "calculator")
    assert (asked["arguments"], asked["choices"]) == ({"expression": "1 + 1"}, ["approve", "reject"])
    call_id = asked["call_id"]
    assert answer(api, job_id, call_id, result=" ").status_code == 400
    assert answer(api, job_id, call_id, result="reject", arguments={}).status_code == 400
    said = answer(api, job_id, call_id, result="Approve", arguments={"expression": "2 + 2"})
    assert said.status_code == 200, said.text
    # Before anything else has happened.
    assert answer(api, job_id, call_id, result="reject").status_code == 409
    assert "calculator says: A person has changed" in wait_for(api, job_id)["result"]
    found = api.get(f"/executions/{job_id}/events", params={"kind": "tool"}).json()["events"]
    kinds = ["tool_call", "input_request", "input_answer", "tool_approved", "tool_result"]
    assert [event["type"] for event in found] == kinds
    assert (found[2]["call_id"], found[2]["by"]) == (call_id, "jupyter")
    assert found[3]["arguments"] == {"expression": "2 + 2"}
    required = api.get(f"/executions/{job_id}/events", params={"kind": "input_required"}).json()["events"]
    assert [event["call_id"] for event in required] == [call_id]


@pytest.mark.parametrize(
    ("then", "status", "says"),
    [
        ("approve", "completed", "says: 2"),
        ("reject", "completed", "not made"),
        ("fail", "failed", "INPUT_TIMEOUT"),
    ],
)
def test_what_happens_where_nobody_answers_is_the_crews_to_say(api, then, status, says):
    crew = changed(people={"timeout": 1, "on_timeout": then})
    body = {"crew_id": new_crew(api, crew), "inputs": {"expression": "1 + 1"}}
    state = wait_for(api, api.post("/executions", json=body).json()["job_id"])
    assert state["status"] == status
    assert says in str(state)


def test_an_agent_is_told_that_nobody_has_answered_its_question(api):
    state = wait_for(api, begin(api, timeout=1))
    assert (state["status"], "Nobody answered within 1 seconds" in state["result"]) == ("completed", True)


def test_a_result_is_reviewed_and_done_again(api):
    task = CREW["tasks"][0] | {"human_input": True}
    agents = [CREW["agents"][0] | {"tools": []}]
    job_id, asked = waiting(api, {**CREW, "agents": agents, "tasks": [task]})
    assert asked["kind"] == "review"
    assert asked["output"]
    assert answer(api, job_id, asked["call_id"], result="Shorter, please").status_code == 200
    again = asked
    while again["call_id"] == asked["call_id"]:
        again = wait_for(api, job_id, "waiting_for_input", "failed")["questions"][0]
    # CrewAI's empty answer accepts.
    assert answer(api, job_id, again["call_id"], result="").status_code == 200
    assert wait_for(api, job_id)["status"] == "completed"


def test_those_whom_the_crew_names_may_answer_and_nobody_else(api, live_server):
    with log_in(live_server) as friend, log_in(live_server) as stranger:
        name = friend.get("/auth/me").json()["email"]
        job_id, asked = waiting(api, changed(people={"may_answer": [name]}), expression="1 + 1")
        listed = [each["job_id"] for each in friend.get("/questions").json()["questions"]]
        assert listed == [job_id]
        assert stranger.get("/questions").json()["questions"] == []
        assert answer(stranger, job_id, asked["call_id"], result="approve").status_code == 404
        # To answer is all that they may.
        assert friend.get(f"/executions/{job_id}").status_code == 404
        assert answer(friend, job_id, asked["call_id"], result="approve").status_code == 200
    assert wait_for(api, job_id)["status"] == "completed"
    found = api.get(f"/executions/{job_id}/events", params={"kind": "input_answer"}).json()["events"]
    assert [event["by"] for event in found] == [name]


@pytest.mark.parametrize("rule", ["", "(x=1)", "calculator(1)", "a(b=1"])
def test_a_rule_that_is_none_is_refused(api, rule):
    crew = changed(needs_approval=[rule])
    assert api.post("/crews", json=crew).status_code == 400
