"""Providers over the API: keys are entrusted, used, replaced, taken away, and never given out."""

import json

import httpx
import pytest

from kasal_jupyter.store.dump import export_json, import_json
from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, start, wait_for
from tests.server import start_server
from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.openai_server import OpenAIServer, Reply

KEY = "sk-entrusted-0123456789abcdef"
OTHER = "sk-entrusted-fedcba9876543210"


@pytest.fixture
def editor(live_server):
    with log_in(live_server) as client:
        yield client


def put(api, name, status=200, **body):
    answer = api.put(f"/providers/{name}", json=body)
    assert answer.status_code == status, answer.text
    assert KEY not in answer.text
    return answer.json()


def details(answer):
    """Give the faults of a refusal by field."""
    about = answer["error"]["details"]
    return {each["field"]: each["reason"] for each in about.get("errors", [about])}


def model_crew(model):
    body = crew_body()
    for agent in body["agents"]:
        agent["model"] = model
    return body


def test_every_provider_says_what_it_needs(api):
    answer = api.get("/providers")
    assert answer.status_code == 200
    providers = {each["name"]: each for each in answer.json()["providers"]}
    assert {"openai", "anthropic", "gemini", "azure", "bedrock", "ollama", "openrouter"} < set(providers)
    assert {name for name, each in providers.items() if each["kind"] == "search"} == {
        *("tavily", "brave", "searxng")
    }
    assert providers["openai"] == api.get("/providers/openai").json()
    assert providers["anthropic"] == {
        "name": "anthropic",
        "title": "Anthropic",
        "kind": "models",
        "ready": False,
        "reason": "Anthropic needs ANTHROPIC_API_KEY in the server's environment, or api_key by PUT "
        "/v1/providers/anthropic (jupyter kasal provider set anthropic)",
        "source": None,
        "has_key": False,
        "base_url": None,
        "options": [],
        "variables": ["ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"],
        "install": None,
        "remark": None,
        "scopes": [],
    }
    # It needs no key, and does not run here.
    assert not providers["ollama"]["ready"]
    assert "it cannot be reached; start Ollama" in providers["ollama"]["reason"]


def test_a_key_is_entrusted_replaced_and_taken_away(editor):
    info = put(editor, "anthropic", api_key=KEY)
    assert (info["ready"], info["source"], info["has_key"], info["scopes"]) == (True, "user", True, ["user"])
    models = {model["name"]: model for model in editor.get("/models?per_page=500").json()["models"]}
    assert models["claude-opus-5"]["available"]
    assert models["claude-opus-5"]["has_key"]
    # All of it is replaced, whatever there was.
    info = put(editor, "anthropic", api_key=OTHER, base_url="https://example.com/proxy")
    assert info["base_url"] == "https://example.com/proxy"
    assert put(editor, "anthropic", api_key=OTHER)["base_url"] is None
    assert editor.delete("/providers/anthropic").status_code == 204
    assert not editor.get("/providers/anthropic").json()["ready"]
    assert editor.delete("/providers/anthropic").status_code == 404


def test_what_is_stored_is_encrypted(editor, live_server):
    put(
        editor,
        "bedrock",
        options={"aws_access_key_id": KEY, "aws_secret_access_key": OTHER, "aws_region_name": "eu-central-1"},
    )
    info = editor.get("/providers/bedrock").json()
    assert info["options"] == ["aws_access_key_id", "aws_region_name", "aws_secret_access_key"]
    assert (info["ready"], info["has_key"]) == (True, True)
    for file in live_server.folder.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file
            assert OTHER.encode() not in file.read_bytes(), file
    editor.delete("/providers/bedrock")


@pytest.mark.parametrize(
    ("name", "body", "faults"),
    [
        ("openai", {}, {"api_key": "needs"}),
        ("openai", {"api_key": "\N{SNOWMAN}" * 9}, {"api_key": "ASCII"}),
        ("openai", {"api_key": "Bearer sk-1"}, {"api_key": "without 'Bearer'"}),
        ("openai", {"api_key": " sk-1"}, {"api_key": "no blank"}),
        ("openai", {"api_key": "a key of mine", "base_url": "ftp://x"}, {"base_url": "http://"}),
        (
            "openai",
            {"api_key": "a key of mine", "base_url": "https://a:b@x.com"},
            {"base_url": "no user or password"},
        ),
        ("openai", {"api_key": "a key of mine", "base_url": "https://x.com?key=1"}, {"base_url": "no query"}),
        (
            "openai",
            {"api_key": "a key of mine", "options": {"api_version": "1"}},
            {"options.api_version": "no such"},
        ),
        ("openai", {"api_key": "a key of mine", "colour": "red"}, {"colour": ""}),
        ("azure", {"options": {"api_version": "1"}}, {"api_key": "needs", "base_url": "needs"}),
        (
            "bedrock",
            {"api_key": "a key of mine", "options": {"aws_region_name": "x"}},
            {
                "api_key": "takes no such key",
                "options.aws_access_key_id": "needs",
                "options.aws_secret_access_key": "needs",
            },
        ),
        ("searxng", {"api_key": "a key of mine"}, {"base_url": "needs base_url"}),
        ("tavily", {"base_url": "https://x.com"}, {"api_key": "needs api_key"}),
        ("lab", {"api_key": "a key of mine"}, {"base_url": "needs base_url"}),
        ("google", {"api_key": "a key of mine"}, {"name": "'gemini' here"}),
        ("sandbox", {"base_url": "https://x.com"}, {"name": "something else"}),
        ("La_B", {"base_url": "https://example.com"}, {"name": "begins with a letter"}),
        ("openai", {"api_key": "sk-1"}, {"api_key": "8 characters at the least"}),
        (
            "bedrock",
            {"options": {"aws_secret_access_key": "sk-1", "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}},
            {"options": "aws_secret_access_key: a secret has 8 characters"},
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_field(editor, name, body, faults):
    found = details(put(editor, name, 400, **body))
    assert set(faults) <= set(found)
    for field, text in faults.items():
        assert text in found[field]
    assert not any(secret in json.dumps(found) for secret in ("sk-1", "a:b", "\N{SNOWMAN}"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://10.0.0.7/v1"])
def test_a_users_address_must_be_public_and_an_admins_need_not(editor, api, address):
    found = details(put(editor, "lab", 400, base_url=address))
    assert "only public hosts" in found["base_url"]
    assert put(api, "lab", base_url=address)["base_url"] == address
    assert api.delete("/providers/lab").status_code == 204


def test_what_is_for_everybody_is_for_admins_to_set(api, editor, live_server):
    assert editor.put("/providers/groq", json={"api_key": KEY, "scope": "server"}).status_code == 403
    with log_in(live_server, "viewer") as viewer:
        assert viewer.put("/providers/groq", json={"api_key": KEY}).status_code == 403
        put(api, "groq", api_key=KEY, base_url="https://example.com/v1", scope="server")
        # That there is one is everybody's to know; where it leads is not.
        info = viewer.get("/providers/groq").json()
    assert (info["source"], info["has_key"], info["base_url"], info["scopes"]) == ("server", True, None, [])
    assert api.get("/providers/groq").json()["base_url"] == "https://example.com/v1"
    assert put(editor, "groq", api_key=OTHER)["source"] == "user"
    assert editor.delete("/providers/groq", params={"scope": "server"}).status_code == 403
    editor.delete("/providers/groq")
    assert editor.get("/providers/groq").json()["source"] == "server"
    assert api.delete("/providers/groq", params={"scope": "server"}).status_code == 204
    assert editor.get("/providers/groq").json()["source"] is None


def test_nobody_sees_or_uses_what_is_another_users(editor, live_server):
    put(editor, "mine", base_url="https://example.com/v1", api_key=KEY)
    with log_in(live_server) as other:
        answer = other.get("/providers/mine")
        assert answer.status_code == 404
        assert "mine" not in [each["name"] for each in other.get("/providers").json()["providers"]]
        assert other.delete("/providers/mine").status_code == 404
        faults = other.post(f"/crews/{new_crew(other, model_crew('mine/m'))}/check", json={}).json()["faults"]
        assert {"agents[0].model", "agents[1].model"} <= {fault["field"] for fault in faults}
    editor.delete("/providers/mine")


def test_servers_registered_by_name_run_crews_side_by_side(api):
    """Each gets its own key; what it serves is listed live; both serve one crew."""
    with OpenAIServer(Reply("From the lab")) as lab, OpenAIServer(Reply("From the den")) as den:
        put(api, "lab", base_url=lab.url, api_key=KEY)
        put(api, "den", base_url=den.url, api_key=OTHER)
        body = crew_body()
        body["agents"][0]["model"], body["agents"][1]["model"] = "lab/llama3", "den/qwen/qwen3"
        crew_id = new_crew(api, body)
        execution = wait_for(api, start(api, crew_id, {"topic": "tea"}))
    assert execution["status"] == "completed", execution
    assert "From the den" in execution["result"]
    assert {*lab.keys} == {f"Bearer {KEY}"}
    assert {*den.keys} == {f"Bearer {OTHER}"}
    assert {asked["model"] for asked in den.requests} == {"qwen/qwen3"}
    for name in ("lab", "den"):
        assert api.delete(f"/providers/{name}").status_code == 204


def test_a_named_servers_models_are_listed(api):
    with endpoint_server() as server:
        server.replies["/v1/models"] = reply(json.dumps({"data": [{"id": "llama3", "max_model_len": 8_192}]}))
        put(api, "lab", base_url=f"{server.url}/v1", api_key=KEY)
        found = api.get("/models", params={"provider": "lab"}).json()["models"]
    assert [(model["name"], model["context_window"], model["has_key"]) for model in found] == [
        ("lab/llama3", 8_192, True)
    ]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    api.delete("/providers/lab")


def test_check_names_every_fault_by_field_and_a_retired_models_successor(api, editor):
    put(editor, "anthropic", api_key=KEY)
    body = crew_body()
    body["agents"][0] |= {"model": "claude-3-opus", "fallbacks": ["sandbox", "gpt-4", "gemini-2.5-pro"]}
    body["agents"][1]["model"] = "groq/llama"
    body |= {"planning": True, "planning_model": "mystery"}
    crew_id = new_crew(editor, body)
    checked = editor.post(f"/crews/{crew_id}/check", json={"inputs": {"topic": "tea"}}).json()
    faults = {fault["field"]: fault["reason"] for fault in checked["faults"]}
    assert list(faults) == [
        *("agents[0].fallbacks[1]", "agents[0].fallbacks[2]", "agents[1].model", "planning_model")
    ]
    assert "OPENAI_API_KEY" in faults["agents[0].fallbacks[1]"]
    assert "GEMINI_API_KEY" in faults["agents[0].fallbacks[2]"]
    assert "GROQ_API_KEY" in faults["agents[1].model"]
    (remark,) = checked["remarks"]
    assert remark["field"] == "agents[0].model"
    assert "claude-3-opus was retired by Anthropic on 2026-01-05; claude-opus-4-8 answers" in remark["remark"]
    editor.delete("/providers/anthropic")


def test_the_sandbox_has_none_of_the_servers_keys(tmp_path_factory):
    server = start_server(
        tmp_path_factory.mktemp("keys"), environ={"OPENAI_API_KEY": KEY, "KASAL_SANDBOX_TOKEN": "try-it-out"}
    )
    try:
        with httpx.Client(
            base_url=f"{server.url}/v1", headers={"Authorization": "Bearer try-it-out"}
        ) as trying:
            assert trying.get("/providers/openai").json()["source"] is None
        with server.client() as owner:
            assert owner.get("/providers/openai").json()["source"] == "environment"
    finally:
        server.close()


def test_an_export_has_sealed_keys_only_and_they_open_nowhere_else(tmp_path_factory):
    room = tmp_path_factory.mktemp("exchange")
    server = start_server(room / "first")
    try:
        with server.client() as first:
            put(first, "openai", api_key=KEY)
            put(first, "groq", api_key=KEY, scope="server")
    finally:
        server.close()
    file = room / "export.json"
    export_json(server.folder, file)
    assert KEY not in file.read_text()
    assert "sealed" in file.read_text()
    import_json(room / "data", file)
    server = start_server(room / "second", folder=room / "data", environ={"OPENAI_API_KEY": OTHER})
    try:
        with server.client() as second:
            info = second.get("/providers/openai").json()
            # Not the environment's in its place: that would be another one's money.
            assert (info["source"], info["ready"], info["has_key"]) == ("user", False, False)
            assert "give it again by PUT /v1/providers/openai" in info["reason"]
            assert put(second, "openai", api_key=KEY)["ready"]
    finally:
        server.close()
