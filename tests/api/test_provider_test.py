"""Whether a provider works: one small real request, and what its answer shows; and what is called ready."""

import json

import pytest

from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.openai_server import OpenAIServer, Reply
from tests.servers.picky_server import ListingServer

KEY = "sk-of-a-test-0123456789abcdef"


@pytest.fixture
def lab(api):
    """Register a server as *lab*, and test it; give what was found."""

    def tested(url, **body):
        assert api.put("/providers/lab", json={"base_url": url, "api_key": KEY}).status_code == 200
        answer = api.post("/providers/lab/test", json=body)
        assert KEY not in answer.text
        assert answer.status_code == 200, answer.text
        return answer.json()

    yield tested
    api.delete("/providers/lab")


def test_what_works_is_asked_once_and_says_so(api, lab):
    with ListingServer(Reply("<think>Who?</think>Here.")) as server:
        found = lab(server.url)
        assert len(server.requests) == 1
        assert server.keys == [f"Bearer {KEY}"]
    assert (found["works"], found["model"], found["answer"], found["code"]) == (
        True,
        "lab/llama3",
        "Here.",
        None,
    )
    assert "lab/llama3 has answered" in found["message"]
    run = api.get(f"/executions/{found['job_id']}").json()
    assert (run["status"], run["crew_name"]) == ("completed", "Provider test")


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (Reply("No.", status=401), "MODEL_AUTH", ("the API key (401)", "jupyter kasal provider set lab")),
        (Reply("No such model.", status=404), "MODEL_NOT_FOUND", ("lab/llama3", "key and address work")),
        (Reply("Slow down.", status=429), "RATE_LIMIT", ("The key and the address work",)),
        (Reply("Broken.", status=500), "MODEL_ERROR", ("Broken", "base_url")),
    ],
)
def test_what_does_not_work_is_told_with_what_to_do_after_one_request(lab, failure, code, says):
    with ListingServer(failure) as server:
        found = lab(server.url)
        assert len(server.requests) == 1
    assert (found["works"], found["code"]) == (False, code)
    assert all(words in found["message"] for words in says), found["message"]


def test_a_model_can_be_named_where_none_is_listed(api, lab):
    with OpenAIServer(Reply("Here.")) as server:
        assert lab(server.url, model="mine")["model"] == "lab/mine"
        assert lab(server.url, model="lab/mine")["works"]
        refused = api.post("/providers/lab/test", json={})
    assert refused.status_code == 400
    assert "--model" in refused.json()["error"]["message"]


def test_one_that_is_not_there_is_not_ready_anywhere(api, lab):
    found = lab("http://127.0.0.1:9/v1")
    assert not found["works"]
    assert "it cannot be reached" in found["message"]
    assert found["job_id"] is None
    named = lab("http://127.0.0.1:9/v1", model="mine")
    assert named["code"] == "MODEL_UNREACHABLE"
    info = api.get("/providers/lab").json()
    (model,) = api.get("/models", params={"provider": "lab"}).json()["models"]
    assert (info["ready"], model["available"]) == (False, False)
    assert info["reason"] == model["reason"]


def test_providers_and_models_agree_on_what_is_ready(api, lab):
    with ListingServer(Reply("Here.")) as server:
        lab(server.url)
        providers = {each["name"]: each for each in api.get("/providers").json()["providers"]}
        models = api.get("/models", params={"per_page": 500}).json()["models"]
    available = {each["provider"] for each in models if each["available"]} - {"sandbox"}
    assert available <= {name for name, each in providers.items() if each["ready"]}
    for name, each in providers.items():
        listed = [model for model in models if model["provider"] == name]
        if each["kind"] == "models" and listed and not each["ready"]:
            assert not any(model["available"] for model in listed)
    assert "lab" in available


def test_what_is_not_set_is_told_without_a_request(api):
    found = api.post("/providers/anthropic/test", json={}).json()
    assert (found["works"], found["job_id"]) == (False, None)
    assert "ANTHROPIC_API_KEY" in found["message"]
    assert api.post("/providers/nobody/test", json={}).status_code == 404
    assert api.post("/providers/tavily/test", json={"model": "x"}).status_code == 400


def test_a_search_engine_is_searched(api):
    with endpoint_server() as server:
        server.replies["/search"] = reply(
            json.dumps({"results": [{"title": "Tea", "url": "https://tea.org"}]})
        )
        assert api.put("/providers/searxng", json={"base_url": server.url}).status_code == 200
        found = api.post("/providers/searxng/test", json={}).json()
        server.replies["/search"] = reply("no", 500)
        failed = api.post("/providers/searxng/test", json={}).json()
    api.delete("/providers/searxng")
    assert (found["works"], "tea.org" in found["message"]) == (True, True), found
    assert (failed["works"], failed["code"]) == (False, "TOOL_ERROR")
    assert "provider set searxng" in failed["message"]
