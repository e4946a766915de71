import pytest

from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for


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


def states(api, crew_id):
    return [task["status"] for task in api.get("/tasks", params={"crew_id": crew_id}).json()["tasks"]]


def test_a_task_as_the_reference_creates_it(api):
    crew_id = new_crew(api, crew_body())
    agent_id = api.get("/agents", params={"crew_id": crew_id}).json()["agents"][0]["id"]
    answer = api.post(
        "/tasks",
        json={
            "agent_id": agent_id,
            "description": "Analyze competitor pricing",
            "expected_output": "Markdown report",
            "context": ["Previous analysis from Q3"],
        },
    )
    assert answer.status_code == 201
    task = answer.json()
    assert task == {"id": task["id"], "status": "created"}
    assert task["id"].startswith("task_")
    stored = api.get(f"/crews/{crew_id}").json()["tasks"][-1]
    assert stored["id"] == task["id"]
    assert stored["agent_id"] == agent_id
    assert stored["context"] == ["Previous analysis from Q3"]


def test_a_context_that_is_empty_is_another_thing_than_none(api):
    crew_id = new_crew(api, crew_body())
    task_id = api.get(f"/crews/{crew_id}").json()["tasks"][-1]["id"]
    for context in ([], None, ["research"], []):
        assert api.put(f"/tasks/{task_id}", json={"context": context}).status_code == 200
        assert api.get(f"/tasks/{task_id}").json()["context"] == context
    made = api.get(f"/crews/{crew_id}/export", params={"format": "yaml"}).text
    assert "context: []" in made


def test_tasks_in_a_list(api):
    crew_id = new_crew(api, crew_body())
    agents = api.get("/agents", params={"crew_id": crew_id}).json()["agents"]
    listed = api.get("/tasks", params={"crew_id": crew_id}).json()
    assert listed["total"] == 2
    assert listed["page"] == 1
    first = listed["tasks"][0]
    assert first == {
        "id": first["id"],
        "description": "Research {topic}",
        "agent_id": agents[0]["id"],
        "status": "created",
        "name": "research",
        "crew_id": crew_id,
    }


def test_a_tasks_status_is_that_of_the_latest_run(api):
    crew_id, execution = run(api, crew_body())
    assert execution["status"] == "completed"
    assert states(api, crew_id) == ["completed", "completed"]
    # The same crew, slow from now on.
    assert api.put(f"/crews/{crew_id}", json={"agents": slow_crew()["agents"]}).status_code == 200
    job_id = start(api, crew_id)
    wait_for(api, job_id, "running")
    while states(api, crew_id) != ["running", "created"]:
        assert api.get(f"/executions/{job_id}").json()["status"] == "running"
    api.post(f"/executions/{job_id}/stop")
    assert states(api, crew_id) == ["stopped", "created"]


def test_a_failed_task_says_so(api):
    crew_id, execution = run(api, crew_body(fail_at=1))
    assert execution["status"] == "failed"
    assert states(api, crew_id) == ["failed", "created"]


def test_a_task_whole_changed_and_deleted(api):
    crew_id = new_crew(api, crew_body())
    crew = api.get(f"/crews/{crew_id}").json()
    research, report = crew["tasks"]
    assert api.get(f"/tasks/{report['id']}").json() == {**report, "status": "created"}
    change = {
        "description": "Write about {topic}, briefly",
        "agent_id": crew["agents"][0]["id"],
        "context": [],
    }
    assert api.put(f"/tasks/{report['id']}", json=change).json() == {"id": report["id"], "updated": True}
    assert api.get(f"/tasks/{report['id']}").json().items() >= change.items()
    # Nothing gets its result any more.
    assert api.delete(f"/tasks/{research['id']}").status_code == 204
    assert api.get(f"/tasks/{research['id']}").status_code == 404
    assert api.get(f"/crews/{crew_id}").json()["version"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"description": None}, "description"),
        ({"agent_id": "agent_nope"}, "agent_id"),
        ({"name": "report"}, "name"),
        ({"context": ["task_000000000000"]}, "context[0]"),
        ({"context": ["report"]}, "context"),
        ({"output_schema": {"type": "array"}}, "output_schema"),
    ],
)
def test_a_tasks_wrong_change_changes_nothing(api, body, field):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    answer = api.put(f"/tasks/{before['tasks'][0]['id']}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["field"] == field
    assert api.get(f"/crews/{crew_id}").json() == before


def test_a_task_whose_result_is_needed_stays_and_keeps_its_name(api):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    research = before["tasks"][0]["id"]
    for answer in (api.delete(f"/tasks/{research}"), api.put(f"/tasks/{research}", json={"name": "other"})):
        assert answer.status_code == 409
        assert "report" in answer.json()["error"]["message"]
    assert api.get(f"/crews/{crew_id}").json() == before


def test_a_crew_is_active_once_its_content_could_run(api):
    def status():
        listed = api.get("/crews", params={"search": name}).json()["crews"]
        [crew] = [crew for crew in listed if crew["id"] == crew_id]
        assert crew["status"] == api.get(f"/crews/{crew_id}").json()["status"]
        return crew["status"]

    name = "Growing Crew"
    answer = api.post("/crews", json={"name": name, "agents": [{"role": "R", "goal": "G"}]}).json()
    crew_id = answer["id"]
    assert answer["status"] == status() == "configuring"
    agent_id = api.get(f"/crews/{crew_id}").json()["agents"][0]["id"]
    task = {"agent_id": agent_id, "description": "d", "expected_output": "e"}
    task_id = api.post("/tasks", json=task).json()["id"]
    assert status() == "active"
    # Nobody is left to do it.
    assert api.put(f"/tasks/{task_id}", json={"agent_id": None}).status_code == 200
    assert status() == "configuring"
    # A manager hands it out.
    assert api.put(f"/crews/{crew_id}", json={"process": "hierarchical"}).status_code == 200
    assert status() == "active"
    assert api.delete(f"/tasks/{task_id}").status_code == 204
    assert status() == "configuring"
