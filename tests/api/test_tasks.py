from tests.crews import crew_body, new_crew, run, slow_crew, start, wait_for


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
