import pytest

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, run, wait_for
from tests.sample_crews import start as start_run


@pytest.fixture(scope="module")
def ada(live_server):
    with log_in(live_server) as client:
        yield client


@pytest.fixture(scope="module")
def bob(live_server):
    with log_in(live_server) as client:
        yield client


@pytest.fixture(scope="module")
def viewer(live_server):
    with log_in(live_server, "viewer") as client:
        yield client


@pytest.fixture(scope="module")
def adas(ada):
    """What Ada has: a crew with its agents and tasks, a finished run, a tool."""
    crew_id, execution = run(ada, crew_body("Ada's Crew"))
    crew = ada.get(f"/crews/{crew_id}").json()
    tool = ada.post(
        "/tools/custom",
        json={
            "name": "weather",
            "description": "Tells the weather",
            "endpoint": "https://weather.example.com/now",
            "auth_type": "none",
        },
    )
    assert tool.status_code == 201, tool.text
    rating = ada.put(f"/executions/{execution['job_id']}/rating", json={"thumb": "up"})
    assert rating.status_code == 200, rating.text
    dataset = ada.post("/datasets", json={"name": "Hers", "rated": {}})
    assert dataset.status_code == 201, dataset.text
    assert dataset.json()["total"] == 1
    return {
        "crew_id": crew_id,
        "agent_id": crew["agents"][0]["id"],
        "task_id": crew["tasks"][0]["id"],
        "job_id": execution["job_id"],
        "tool_id": tool.json()["tool_id"],
        "dataset_id": dataset.json()["id"],
    }


READS = [
    "/crews/{crew_id}",
    "/agents/{agent_id}",
    "/tasks/{task_id}",
    "/executions/{job_id}",
    "/executions/{job_id}/traces",
    "/executions/{job_id}/events",
    "/executions/{job_id}/result",
    "/executions/{job_id}/artifacts",
    "/tools/custom/{tool_id}",
    "/memory/{crew_id}",
    "/datasets/{dataset_id}",
    "/datasets/{dataset_id}/rows",
]

WRITES = [
    ("PUT", "/crews/{crew_id}", {"name": "Taken"}),
    ("DELETE", "/crews/{crew_id}", None),
    ("PUT", "/agents/{agent_id}", {"goal": "Taken"}),
    ("DELETE", "/agents/{agent_id}", None),
    ("PUT", "/tasks/{task_id}", {"description": "Taken"}),
    ("DELETE", "/tasks/{task_id}", None),
    ("POST", "/agents", {"crew_id": "{crew_id}", "role": "Thief", "goal": "Take"}),
    ("POST", "/tasks", {"agent_id": "{agent_id}", "description": "Take", "expected_output": "Loot"}),
    ("POST", "/executions", {"crew_id": "{crew_id}", "inputs": {"topic": "loot"}}),
    ("POST", "/executions/{job_id}/stop", None),
    ("DELETE", "/executions/{job_id}", None),
    ("PUT", "/tools/custom/{tool_id}", {"description": "Taken"}),
    ("DELETE", "/tools/custom/{tool_id}", None),
    ("POST", "/memory/{crew_id}/clear", {"type": "all"}),
    ("PUT", "/executions/{job_id}/rating", {"thumb": "down"}),
    ("DELETE", "/executions/{job_id}/rating", None),
    ("PUT", "/datasets/{dataset_id}", {"name": "Taken"}),
    ("POST", "/datasets/{dataset_id}/rows", {"rows": [{"inputs": {}}]}),
    ("DELETE", "/datasets/{dataset_id}", None),
]


def filled(body, ids):
    if body is None:
        return None
    return {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}


@pytest.fixture
def untouched(ada, adas):
    """What Ada has is the same afterwards."""

    def state():
        return [ada.get(path.format(**adas)).json() for path in READS]

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("path", READS)
def test_whose_it_is_reads_it_and_so_does_an_admin(api, ada, adas, path):
    own = ada.get(path.format(**adas))
    assert own.status_code == 200
    assert api.get(path.format(**adas)).json() == own.json()


@pytest.mark.parametrize("path", READS)
def test_somebody_elses_is_not_there(bob, viewer, adas, path):
    for other in (bob, viewer):
        answer = other.get(path.format(**adas))
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "NOT_FOUND"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_somebody_elses_cannot_be_changed(bob, adas, method, path, body):
    answer = bob.request(method, path.format(**adas), json=filled(body, adas))
    assert answer.status_code == 404, answer.text


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "path", "body"), [*WRITES, ("POST", "/crews", crew_body())])
def test_a_viewer_changes_nothing(viewer, adas, method, path, body):
    answer = viewer.request(method, path.format(**adas), json=filled(body, adas))
    assert answer.status_code == 403, answer.text
    assert answer.json()["error"]["code"] == "FORBIDDEN"
    # Whether it is there makes no difference: nobody learns it from the answer.
    nowhere = dict.fromkeys(adas, "crew_nope")
    assert viewer.request(method, path.format(**nowhere), json=filled(body, nowhere)).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/users"), ("POST", "/users"), ("PUT", "/maintenance"), ("GET", "/metrics")],
)
def test_what_is_for_admins(ada, method, path):
    assert ada.request(method, path, json={}).status_code == 403


def test_lists_show_ones_own_and_an_admin_everything(api, ada, bob, adas):
    for path, key, own in (
        ("/crews", "crews", adas["crew_id"]),
        ("/agents", "agents", adas["agent_id"]),
        ("/tasks", "tasks", adas["task_id"]),
        ("/executions", "executions", adas["job_id"]),
    ):

        def ids(client, path=path, key=key):
            listed = client.get(path, params={"per_page": 500, "sort": "-created_at"}).json()[key]
            return {each.get("id") or each["job_id"] for each in listed}

        assert own in ids(ada)
        assert own in ids(api)
        assert ids(bob) == set()


def test_what_an_admin_adds_to_a_crew_belongs_to_the_crews_owner(api, ada):
    crew_id = new_crew(ada, crew_body())
    agent_id = api.post("/agents", json={"crew_id": crew_id, "role": "R", "goal": "G"}).json()["id"]
    assert ada.get(f"/agents/{agent_id}").status_code == 200


def test_a_run_belongs_to_whoever_started_it(api, ada):
    job_id = start_run(api, new_crew(ada, crew_body()))
    wait_for(api, job_id)
    assert ada.get(f"/executions/{job_id}").status_code == 404


def test_a_kasal_token_opens_nothing_outside_v1(live_server, ada):
    for path in ("/api/contents", "/api/kernels", "/api/sessions", "/files/x", "/tree"):
        answer = ada.get(f"{live_server.url}{path}")
        assert answer.status_code in {302, 403}, path
        if answer.status_code == 302:
            assert "/login" in answer.headers["location"]


def test_an_invalid_kasal_token_counts_more_than_a_valid_cookie(live_server, ada):
    token = ada.headers["Authorization"]
    with live_server.client() as browser:
        del browser.headers["Authorization"]
        browser.get(f"{live_server.url}/login", params={"token": live_server.token})
        assert browser.get("/crews").status_code == 200
        for wrong in (token[:-3], f"{token}x", "Bearer kasal_unknown", "Bearer wrong", "token wrong"):
            answer = browser.get("/crews", headers={"Authorization": wrong})
            assert answer.status_code == 401, wrong
            assert answer.headers["www-authenticate"] == "Bearer"
        assert browser.get("/crews", params={"token": token.removeprefix("Bearer ")[:-3]}).status_code == 401


def test_pages_of_other_origins_may_use_a_kasal_token(live_server, ada):
    foreign = {"Origin": "https://dashboard.example"}
    asked = ada.options(
        "/crews", headers={**foreign, "Access-Control-Request-Method": "POST", "Authorization": ""}
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://dashboard.example"
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    assert "POST" in asked.headers["access-control-allow-methods"]
    made = ada.post("/crews", json=crew_body(), headers=foreign)
    assert made.status_code == 201
    assert made.headers["access-control-allow-origin"] == "https://dashboard.example"
    refused = ada.get("/crews", headers={**foreign, "Authorization": "Bearer kasal_x"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://dashboard.example"
