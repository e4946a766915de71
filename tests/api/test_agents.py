import pytest

from tests.sample_crews import crew_body, new_crew


def test_an_agent_as_the_reference_creates_it(api):
    crew_id = new_crew(api, crew_body())
    answer = api.post(
        "/agents",
        json={
            "crew_id": crew_id,
            "role": "Data Analyst",
            "goal": "Analyze metrics",
            "backstory": "Expert analyst with 10 years experience",
            "model": "claude-3-opus",
            "tools": ["web_search", "calculator"],
        },
    )
    assert answer.status_code == 201
    agent = answer.json()
    assert agent == {"id": agent["id"], "status": "created"}
    assert agent["id"].startswith("agent_")
    stored = api.get(f"/crews/{crew_id}").json()["agents"][-1]
    assert stored["id"] == agent["id"]
    assert stored["backstory"] == "Expert analyst with 10 years experience"
    assert stored["tools"] == ["web_search", "calculator"]


def test_agents_in_a_list(api):
    crew_id = new_crew(api, crew_body())
    answer = api.get("/agents", params={"crew_id": crew_id})
    assert answer.status_code == 200
    listed = answer.json()
    assert listed["total"] == 2
    first, second = listed["agents"]
    assert first == {
        "id": first["id"],
        "name": "Researcher",
        "crew_id": crew_id,
        "model": "sandbox",
        "status": "ready",
        "role": "Researcher",
    }
    assert second["name"] == "Writer"
    ids = {agent["id"] for agent in api.get("/agents", params={"per_page": 500}).json()["agents"]}
    assert {first["id"], second["id"]} <= ids


def test_a_second_agent_of_a_role_gets_a_name_of_its_own(api):
    crew_id = new_crew(api, crew_body())
    body = {"crew_id": crew_id, "role": "Writer", "goal": "Write more"}
    assert api.post("/agents", json=body).status_code == 201
    names = [agent["name"] for agent in api.get("/agents", params={"crew_id": crew_id}).json()["agents"]]
    assert names == ["Researcher", "Writer", "Writer 2"]


def test_a_name_that_is_taken_is_refused(api):
    crew_id = new_crew(api, crew_body())
    answer = api.post("/agents", json={"crew_id": crew_id, "name": "Writer", "role": "W", "goal": "g"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "name"
    assert api.get("/agents", params={"crew_id": crew_id}).json()["total"] == 2


def test_a_new_agent_is_a_change_of_its_crew(api):
    crew_id = new_crew(api, crew_body())
    api.post("/agents", json={"crew_id": crew_id, "role": "Critic", "goal": "g"})
    assert api.get(f"/crews/{crew_id}").json()["version"] == 2


def test_an_agent_whole_changed_and_deleted(api):
    crew_id = new_crew(api, crew_body())
    agent_id = api.post("/agents", json={"crew_id": crew_id, "role": "Critic", "goal": "g"}).json()["id"]
    agent = api.get(f"/agents/{agent_id}").json()
    assert agent in api.get(f"/crews/{crew_id}").json()["agents"]
    change = {"goal": "Find faults", "model": None, "tools": ["wait"], "settings": {"temperature": 0.5}}
    assert api.put(f"/agents/{agent_id}", json=change).json() == {"id": agent_id, "updated": True}
    changed = api.get(f"/agents/{agent_id}").json()
    assert changed == {
        **agent,
        **change,
        "settings": {**agent["settings"], "temperature": 0.5},
        "updated_at": changed["updated_at"],
    }
    assert api.delete(f"/agents/{agent_id}").status_code == 204
    assert api.get(f"/agents/{agent_id}").status_code == 404
    crew = api.get(f"/crews/{crew_id}").json()
    assert crew["version"] == 4
    assert len(crew["agents"]) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"goal": None}, "goal"),
        ({"gaol": "x"}, "gaol"),
        ({"name": "Writer"}, "name"),
        ({"tools": None}, "tools"),
    ],
)
def test_an_agents_wrong_change_changes_nothing(api, body, field):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    answer = api.put(f"/agents/{before['agents'][0]['id']}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == field
    assert api.get(f"/crews/{crew_id}").json() == before


def test_an_agent_that_is_needed_stays(api):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    answer = api.delete(f"/agents/{before['agents'][0]['id']}")
    assert answer.status_code == 409
    assert "research" in answer.json()["error"]["message"]
    alone = new_crew(api, {"name": "One", "agents": [{"role": "R", "goal": "G"}]})
    [agent] = api.get(f"/crews/{alone}").json()["agents"]
    assert api.delete(f"/agents/{agent['id']}").status_code == 409
    assert api.get(f"/crews/{crew_id}").json() == before
