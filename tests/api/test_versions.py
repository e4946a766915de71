"""A crew's versions over the API: listed, given whole, compared, brought back; and the one that a run ran."""

import pytest

from tests.sample_crews import crew_body, new_crew, run


@pytest.fixture
def crew_id(api):
    """A crew of two versions: the API's, and a cell's."""
    crew_id = new_crew(api, crew_body("Versioned"))
    said = {"source": "cell", "origin": "/home/ada/Market.ipynb#3f9c"}
    answer = api.put(
        f"/crews/{crew_id}", json={"process": "hierarchical", "manager_model": "sandbox"}, params=said
    )
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    return crew_id


def refused(answer, status, field=None):
    assert answer.status_code == status, answer.text
    assert field is None or answer.json()["error"]["details"]["field"] == field
    return answer.json()["error"]["message"]


def test_a_crews_versions_are_listed_the_newest_first_with_where_they_come_from(api, crew_id):
    listed = api.get(f"/crews/{crew_id}/versions").json()
    newest, first = listed["versions"]
    assert (listed["total"], listed["page"], listed["per_page"]) == (2, 1, 100)
    assert newest == {
        "version": 2,
        "created_at": newest["created_at"],
        # Jupyter makes up a name for whoever comes with its token.
        "author": "jupyter",
        "source": "cell",
        "origin": "/home/ada/Market.ipynb#3f9c",
        "restored": None,
        "ran": False,
    }
    assert (first["version"], first["source"], first["origin"]) == (1, "api", None)
    found = api.get(f"/crews/{crew_id}/versions", params={"search": "market"}).json()
    assert [each["version"] for each in found["versions"]] == [2]


def test_agents_and_tasks_imports_and_restores_are_told_apart(api):
    crew_id = api.post(
        "/crews/import", json={"text": "agents:\n  a: {role: R, goal: G}\n", "name": "I"}
    ).json()["id"]
    agent = api.get("/agents", params={"crew_id": crew_id}).json()["agents"][0]
    assert api.put(f"/agents/{agent['id']}", json={"goal": "H"}).status_code == 200
    assert api.post(f"/crews/{crew_id}/versions/1/restore").status_code == 200
    versions = api.get(f"/crews/{crew_id}/versions").json()["versions"]
    assert [(each["source"], each["restored"]) for each in versions] == [
        ("restore", 1),
        ("api", None),
        ("import", None),
    ]


def test_a_version_is_given_whole_as_the_crew_was(api, crew_id):
    now = api.get(f"/crews/{crew_id}").json()
    first = api.get(f"/crews/{crew_id}/versions/1").json()
    assert first["crew"]["configuration"]["process"] == "sequential"
    assert first["crew"]["agents"] == now["agents"]
    assert first["crew"]["version"] == first["version"] == 1
    assert api.get(f"/crews/{crew_id}/versions/2").json()["crew"] == now


def test_two_versions_are_compared_line_by_line(api, crew_id):
    answer = api.get(f"/crews/{crew_id}/versions/1/diff").json()
    assert (answer["version"], answer["to"]) == (1, 2)
    lines = answer["diff"].splitlines()
    assert lines[:2] == ["--- version 1", "+++ version 2"]
    assert [line for line in lines[2:] if line[0] in "+-"] == [
        "-process: sequential",
        "+process: hierarchical",
        "+manager_llm: sandbox",
    ]
    back = api.get(f"/crews/{crew_id}/versions/2/diff", params={"to": 1}).json()["diff"]
    assert "-process: hierarchical" in back
    assert api.get(f"/crews/{crew_id}/versions/2/diff").json()["diff"] == ""


def test_a_version_is_brought_back_unless_somebody_was_faster(api, crew_id):
    path = f"/crews/{crew_id}/versions/1/restore"
    assert "is at version 2" in refused(api.post(path, headers={"If-Match": '"1"'}), 412)
    answer = api.post(path, headers={"If-Match": '"2"'}, params={"origin": "here"})
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"3"')
    assert answer.json() == {"id": crew_id, "version": 3, "restored": 1}
    assert api.get(f"/crews/{crew_id}").json()["configuration"]["process"] == "sequential"
    newest = api.get(f"/crews/{crew_id}/versions").json()["versions"][0]
    assert (newest["source"], newest["origin"], newest["restored"]) == ("restore", "here", 1)


@pytest.mark.parametrize("version", ["9", "0", "x", "-1", "1" * 40, "\u0661"])
@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("GET", "/diff"), ("POST", "/restore")])
def test_a_version_that_is_none_is_not_found(api, crew_id, method, end, version):
    refused(api.request(method, f"/crews/{crew_id}/versions/{version}{end}"), 404)


def test_what_is_wrong_with_a_query_is_named(api, crew_id):
    refused(api.put(f"/crews/{crew_id}", json={}, params={"source": "restore"}), 400, "source")
    refused(api.put(f"/crews/{crew_id}", json={}, params={"origin": "a\nb"}), 400, "origin")
    refused(api.get(f"/crews/{crew_id}/versions/1/diff", params={"to": 0}), 400, "to")
    refused(api.get(f"/crews/{crew_id}/versions/1/diff", params={"to": 99}), 404)


def test_versions_are_gone_with_the_crew(api, crew_id):
    assert api.delete(f"/crews/{crew_id}").status_code == 204
    refused(api.get(f"/crews/{crew_id}/versions"), 404)
    refused(api.get(f"/crews/{crew_id}/versions/1"), 404)


def test_a_run_tells_which_version_it_ran_and_that_is_noted(api):
    crew_id, state = run(api, crew_body("Ran"))
    assert state["crew_version"] == 1
    api.put(f"/crews/{crew_id}", json={"description": "Changed"})
    listed = api.get("/executions", params={"crew_id": crew_id}).json()["executions"]
    assert listed[0]["crew_version"] == 1
    events = api.get(f"/executions/{state['job_id']}/events", params={"limit": 1}).json()["events"]
    assert events[0]["crew_version"] == 1
    versions = api.get(f"/crews/{crew_id}/versions").json()["versions"]
    assert [(each["version"], each["ran"]) for each in versions] == [(2, False), (1, True)]
