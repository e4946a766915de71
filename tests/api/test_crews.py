import pytest

from tests.sample_crews import crew_body, is_time, new_crew

MARKETING = {
    "name": "Marketing Crew",
    "description": "Content generation team",
    "process": "hierarchical",
    "agents": [{"role": "Content Writer", "goal": "Create engaging content", "model": "gpt-4"}],
}
"""The reference's own example of a request."""


def test_the_references_crew_is_created(api):
    answer = api.post("/crews", json=MARKETING)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    crew = answer.json()
    assert crew == {"id": crew["id"], "name": "Marketing Crew", "status": "configuring"}
    assert crew["id"].startswith("crew_")


def test_a_crew_in_a_list(api):
    crew_id = new_crew(api, crew_body("Listed Crew"))
    answer = api.get("/crews")
    assert answer.status_code == 200
    listed = answer.json()
    assert set(listed) == {"crews", "total", "page", "per_page"}
    assert listed["page"] == 1
    assert listed["total"] >= 1
    # Newest first.
    crew = listed["crews"][0]
    assert crew == {
        "id": crew_id,
        "name": "Listed Crew",
        "status": "active",
        "agents_count": 2,
        "created_at": crew["created_at"],
        "updated_at": crew["created_at"],
        "version": 1,
        "owner": "jupyter",
    }
    assert is_time(crew["created_at"])


def test_a_list_comes_in_pages(api):
    made = [new_crew(api, crew_body("Paged Crew")) for _ in range(5)]
    pages = [
        api.get("/crews", params={"name": "Paged Crew", "page": page, "per_page": 2}).json()
        for page in (1, 2, 3, 4)
    ]
    assert [crew["id"] for page in pages for crew in page["crews"]] == made[::-1]
    assert [len(page["crews"]) for page in pages] == [2, 2, 1, 0]
    assert [page["page"] for page in pages] == [1, 2, 3, 4]
    assert {page["total"] for page in pages} == {5}


@pytest.mark.parametrize("query", ["page=0", "page=x", "per_page=501", "per_page=-1", "page=", "page=1e3"])
def test_a_page_that_is_none_is_refused(api, query):
    answer = api.get(f"/crews?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == query.split("=")[0]


def test_a_crew_whole(api):
    crew_id = new_crew(api, MARKETING)
    answer = api.get(f"/crews/{crew_id}")
    assert answer.status_code == 200
    crew = answer.json()
    assert {"id", "name", "agents", "tasks", "configuration"} <= set(crew)
    assert crew["id"] == crew_id
    assert crew["description"] == "Content generation team"
    assert crew["configuration"]["process"] == "hierarchical"
    assert crew["tasks"] == []
    [agent] = crew["agents"]
    assert agent["role"] == "Content Writer"
    assert agent["goal"] == "Create engaging content"
    assert agent["model"] == "gpt-4"
    assert agent["crew_id"] == crew_id
    assert is_time(crew["created_at"])
    assert is_time(crew["updated_at"])


def test_the_references_update(api):
    crew_id = new_crew(api, MARKETING)
    answer = api.put(f"/crews/{crew_id}", json={"name": "Updated Crew Name", "process": "sequential"})
    assert answer.status_code == 200
    assert answer.json() == {"id": crew_id, "updated": True}
    crew = api.get(f"/crews/{crew_id}").json()
    assert crew["name"] == "Updated Crew Name"
    assert crew["configuration"]["process"] == "sequential"
    # What was not given stays.
    assert crew["description"] == "Content generation team"
    assert len(crew["agents"]) == 1
    assert crew["version"] == 2


def test_a_given_list_replaces_the_list_and_keeps_the_ids_of_what_stays(api):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    tasks = crew_body()["tasks"][:1]
    tasks[0]["description"] = "Research {topic} again"
    assert api.put(f"/crews/{crew_id}", json={"tasks": tasks}).status_code == 200
    after = api.get(f"/crews/{crew_id}").json()
    [task] = after["tasks"]
    assert task["id"] == before["tasks"][0]["id"]
    assert task["description"] == "Research {topic} again"
    assert [agent["id"] for agent in after["agents"]] == [agent["id"] for agent in before["agents"]]


def test_an_update_that_is_wrong_changes_nothing(api):
    crew_id = new_crew(api, crew_body())
    before = api.get(f"/crews/{crew_id}").json()
    answer = api.put(f"/crews/{crew_id}", json={"name": "Changed", "agents": []})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "agents"
    assert api.get(f"/crews/{crew_id}").json() == before


def test_a_crew_is_deleted_with_its_agents_and_tasks(api):
    crew_id = new_crew(api, crew_body())
    other = new_crew(api, crew_body())
    answer = api.delete(f"/crews/{crew_id}")
    assert answer.status_code == 204
    assert answer.content == b""
    assert api.get(f"/crews/{crew_id}").status_code == 404
    assert api.delete(f"/crews/{crew_id}").status_code == 404
    assert api.get("/agents", params={"crew_id": crew_id}).json()["agents"] == []
    assert api.get("/tasks", params={"crew_id": crew_id}).json()["tasks"] == []
    assert len(api.get("/agents", params={"crew_id": other}).json()["agents"]) == 2


def test_an_agents_name_wins_over_anothers_role(api):
    agents = [
        {"name": "first", "role": "Writer", "goal": "Write", "model": "sandbox"},
        {"name": "Writer", "role": "Editor", "goal": "Edit", "model": "sandbox"},
    ]
    task = {"description": "Do it", "expected_output": "It"}
    tasks = [{**task, "name": who, "agent": who} for who in ("Writer", "Editor", "first")]
    crew_id = api.post("/crews", json={"name": "Named", "agents": agents, "tasks": tasks}).json()["id"]
    crew = api.get(f"/crews/{crew_id}").json()
    names = {agent["id"]: agent["name"] for agent in crew["agents"]}
    assert [names[task["agent_id"]] for task in crew["tasks"]] == ["Writer", "Writer", "first"]


def test_a_lost_update_is_refused(api):
    crew_id = new_crew(api, crew_body())
    read = api.get(f"/crews/{crew_id}")
    tag = read.headers["etag"]
    first = api.put(f"/crews/{crew_id}", json={"name": "First"}, headers={"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] == api.get(f"/crews/{crew_id}").headers["etag"] != tag
    for answer in (
        api.put(f"/crews/{crew_id}", json={"name": "Second"}, headers={"If-Match": tag}),
        api.delete(f"/crews/{crew_id}", headers={"If-Match": tag}),
    ):
        assert answer.status_code == 412
        assert answer.json()["error"]["code"] == "PRECONDITION_FAILED"
    assert api.get(f"/crews/{crew_id}").json()["name"] == "First"
    wrong = api.put(f"/crews/{crew_id}", json={"name": "Third"}, headers={"If-Match": "yesterday's"})
    assert wrong.json()["error"]["details"]["field"] == "If-Match"
    any_version = api.put(f"/crews/{crew_id}", json={"name": "Fourth"}, headers={"If-Match": "*"})
    assert any_version.status_code == 200
    assert (
        api.delete(f"/crews/{crew_id}", headers={"If-Match": any_version.headers["etag"]}).status_code == 204
    )


def test_a_change_to_an_agent_or_a_task_is_one_of_the_crew(api):
    crew_id = new_crew(api, crew_body())
    tags = [api.get(f"/crews/{crew_id}").headers["etag"]]
    crew = api.get(f"/crews/{crew_id}").json()
    api.put(f"/agents/{crew['agents'][0]['id']}", json={"goal": "Another"})
    tags.append(api.get(f"/crews/{crew_id}").headers["etag"])
    api.put(f"/tasks/{crew['tasks'][0]['id']}", json={"description": "Another"})
    tags.append(api.get(f"/crews/{crew_id}").headers["etag"])
    assert len(set(tags)) == 3


def test_what_has_not_changed_is_not_sent_again(api):
    crew_id = new_crew(api, crew_body())
    tag = api.get(f"/crews/{crew_id}").headers["etag"]
    for known in (tag, f"W/{tag}", f'"0", {tag}'):
        answer = api.get(f"/crews/{crew_id}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert api.get(f"/crews/{crew_id}", headers={"If-None-Match": '"0"'}).status_code == 200


def test_the_head_of_a_resource(api):
    crew_id = new_crew(api, crew_body())
    head, whole = api.head(f"/crews/{crew_id}"), api.get(f"/crews/{crew_id}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.headers["etag"] == whole.headers["etag"]
