"""Stored documents that can't be read, over the API: lists are given without them, and they are deleted."""

import time
from types import SimpleNamespace

import pytest
from tinydb import where

from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.store.store import Store
from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, start, wait_for

MEMORY = {"type": "short_term", "content": "Tea is drunk hot"}
KNOWLEDGE = {"name": "tea.txt", "text": "All about tea"}
TOOL = {"description": "Query", "endpoint": "https://api.example.com/", "auth_type": "bearer"}


@pytest.fixture(scope="module")
def house(live_server):
    """A user with two of everything, and a second way into the store."""
    with (
        log_in(live_server) as ada,
        log_in(live_server) as bob,
        Store.open(live_server.folder, SCHEMAS) as store,
    ):
        yield SimpleNamespace(ada=ada, bob=bob, store=store)


def created(api, path, body, key="id"):
    answer = api.post(path, json=body)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()[key]


def crew_of(house):
    return new_crew(house.ada, crew_body())


def agent_of(house):
    agents = house.ada.get(f"/crews/{crew_of(house)}").json()["agents"]
    return agents[0]["id"]


def task_of(house):
    return house.ada.get(f"/crews/{crew_of(house)}").json()["tasks"][1]["id"]


def execution_of(house):
    job_id = start(house.ada, crew_of(house))
    wait_for(house.ada, job_id)
    # It is stored once more when its process is gone.
    end = time.monotonic() + 60
    while house.store.executions.get(job_id).booked is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return job_id


MADE = {
    "crews": (crew_of, "/crews", "/crews/{}"),
    "agents": (agent_of, "/agents", "/agents/{}"),
    "tasks": (task_of, "/tasks", "/tasks/{}"),
    "executions": (execution_of, "/executions", "/executions/{}"),
    "tools": (
        lambda house: created(house.ada, "/tools/custom", {**TOOL, "name": f"t{next(numbers)}"}, "tool_id"),
        "/tools/custom",
        "/tools/custom/{}",
    ),
    "api_keys": (
        lambda house: created(house.ada, "/auth/keys", {"name": f"k{next(numbers)}"}),
        "/auth/keys",
        None,
    ),
}
numbers = iter(range(100))


def damage(house, collection, document_id, field="created_at"):
    """Write into the file what no server would."""
    house.store.db.table(collection).update({field: {"no": "time"}}, where("id") == document_id)


def items(answer):
    assert answer.status_code == 200, answer.text
    (listed,) = (value for value in answer.json().values() if isinstance(value, list))
    return listed, answer.json().get("total", len(listed))


@pytest.mark.parametrize("collection", MADE)
def test_a_list_is_given_without_it_and_it_can_be_deleted(house, collection):
    make, path, one = MADE[collection]
    kept, broken = make(house), make(house)
    before, total = items(house.ada.get(path))
    damage(house, collection, broken)
    for query in ({}, {"sort": "created_at"}, {"search": "e"}) if collection != "api_keys" else ({},):
        listed, count = items(house.ada.get(path, params=query))
        assert str(broken) not in str(listed)
        assert kept in str(listed)
        if not query:
            assert (len(listed), count) == (len(before) - 1, total - 1)
    if one is not None:
        answer = house.ada.get(one.format(broken))
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "STORE_ERROR")
        assert broken in answer.json()["error"]["message"]
        assert "created_at" in answer.json()["error"]["message"]
        # What is somebody else's is not there, in whatever state it is.
        assert house.bob.get(one.format(broken)).status_code == 404
    address = (one or f"{path}/{{}}").format(broken)
    assert house.bob.delete(address).status_code == 404
    assert house.ada.delete(address).status_code == 204
    assert house.ada.delete(address).status_code == 404
    assert not getattr(house.store, collection).has(broken)


def test_a_crew_s_memory_and_knowledge_are_given_without_it(house):
    crew_id = crew_of(house)
    for path, list_path, body, key, collection in (
        (f"/memory/{crew_id}", f"/memory/{crew_id}/entries", MEMORY, "id", "memories"),
        (f"/crews/{crew_id}/knowledge", f"/crews/{crew_id}/knowledge", KNOWLEDGE, "id", "knowledge"),
    ):
        kept, broken = (
            created(house.ada, path, {**body, **({"name": f"{n}.txt"} if "name" in body else {})}, key)
            for n in range(2)
        )
        damage(house, collection, broken)
        listed, total = items(house.ada.get(list_path))
        assert ([each["id"] for each in listed], total) == ([kept], 1)
        assert house.ada.delete(f"{path}/{broken}").status_code == 204
        assert house.ada.delete(f"{path}/{broken}").status_code == 404
    assert house.ada.get(f"/memory/{crew_id}/search", params={"query": "tea"}).status_code == 200


def test_a_crew_with_a_part_that_cannot_be_read_does_not_run_without_it(house):
    crew_id = crew_of(house)
    broken = house.ada.get(f"/crews/{crew_id}").json()["tasks"][1]["id"]
    damage(house, "tasks", broken, "description")
    for answer in (
        house.ada.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": "tea"}}),
        house.ada.get(f"/crews/{crew_id}"),
    ):
        assert answer.status_code == 500
        assert broken in answer.json()["error"]["message"]
    assert house.ada.delete(f"/crews/{crew_id}").status_code == 204


def test_a_run_ends_and_is_booked_whatever_lies_beside_it(house):
    job_id = execution_of(house)
    crew_id = house.ada.get(f"/executions/{job_id}").json()["crew_id"]
    assert house.ada.get("/usage", params={"crew_id": crew_id}).json()["whole"]["runs"] == 1
    # It is booked when its process is gone.
    end = time.monotonic() + 60
    while not (booked := house.store.ledger.find(crew_id=crew_id)):
        assert time.monotonic() < end
        time.sleep(0.02)
    damage(house, "ledger", booked[0].id, "usage")
    again = start(house.ada, crew_id)
    assert wait_for(house.ada, again)["status"] == "completed"
    answer = house.ada.get("/usage", params={"crew_id": crew_id, "group_by": "crew"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["groups"][0]["runs"] == 1


def test_the_server_s_own_settings_keep_nobody_out(house, api):
    assert api.put("/maintenance", json={"enabled": False}).status_code == 200
    damage(house, "settings", "maintenance", "enabled")
    assert house.ada.get("/crews").status_code == 200
    assert api.put("/maintenance", json={"enabled": False}).status_code == 200
