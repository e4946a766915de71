"""Text that no UTF-8 can hold, sent to the API: JSON that names half of a pair of surrogates."""

import json

from tests.sample_crews import crew_body, wait_for

HEADERS = {"Content-Type": "application/json"}


def half(body):
    """Write a body as JSON in which ``HALF`` is half of a pair."""
    return json.dumps(body).replace("HALF", "\\ud800").encode()


def test_half_a_pair_in_a_crew_and_in_an_input_is_replaced_and_the_crew_runs(api):
    crew = api.post("/crews", content=half(crew_body("Tea HALF")), headers=HEADERS)
    assert crew.status_code == 201, crew.text
    crew_id = crew.json()["id"]
    assert api.get(f"/crews/{crew_id}").json()["name"] == "Tea \ufffd"
    body = {"crew_id": crew_id, "inputs": {"topic": "green HALF", "HALF": "HALF"}}
    started = api.post("/executions", content=half(body), headers=HEADERS)
    assert started.status_code in {200, 201, 202}, started.text
    run = wait_for(api, started.json()["job_id"])
    assert run["status"] == "completed", run
    traces = api.get(f"/executions/{run['job_id']}/traces")
    assert "green \ufffd" in traces.text
    api.delete(f"/crews/{crew_id}")


def test_an_imported_crew_may_name_it_in_yaml(api):
    yaml = (
        'name: "Tea \\ud800"\nagents:\n  a:\n    role: A\n    goal: "b \\udfff"\n    llm: sandbox\n'
        "tasks:\n  t:\n    description: d\n    expected_output: e\n    agent: a\n"
    )
    made = api.post("/crews/import", json={"text": yaml, "format": "yaml"})
    assert made.status_code == 201, made.text
    assert made.json()["name"] == "Tea \ufffd"
    api.delete(f"/crews/{made.json()['id']}")
