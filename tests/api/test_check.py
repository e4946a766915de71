"""The check of a crew without a run: what would keep it from running, all at once."""

import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, run, start, wait_for

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
        # Nothing is guessed where no past run tells.
        "estimate": {"runs": 0, "tokens": None, "cost": None, "seconds": None},
        "remarks": [],
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


def test_past_runs_tell_what_the_next_may_take(api):
    crew_id, first = run(api, crew_body())
    wait_for(api, start(api, crew_id))
    estimate = check(api, crew_id, inputs={"topic": "tea"})["estimate"]
    tokens = first["usage"]["total_tokens"]
    assert estimate["runs"] == 2
    # The sandbox model says the same each time, and costs nothing.
    assert estimate["tokens"] == {"median": tokens, "low": tokens, "high": tokens}
    assert estimate["cost"] == {"median": 0, "low": 0, "high": 0}
    seconds = estimate["seconds"]
    assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]


def test_runs_with_other_models_say_nothing_of_what_it_costs(api):
    """A crew that was tried in the sandbox is not free with a real model."""
    body = crew_body()
    crew_id, _ = run(api, body)
    body["agents"][1]["model"] = "gpt-4o"
    assert api.put(f"/crews/{crew_id}", json={"agents": body["agents"]}).status_code == 200
    checked = check(api, crew_id, inputs={"topic": "tea"})
    assert checked["estimate"] == {"runs": 0, "tokens": None, "cost": None, "seconds": None}


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
