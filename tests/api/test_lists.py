import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, start, wait_for

LISTS = [
    ("/crews", "crews"),
    ("/agents", "agents"),
    ("/tasks", "tasks"),
    ("/executions", "executions"),
    ("/usage", "groups"),
    ("/tools", "tools"),
    ("/tools/custom", "tools"),
    ("/auth/keys", "keys"),
]


@pytest.fixture(scope="module")
def ada(live_server):
    with log_in(live_server) as client:
        for name in ("Delta", "alpha", "Charlie", "bravo"):
            body = crew_body(name)
            body["description"] = f"All about {name.upper()}"
            crew_id = new_crew(client, body)
        for topic in ("tea", "coffee", "cocoa"):
            wait_for(client, start(client, crew_id, topic))
        yield client


@pytest.mark.parametrize(("path", "key"), LISTS)
def test_every_list_comes_in_pages(ada, path, key):
    whole = ada.get(path).json()
    assert whole["total"] == len(whole[key])
    assert (whole["page"], whole["per_page"]) == (1, 100)
    pages = []
    for page in range(1, whole["total"] + 2):
        part = ada.get(path, params={"page": page, "per_page": 1}).json()
        assert (part["total"], part["page"], part["per_page"]) == (whole["total"], page, 1)
        pages += part[key]
    assert pages == whole[key]


@pytest.mark.parametrize(("path", "key"), [*LISTS, ("/users", "users")])
def test_a_list_is_asked_for_in_its_own_words(api, path, key):
    assert key in api.get(path).json()
    for query, field in (("sort=colour", "sort"), ("page=0", "page"), ("serach=x", "serach")):
        answer = api.get(f"{path}?{query}")
        assert answer.status_code == 400, query
        assert answer.json()["error"]["details"]["field"] == field


def test_an_unknown_parameter_is_answered_with_the_nearest(api):
    details = api.get("/crews?serach=x").json()["error"]["details"]
    assert "did you mean 'search'?" in details["reason"]


def test_what_jupyterlab_adds_against_caches_is_passed_over(api):
    assert api.get("/crews?1732468000000").status_code == 200


def names(client, **query):
    return [crew["name"] for crew in client.get("/crews", params=query).json()["crews"]]


def test_crews_are_sorted(ada):
    assert names(ada) == ["bravo", "Charlie", "alpha", "Delta"]
    assert names(ada, sort="created_at") == ["Delta", "alpha", "Charlie", "bravo"]
    assert names(ada, sort="name") == ["alpha", "bravo", "Charlie", "Delta"]
    assert names(ada, sort="-name", page=2, per_page=3) == ["alpha"]
    crew_id = ada.get("/crews", params={"name": "alpha"}).json()["crews"][0]["id"]
    before = ada.get(f"/crews/{crew_id}").json()["updated_at"]
    while ada.get(f"/crews/{crew_id}").json()["updated_at"] == before:
        ada.put(f"/crews/{crew_id}", json={"description": "All about ALPHA, again"})
    assert names(ada, sort="-updated_at")[0] == "alpha"


def test_crews_are_found(ada):
    assert names(ada, search="LPH") == ["alpha"]
    assert names(ada, search="about charlie") == ["Charlie"]
    assert names(ada, search="nothing like it") == []
    assert names(ada, name="alpha") == ["alpha"]
    assert names(ada, name="Alpha") == []


def test_agents_and_tasks_of_one_crew(ada):
    crew_id = ada.get("/crews", params={"name": "bravo"}).json()["crews"][0]["id"]
    agents = ada.get("/agents", params={"crew_id": crew_id, "sort": "-name"}).json()["agents"]
    assert [agent["name"] for agent in agents] == ["Writer", "Researcher"]
    tasks = ada.get("/tasks", params={"agent_id": agents[0]["id"]}).json()["tasks"]
    assert [task["name"] for task in tasks] == ["report"]
    assert ada.get("/agents", params={"search": "clearly", "crew_id": crew_id}).json()["total"] == 1


def test_executions_are_filtered(ada):
    def topics(**query):
        listed = ada.get("/executions", params=query).json()["executions"]
        return [execution["inputs"]["topic"] for execution in listed]

    assert topics() == ["cocoa", "coffee", "tea"]
    assert topics(sort="created_at", per_page=2) == ["tea", "coffee"]
    assert topics(status="failed") == []
    assert topics(status="completed", search="BRAVO") == ["cocoa", "coffee", "tea"]
    assert topics(since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z") == []
    assert topics(since="2020-01-01T00:00:00Z", until="2100-01-01T00:00:00Z") == ["cocoa", "coffee", "tea"]
    assert topics(crew_id="crew_nope") == []
    took = [execution["duration"] for execution in ada.get("/executions?sort=-duration").json()["executions"]]
    assert took == sorted(took, reverse=True)
    assert ada.get("/executions?since=yesterday").json()["error"]["details"]["field"] == "since"
    assert ada.get("/executions?status=done").json()["error"]["details"]["field"] == "status"


def test_a_crew_in_the_fast_list_is_as_in_the_slow_one(ada):
    fast = ada.get("/crews").json()["crews"]
    slow = ada.get("/crews?search=a").json()["crews"]
    assert {crew["id"]: crew for crew in slow}.items() <= {crew["id"]: crew for crew in fast}.items()
    assert len(slow) == 4


def test_a_run_that_has_ended_is_in_the_list_of_those(ada):
    crew_id = new_crew(ada, crew_body())
    for count in range(1, 4):
        wait_for(ada, start(ada, crew_id))
        assert (
            ada.get("/executions", params={"crew_id": crew_id, "status": "completed"}).json()["total"]
            == count
        )
