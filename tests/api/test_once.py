from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for


def once(api, crew_id, topic="tea", **more):
    return api.post(
        "/executions", json={"crew_id": crew_id, "inputs": {"topic": topic}, "once": True, **more}
    )


@pytest.fixture(scope="module")
def answered(live_server):
    """A crew, and an execution of it that has completed."""
    with live_server.client() as client:
        crew_id = new_crew(client, crew_body())
        yield crew_id, wait_for(client, start(client, crew_id))


def test_what_was_asked_for_before_is_answered_at_once(api, answered):
    crew_id, before = answered
    answer = once(api, crew_id)
    assert answer.status_code == 200
    found = answer.json()
    recorded = found.pop("recorded")
    assert found == before
    assert recorded == {"from": before["job_id"], "age_seconds": recorded["age_seconds"], "saved": 0.0}
    assert recorded["age_seconds"] >= 0
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 1


def test_ten_requests_at_once_are_answered_alike(api, answered):
    crew_id, before = answered
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: once(api, crew_id), range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["recorded"]["from"] for answer in answers} == {before["job_id"]}


def test_what_is_asked_for_by_many_at_once_is_run_once(api):
    crew_id = new_crew(api, crew_body(latency=0.5))
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: once(api, crew_id), range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [202]
    (job_id,) = {answer.json()["job_id"] for answer in answers}
    assert wait_for(api, job_id)["status"] == "completed"
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == 1


def test_what_goes_on_answers_for_nobody_who_has_not_agreed_to_share_it(api):
    crew_id = new_crew(api, slow_crew())
    alone = start(api, crew_id)
    shared = once(api, crew_id)
    assert shared.status_code == 202
    joined = once(api, crew_id)
    assert joined.status_code == 200
    assert joined.json()["status"] in {"queued", "running"}
    assert joined.json()["recorded"]["from"] == shared.json()["job_id"] != alone
    # One with another budget would end otherwise.
    bounded = once(api, crew_id, budget={"max_tokens": 10})
    assert bounded.status_code == 202
    # One that was stopped answers for nobody.
    for job_id in (alone, shared.json()["job_id"], bounded.json()["job_id"]):
        api.post(f"/executions/{job_id}/stop")
    again = once(api, crew_id)
    assert again.status_code == 202
    api.post(f"/executions/{again.json()['job_id']}/stop")


def started(answer):
    """Give the new execution of an answer."""
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_another_question_is_another_run(api, answered):
    crew_id, before = answered
    other = started(once(api, crew_id, "coffee"))
    assert other["job_id"] != before["job_id"]
    assert wait_for(api, other["job_id"])["status"] == "completed"
    assert once(api, crew_id, "coffee").json()["recorded"]["from"] == other["job_id"]
    # Values that look alike are not the same.
    wait_for(api, started(once(api, crew_id, 1))["job_id"])
    for alike in ("1", True, 1.0, [1], None):
        assert once(api, crew_id, alike).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"model": "sandbox", "settings": {"temperature": 0.5}},
        {"model": "sandbox", "sandbox": {"answer_words": 12}},
        {"goal": "Find what does not matter about {topic}"},
        {"tools": []},
        {"backstory": "Has a past"},
    ],
)
def test_a_crew_that_has_changed_is_run_anew(api, change):
    body = crew_body()
    crew_id = new_crew(api, body)
    first = wait_for(api, start(api, crew_id))
    assert once(api, crew_id).status_code == 200
    agents = [{**body["agents"][0], **change}, body["agents"][1]]
    assert api.put(f"/crews/{crew_id}", json={"agents": agents}).status_code == 200
    second = wait_for(api, started(once(api, crew_id))["job_id"])
    assert second["job_id"] != first["job_id"]
    assert once(api, crew_id).json()["recorded"]["from"] == second["job_id"]


def test_a_task_that_has_changed_is_run_anew(api):
    body = crew_body()
    crew_id = new_crew(api, body)
    wait_for(api, start(api, crew_id))
    tasks = [body["tasks"][0], {**body["tasks"][1], "context": []}]
    assert api.put(f"/crews/{crew_id}", json={"tasks": tasks}).status_code == 200
    started(once(api, crew_id))


def test_an_equal_crew_is_another_one(api, answered):
    assert once(api, new_crew(api, crew_body())).status_code == 202


CLIENT_TOOL = {"name": "look", "description": "Look", "for_all": True}


@pytest.mark.parametrize(
    ("change", "more", "why"),
    [
        ({"memory": True}, {}, "remembers"),
        ({"tools": ["calculator", "file_reader"]}, {}, "file_reader looks at the world"),
        ({}, {"tools": [CLIENT_TOOL]}, "tools of the notebook (look)"),
    ],
)
def test_what_hangs_on_more_than_its_question_is_run_anew(api, change, more, why):
    body = crew_body()
    body["agents"][0]["tools"] = change.pop("tools", ["calculator"])
    crew_id = new_crew(api, body | change)
    for _ in range(2):
        accepted = started(once(api, crew_id, **more))
        (remark,) = (each for each in accepted["remarks"] if each["field"] == "once")
        assert why in remark["remark"]
        job_id = accepted["job_id"]
        api.post(f"/executions/{job_id}/stop")
    # Nobody who has not asked for it is told.
    plain = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}, **more}).json()
    assert "once" not in {each["field"] for each in plain["remarks"]}
    api.post(f"/executions/{plain['job_id']}/stop")


def test_knowledge_is_part_of_what_an_answer_hangs_on(api):
    crew_id = new_crew(api, crew_body())
    wait_for(api, start(api, crew_id))
    assert once(api, crew_id).status_code == 200
    given = api.post(
        f"/crews/{crew_id}/knowledge", json={"name": "prices.txt", "text": "Tea costs 3 dollars."}
    )
    assert given.status_code < 300, given.text
    api.post(f"/executions/{started(once(api, crew_id))['job_id']}/stop")


def test_only_what_has_completed_answers(api):
    crew_id = new_crew(api, crew_body(fail_at=1))
    assert wait_for(api, start(api, crew_id))["status"] == "failed"
    again = started(once(api, crew_id))
    assert wait_for(api, again["job_id"])["status"] == "failed"


def test_an_answer_is_its_owners_alone(live_server, api):
    with log_in(live_server) as ada:
        crew_id = new_crew(ada, crew_body())
        hers = wait_for(ada, start(ada, crew_id))
        assert once(ada, crew_id).json()["recorded"]["from"] == hers["job_id"]
        # An administrator may run her crew, and gets an execution of their own.
        mine = started(once(api, crew_id))
        assert mine["job_id"] != hers["job_id"]
        wait_for(api, mine["job_id"])
        assert once(ada, crew_id).json()["recorded"]["from"] == hers["job_id"]
    with log_in(live_server) as bob:
        assert once(bob, crew_id).status_code == 404


def test_an_execution_that_is_deleted_answers_no_more(api):
    crew_id = new_crew(api, crew_body())
    first = wait_for(api, start(api, crew_id))
    assert api.delete(f"/executions/{first['job_id']}").status_code == 204
    started(once(api, crew_id))


def test_the_newest_answers(api):
    crew_id = new_crew(api, crew_body())
    jobs = [wait_for(api, start(api, crew_id))["job_id"] for _ in range(2)]
    assert once(api, crew_id).json()["recorded"]["from"] == jobs[-1]


def test_keys_and_once_keep_out_of_each_others_way(api, answered):
    crew_id, before = answered
    body = {"crew_id": crew_id, "inputs": {"topic": "keys"}, "once": True}
    first = api.post("/executions", json=body, headers={"Idempotency-Key": "once-1"})
    assert first.status_code == 202
    job_id = first.json()["job_id"]
    # The same request again is the same answer, whatever has become of the run.
    again = api.post("/executions", json=body, headers={"Idempotency-Key": "once-1"})
    assert (again.status_code, again.json()) == (202, first.json())
    wait_for(api, job_id)
    assert api.post("/executions", json=body, headers={"Idempotency-Key": "once-1"}).status_code == 202
    # Another key asks anew, and is answered by the record; a key that has started nothing is free still.
    other = api.post("/executions", json=body, headers={"Idempotency-Key": "once-2"})
    assert (other.status_code, other.json()["recorded"]["from"]) == (200, job_id)
    plain = {"crew_id": crew_id, "inputs": {"topic": "keys"}}
    run = api.post("/executions", json=plain, headers={"Idempotency-Key": "once-2"})
    assert run.status_code == 202
    assert run.json()["job_id"] not in {job_id, before["job_id"]}
    # Of one key, what is asked for includes whether an earlier answer will do.
    assert api.post("/executions", json=plain, headers={"Idempotency-Key": "once-1"}).status_code == 409


def test_what_cannot_run_is_refused(api):
    body = crew_body()
    crew_id = new_crew(api, body)
    answer = api.post("/executions", json={"crew_id": crew_id, "once": True})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "inputs.topic"
