import http.client
import json
from urllib.parse import urlsplit

import httpx
import pytest

from tests.sample_crews import crew_body, new_crew


def counts(api):
    return {name: api.get(f"/{name}").json()["total"] for name in ("crews", "agents", "tasks", "executions")}


@pytest.fixture
def unchanged(api):
    """Nothing is stored and nothing started meanwhile."""
    before = counts(api)
    yield
    assert counts(api) == before


def refused(answer, status, code, field=None):
    """Check an answer against the reference's error format, and give its details."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    if field is not None:
        assert body["error"]["details"]["field"] == field
        assert body["error"]["details"]["reason"]
    return body["error"]["details"]


@pytest.mark.usefixtures("unchanged")
def test_the_references_own_error(api):
    answer = api.post("/crews", json={"name": "Empty"})
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "code": "VALIDATION_ERROR",
            "message": "Invalid crew configuration",
            "details": {"field": "agents", "reason": "At least one agent required"},
        }
    }


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/crews", "/agents", "/tasks", "/executions"])
@pytest.mark.parametrize("body", [b"", b"  ", b"{", b"nul", b"{'a': 1}", b"\xff\xfe", b"[1,", b'{"a": NaN}'])
def test_what_is_no_json(api, path, body):
    refused(api.post(path, content=body), 400, "VALIDATION_ERROR", "body")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("body", ["null", "[]", "1", '"text"', "true"])
def test_json_that_is_no_object(api, body):
    refused(api.post("/crews", content=body), 400, "VALIDATION_ERROR", "body")


WRONG = [
    ("/crews", {"name": 5}, "name"),
    ("/crews", {"name": "  "}, "name"),
    ("/crews", {"name": "a\nb"}, "name"),
    ("/crews", {"name": "x" * 201}, "name"),
    ("/crews", {"name": "C", "process": "parallel"}, "process"),
    ("/crews", {"name": "C", "agents": {}}, "agents"),
    ("/crews", {"name": "C", "agents": [{"role": "R", "goal": 1}]}, "agents[0].goal"),
    ("/crews", {"name": "C", "agents": [{"role": "R", "goal": "G", "gaol": "x"}]}, "agents[0].gaol"),
    (
        "/crews",
        {"name": "C", "agents": [{"role": "R", "goal": "G", "settings": {"temperature": 3}}]},
        "agents[0].settings.temperature",
    ),
    ("/agents", {"crew_id": "crew_1", "role": "R"}, "goal"),
    ("/agents", {"crew_id": 1, "role": "R", "goal": "G"}, "crew_id"),
    ("/agents", {"crew_id": "crew_1", "role": "R", "goal": "G", "tools": "calculator"}, "tools"),
    ("/tasks", {"agent_id": "a", "description": "d", "expected_output": "\n"}, "expected_output"),
    (
        "/tasks",
        {"agent_id": "a", "description": "d", "expected_output": "e", "output_schema": {"type": "array"}},
        "output_schema",
    ),
    ("/executions", {"inputs": {}}, "crew_id"),
    ("/executions", {"crew_id": "crew_1", "inputs": []}, "inputs"),
    ("/executions", {"crew_id": "crew_1", "input": {}}, "input"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("path", "body", "field"), WRONG)
def test_a_wrong_field_is_named(api, path, body, field):
    refused(api.post(path, json=body), 400, "VALIDATION_ERROR", field)


def test_a_wrong_field_of_a_change_is_named_as_plainly(api):
    crew_id = new_crew(api, crew_body())
    body = {"name": "", "process": "none", "agents": [{"role": "Writer", "settings": {"stop": 3}}]}
    details = refused(api.put(f"/crews/{crew_id}", json=body), 400, "VALIDATION_ERROR", "name")
    named = ["name", "process", "agents[0].goal", "agents[0].settings.stop"]
    assert sorted(fault["field"] for fault in details["errors"]) == sorted(named)
    details = refused(api.put(f"/crews/{crew_id}", json={"name": None}), 400, "VALIDATION_ERROR", "name")
    assert "null is no value here" in details["reason"]


def test_a_whole_number_may_be_written_as_a_fraction(api):
    """In JSON 3.0 is 3; some clients write all numbers so."""
    body = crew_body()
    body["agents"][0] |= {"max_iter": 3.0, "settings": {"seed": 7.0}}
    crew_id = new_crew(api, body)
    agent = api.get(f"/crews/{crew_id}").json()["agents"][0]
    assert (agent["max_iter"], agent["settings"]["seed"]) == (3, 7)
    for wrong in ({"max_iter": 3.5}, {"max_iter": "3"}, {"max_iter": 201.0}):
        refused(api.put(f"/agents/{agent['id']}", json=wrong), 400, "VALIDATION_ERROR", "max_iter")
    beyond = {"settings": {"seed": 1e30}}
    refused(api.put(f"/agents/{agent['id']}", json=beyond), 400, "VALIDATION_ERROR", "settings.seed")


def test_an_empty_if_match_is_no_consent(api):
    crew_id = new_crew(api, crew_body())
    answer = api.delete(f"/crews/{crew_id}", headers={"If-Match": ""})
    refused(answer, 400, "VALIDATION_ERROR", "If-Match")
    assert api.get(f"/crews/{crew_id}").status_code == 200


@pytest.mark.parametrize("time", ["0971-12-03T08:51:57.99+06:32", "2024-01-15T10:30:00Z"])
def test_a_key_that_would_have_expired_already(api, time):
    answer = api.post("/auth/keys", json={"name": "late", "expires_at": time})
    refused(answer, 400, "VALIDATION_ERROR", "expires_at")


def test_a_request_to_the_websocket_that_is_none(api):
    refused(api.get("/ws"), 400, "VALIDATION_ERROR", "Upgrade")


@pytest.mark.usefixtures("unchanged")
def test_every_fault_is_told_at_once(api):
    body = {"name": "", "agents": [{"role": "R"}], "colour": "red"}
    details = refused(api.post("/crews", json=body), 400, "VALIDATION_ERROR")
    assert {fault["field"] for fault in details["errors"]} == {"name", "agents[0].goal", "colour"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/crews/crew_nope", None),
        ("PUT", "/crews/crew_nope", {"name": "N"}),
        ("DELETE", "/crews/crew_nope", None),
        ("POST", "/agents", {"crew_id": "crew_nope", "role": "R", "goal": "G"}),
        ("POST", "/tasks", {"agent_id": "agent_nope", "description": "d", "expected_output": "e"}),
        ("POST", "/executions", {"crew_id": "crew_nope"}),
        ("GET", "/executions/job_nope", None),
        ("GET", "/executions/..%2F..%2Fetc", None),
        ("GET", "/executions/job_nope/traces", None),
        ("POST", "/executions/job_nope/stop", None),
        ("GET", "/nothing", None),
        ("POST", "/nothing/at/all", {}),
        ("PATCH", "", {}),
    ],
)
def test_what_there_is_not(api, method, path, body):
    refused(api.request(method, path, json=body), 404, "NOT_FOUND")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/crews", {"GET", "POST"}),
        ("DELETE", "/agents", {"GET", "POST"}),
        ("POST", "/crews/crew_1", {"GET", "PUT", "DELETE"}),
        ("GET", "/executions/job_1/stop", {"POST"}),
        ("PUT", "/executions/job_1/traces", {"GET"}),
    ],
)
def test_a_method_a_resource_does_not_have(api, method, path, allowed):
    answer = api.request(method, path)
    refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(live_server, chunked):
    # By hand: a client library may give up on the answer when the server stops reading.
    url = urlsplit(f"{live_server.url}/v1/crews")
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    headers = {"Authorization": f"token {live_server.token}"}
    if chunked:
        pieces = [b"x" * 65536] * 64
        connection.request("POST", url.path, body=iter(pieces), headers=headers, encode_chunked=True)
    else:
        connection.putrequest("POST", url.path)
        for name, value in {**headers, "Content-Length": str(1 << 30)}.items():
            connection.putheader(name, value)
        connection.endheaders()
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == 400
    assert body["error"]["details"]["field"] == "body"
    assert "2097152" in body["error"]["details"]["reason"]


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/nothing", True, 404), ("/crews", False, 401), ("/crews/crew_1", True, 405), ("/crews", True, 400)],
)
def test_a_refusal_leaves_a_known_caller_the_connection(live_server, path, token, status):
    url = urlsplit(live_server.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    headers = {"Authorization": f"token {live_server.token}"}
    body = b'{"colour": "red"}'
    connection.putrequest("POST", f"{url.path}/v1{path}")
    for name, value in {**(headers if token else {}), "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    # The server has seen what it will refuse before it sees the body: it answers what has come later.
    for _ in range(3):
        assert httpx.get(f"{live_server.url}/v1/health").status_code == 200
    connection.send(body)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == status
    before = connection.sock
    assert (before is not None) == token
    connection.request("GET", f"{url.path}/v1/crews", headers=headers)
    assert connection.getresponse().status == 200
    assert connection.sock is before or not token
    connection.close()


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("contexts", "named"),
    [
        ([["two"], ["one"]], "tasks[0].context"),
        ([["one"], []], "tasks[0].context"),
        ([["two"], []], "tasks[0].context"),
        ([[], ["task_000000000000"]], "tasks[1].context[0]"),
    ],
)
def test_a_context_that_cannot_work(api, contexts, named):
    body = crew_body()
    for task, name, context in zip(body["tasks"], ("one", "two"), contexts, strict=True):
        task |= {"name": name, "context": context}
    refused(api.post("/crews", json=body), 400, "VALIDATION_ERROR", named)


def test_a_crew_that_cannot_run_is_told_everything_and_not_started(api, live_server):
    body = crew_body()
    body["agents"][0] |= {"model": "gpt-4", "tools": ["calculator", "teleport"]}
    crew_id = new_crew(api, body)
    before = counts(api), sorted((live_server.folder / "runs").iterdir())
    details = refused(api.post("/executions", json={"crew_id": crew_id}), 400, "CREW_NOT_RUNNABLE")
    reasons = {fault["field"]: fault["reason"] for fault in details["errors"]}
    assert set(reasons) == {"agents[0].tools[1]", "agents[0].model", "inputs.topic"}
    assert "OPENAI_API_KEY" in reasons["agents[0].model"]
    assert "sandbox" in reasons["agents[0].model"]
    assert "teleport" in reasons["agents[0].tools[1]"]
    assert (counts(api), sorted((live_server.folder / "runs").iterdir())) == before


@pytest.mark.parametrize(("depth", "status"), [(90, 202), (200, 400), (900, 400)])
def test_inputs_that_nest_deeply_do_no_harm(api, depth, status):
    crew_id = new_crew(api, crew_body())
    deep = "[" * depth + "]" * depth
    answer = api.post("/executions", content=f'{{"crew_id": "{crew_id}", "inputs": {{"topic": {deep}}}}}')
    assert answer.status_code == status, answer.text
    assert api.get("/executions", params={"crew_id": crew_id}).json()["total"] == (status == 202)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
@pytest.mark.parametrize("path", ["/crews", "/executions/job_1", "/ws", "/nothing"])
def test_nobody_we_know(live_server, headers, path):
    answer = httpx.get(f"{live_server.url}/v1{path}", headers=headers)
    refused(answer, 401, "UNAUTHORIZED")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_as_the_reference_sends_it(live_server):
    headers = {"Authorization": f"Bearer {live_server.token}"}
    assert httpx.get(f"{live_server.url}/v1/crews", headers=headers).status_code == 200


@pytest.fixture
def browser(live_server):
    """A browser that is logged in by cookie."""
    with httpx.Client(base_url=live_server.url, follow_redirects=True) as client:
        client.get(f"/login?token={live_server.token}")
        assert client.get("/v1/crews").status_code == 200
        yield client


@pytest.mark.usefixtures("unchanged")
def test_a_page_of_another_origin_is_refused(browser):
    xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
    foreign = {"Origin": "http://evil.example", **xsrf}
    refused(browser.post("/v1/crews", json=crew_body(), headers=foreign), 403, "FORBIDDEN")
    refused(browser.get("/v1/crews", headers=foreign), 403, "FORBIDDEN")


@pytest.mark.usefixtures("unchanged")
def test_a_cookie_alone_changes_nothing(browser):
    refused(browser.post("/v1/crews", json=crew_body()), 403, "FORBIDDEN")


def test_a_cookie_with_its_xsrf_token_works(browser):
    xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
    assert browser.post("/v1/crews", json=crew_body(), headers=xsrf).status_code == 201
