"""Runs whose tools the client answers for: attendance over the WebSocket, answers over REST."""

import json
from contextlib import contextmanager

import pytest
import websocket

from tests.accounts import log_in
from tests.sample_crews import new_crew, wait_for

TOOL = {"name": "price_of", "description": "Tells a price", "timeout": 300}


def body(*tools, **sandbox):
    return {
        "name": "Client tools",
        "agents": [
            {"role": "Buyer", "goal": "Buy", "model": "sandbox", "tools": list(tools), "sandbox": sandbox}
        ],
        "tasks": [{"description": "Find the price", "expected_output": "A number", "agent": "Buyer"}],
    }


def begin(api, tool=None, **sandbox):
    crew_id = new_crew(api, body("price_of", **sandbox))
    answer = api.post("/executions", json={"crew_id": crew_id, "tools": [TOOL | (tool or {})]})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


@contextmanager
def serving(live_server, job_id, **fields):
    """Follow a run, and answer for its tools by default; give its events."""
    connection = live_server.socket()
    try:
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id, "serve": True} | fields))
        yield events(connection)
    finally:
        connection.close()


def events(connection):
    while True:
        yield json.loads(connection.recv())


def first(stream, kind):
    return next(event for event in stream if event["type"] == kind)


def answer(api, job_id, call_id, **said):
    return api.post(f"/executions/{job_id}/tool_calls/{call_id}", json=said)


def test_a_call_is_announced_answered_once_and_then_no_more(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        request = first(stream, "tool_request")
        assert request["tool"] == "price_of"
        call_id = request["call_id"]
        said = answer(api, job_id, call_id, result="17.50")
        assert said.status_code == 200
        assert said.json() == {"call_id": call_id, "status": "answered"}
        assert first(stream, "tool_result")["result"] == "17.50"
        again = answer(api, job_id, call_id, result="18")
        assert again.status_code == 409
        assert again.json()["error"]["code"] == "CONFLICT"
    assert "17.50" in wait_for(api, job_id)["result"]
    assert answer(api, job_id, call_id, result="18").status_code == 409


def test_an_error_is_told_to_the_agent(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        answer(api, job_id, first(stream, "tool_request")["call_id"], error="ValueError: no such tea")
        assert first(stream, "tool_failed")["error"]["message"] == "ValueError: no such tea"
    assert wait_for(api, job_id)["status"] == "completed"


@pytest.mark.parametrize(
    "said", [{}, {"result": "1", "error": "2"}, {"result": None}, {"result": 3}, {"results": "1"}]
)
def test_exactly_one_of_result_and_error_is_an_answer(live_server, api, said):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        call_id = first(stream, "tool_request")["call_id"]
        assert answer(api, job_id, call_id, **said).status_code == 400
        # It is open still.
        assert answer(api, job_id, call_id, result="").status_code == 200
    wait_for(api, job_id)


def test_a_call_that_is_not_there_is_not_found(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        first(stream, "tool_request")
        assert answer(api, job_id, "call_unknown", result="1").status_code == 404
        api.post(f"/executions/{job_id}/stop")
    assert answer(api, "job_unknown", "call_unknown", result="1").status_code == 404


def test_a_call_whose_time_is_over_takes_no_answer(live_server, api):
    job_id = begin(api, {"timeout": 0.3})
    with serving(live_server, job_id) as stream:
        call_id = first(stream, "tool_request")["call_id"]
        assert "within 0.3 seconds" in first(stream, "tool_failed")["error"]["message"]
        assert answer(api, job_id, call_id, result="late").status_code == 409
    assert wait_for(api, job_id)["status"] == "completed"


def test_a_connection_that_comes_back_in_time_may_answer_and_where_none_does_calls_fail(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        request = first(stream, "tool_request")
    with serving(live_server, job_id, after=request["seq"]) as stream:
        alone = begin(api, latency=0.2)
        # A connection that only watches is not one that answers.
        with serving(live_server, alone, serve=False) as watched:
            assert first(watched, "tool_request")["tool"] == "price_of"
            message = first(watched, "tool_failed")["error"]["message"]
        assert "The notebook that has the tool price_of is no longer connected" in message
        # As long as an absence may last, and it was only an absence.
        assert answer(api, job_id, request["call_id"], result="17.50").status_code == 200
        assert first(stream, "tool_result")["result"] == "17.50"
    for each in (job_id, alone):
        assert wait_for(api, each)["status"] == "completed"


def test_to_unsubscribe_or_to_watch_on_without_serving_is_to_leave(live_server, api):
    job_id = begin(api)
    connection = live_server.socket()
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id, "serve": True}))
    request = first(events(connection), "tool_request")
    connection.send(json.dumps({"type": "subscribe", "job_id": job_id, "after": request["seq"]}))
    assert "no longer connected" in first(events(connection), "tool_failed")["error"]["message"]
    connection.close()
    wait_for(api, job_id)


def test_somebody_elses_call_is_not_there_and_no_viewer_answers_or_serves(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        call_id = first(stream, "tool_request")["call_id"]
        with log_in(live_server) as other:
            assert answer(other, job_id, call_id, result="1").status_code == 404
            assert refusal(live_server, other, job_id)["code"] == "NOT_FOUND"
        with log_in(live_server, "viewer") as viewer:
            assert answer(viewer, job_id, call_id, result="1").status_code == 403
        answer(api, job_id, call_id, result="1")
    wait_for(api, job_id)


def refusal(live_server, client, job_id):
    """Try to serve with another's token."""
    authorization = client.headers["Authorization"]
    connection = websocket.create_connection(
        f"{live_server.url.replace('http', 'ws', 1)}/v1/ws", header=[f"Authorization: {authorization}"]
    )
    try:
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id, "serve": True}))
        return json.loads(connection.recv())
    finally:
        connection.close()


def test_a_viewer_may_watch_a_run_and_not_serve_it(live_server, api):
    with log_in(live_server) as editor:
        job_id = begin(editor)
        with demoted(api, editor):
            refused = refusal(live_server, editor, job_id)
            assert refused["code"] == "FORBIDDEN"
        editor.post(f"/executions/{job_id}/stop")


@contextmanager
def demoted(api, client):
    """Make a user a viewer for a while."""
    user_id = client.get("/auth/me").json()["id"]
    assert api.put(f"/users/{user_id}", json={"role": "viewer"}).status_code == 200
    yield
    assert api.put(f"/users/{user_id}", json={"role": "editor"}).status_code == 200


def test_answers_are_taken_in_maintenance_mode_as_executions_go_on(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        call_id = first(stream, "tool_request")["call_id"]
        api.put("/maintenance", json={"enabled": True})
        try:
            assert answer(api, job_id, call_id, result="1").status_code == 200
        finally:
            api.put("/maintenance", json={"enabled": False})
    wait_for(api, job_id)


def test_traces_have_no_row_for_a_request_and_events_do(live_server, api):
    job_id = begin(api)
    with serving(live_server, job_id) as stream:
        answer(api, job_id, first(stream, "tool_request")["call_id"], result="1")
        first(stream, "tool_result")
    wait_for(api, job_id)
    rows = api.get(f"/executions/{job_id}/traces").json()["traces"]
    assert [row["type"] for row in rows if row["action"] == "price_of"] == ["tool_result"]
    (request,) = api.get(f"/executions/{job_id}/events", params={"kind": "tool_request"}).json()["events"]
    assert request["tool"] == "price_of"
