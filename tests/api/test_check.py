"""The check of a crew without a run: what would keep it from running, all at once."""

import pytest

from tests.accounts import log_in
from tests.crews import crew_body, new_crew, run

PRICE = {"name": "price_of", "description": "Looks a price up", "parameters": {"type": "object"}}


def check(api, crew_id, **body):
    answer = api.post(f"/crews/{crew_id}/check", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_crew_that_can_run(api):
    crew_id = new_crew(api, crew_body())
    assert check(api, crew_id, inputs={"topic": "tea"}) == {
        "runnable": True,
        "faults": [],
        "estimated_duration": 60,
    }


def test_every_fault_at_once_is_the_same_as_a_starts(api):
    body = crew_body()
    body["agents"][0] |= {"model": "claude-of-another", "tools": ["calculater"]}
    crew_id = new_crew(api, body)
    checked = check(api, crew_id, tools=[PRICE, PRICE])
    assert not checked["runnable"]
    assert [fault["field"] for fault in checked["faults"]] == [
        "tools[1].name",
        "agents[0].tools[0]",
        "agents[0].model",
        "inputs.topic",
    ]
    refused = api.post("/executions", json={"crew_id": crew_id, "tools": [PRICE, PRICE]})
    assert refused.status_code == 400
    assert refused.json()["error"]["details"]["errors"] == checked["faults"]


def test_a_tool_of_the_client_is_found_when_it_is_brought_along(api):
    body = crew_body()
    body["agents"][0]["tools"] = ["price_of"]
    crew_id = new_crew(api, body)
    (fault,) = check(api, crew_id, inputs={"topic": "tea"})["faults"]
    assert fault["field"] == "agents[0].tools[0]"
    assert "@kasal.tool" in fault["reason"]
    assert check(api, crew_id, inputs={"topic": "tea"}, tools=[PRICE])["runnable"]


def test_nothing_is_started_or_stored(api):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}")
    check(api, crew_id, inputs={"topic": "tea"})
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 0
    after = api.get(f"/crews/{crew_id}")
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_the_duration_is_estimated_as_for_a_run(api):
    crew_id, execution = run(api, crew_body())
    assert execution["status"] == "completed"
    accepted = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}}).json()
    checked = check(api, crew_id, inputs={"topic": "tea"})
    assert checked["estimated_duration"] == accepted["estimated_duration"] < 60


@pytest.mark.parametrize(
    ("body", "field"),
    [({"inputs": []}, "inputs"), ({"tools": [{}]}, "tools[0].name"), ({"input": {}}, "input")],
)
def test_a_body_that_is_none_is_refused_by_field(api, body, field):
    answer = api.post(f"/crews/{new_crew(api, crew_body())}/check", json=body)
    assert answer.status_code == 400
    assert field in answer.text


def test_whose_crew_it_is_and_who_may_run_it(live_server):
    with log_in(live_server) as ada, log_in(live_server) as bob, log_in(live_server, "viewer") as viewer:
        crew_id = new_crew(ada, crew_body())
        assert check(ada, crew_id, inputs={"topic": "tea"})["runnable"]
        assert bob.post(f"/crews/{crew_id}/check", json={}).status_code == 404
        assert viewer.post(f"/crews/{crew_id}/check", json={}).status_code == 403
