"""``jupyter kasal provider``, with a real server; keys come from the standard input, never from the words."""

import io
import json

import pytest

from kasal_jupyter.cli import main
from tests.accounts import log_in
from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.openai_server import Reply
from tests.servers.picky_server import ListingServer

KEY = "sk-typed-in-0123456789abcdef"


@pytest.fixture
def run(live_server, monkeypatch, capsys):
    """Carry out the command with what is typed; give its exit status and what it prints."""

    def call(*words, typed="", token=None):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        status = main(["provider", *words, "--url", live_server.url, "--token", token or live_server.token])
        said = capsys.readouterr()
        assert KEY not in said.out + said.err
        return status, said.out + said.err

    return call


def test_a_key_is_set_used_and_deleted(run, api):
    assert run("set", "anthropic", typed=f"{KEY}\n") == (0, "Anthropic is ready\n")
    assert api.get("/providers/anthropic").json()["source"] == "user"
    _, said = run("list", "--json")
    assert {each["name"]: each for each in json.loads(said)}["anthropic"]["has_key"]
    assert run("delete", "anthropic")[0] == 0
    status, said = run("delete", "anthropic")
    assert (status, "Nothing is stored" in said) == (1, True)


def test_a_server_without_keys_gets_a_name(run, api):
    with endpoint_server() as server:
        server.replies["/v1/models"] = reply(json.dumps({"data": [{"id": "llama3"}]}))
        assert run("set", "den", "--keyless", "--base-url", f"{server.url}/v1")[0] == 0
        found = api.get("/models", params={"provider": "den"}).json()["models"]
    assert [model["name"] for model in found] == ["den/llama3"]
    assert run("delete", "den")[0] == 0


def test_what_else_a_provider_needs_is_asked_for(run, api):
    typed = f"AKIA1234567890\n{KEY}\neu-central-1\n"
    assert run("set", "bedrock", "--for-all", typed=typed) == (0, "Amazon Bedrock is ready\n")
    assert api.get("/providers/bedrock").json()["scopes"] == ["server"]
    assert run("delete", "bedrock", "--for-all")[0] == 0


def test_the_list_says_what_each_needs(run):
    status, said = run("list")
    assert status == 0
    lines = said.splitlines()
    assert lines[0].split()[:2] == ["provider", "ready"]
    # It needs no key, and does not run here.
    (ollama,) = (line for line in lines if line.split()[:1] == ["ollama"])
    assert ollama.split()[1] == "no"
    assert "ANTHROPIC_API_KEY" in said


@pytest.mark.parametrize(
    ("words", "typed", "says"),
    [
        (("set", "openai"), "", "no line for it on the standard input"),
        (("set", "openai"), f"Bearer {KEY}\n", "without 'Bearer'"),
        (("set", "azure"), f"{KEY}\n", "base_url"),
        (("set", "lab", "--keyless"), "", "base_url"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_stored(run, words, typed, says):
    status, said = run(*words, typed=typed)
    assert status == 1
    assert says in said


def test_for_everybody_takes_an_administrator(run, live_server):
    with log_in(live_server) as editor:
        token = editor.headers["Authorization"].removeprefix("Bearer ")
    status, said = run("set", "openai", "--for-all", typed=f"{KEY}\n", token=token)
    assert status == 1
    assert "admin" in said


def test_a_provider_is_tested_and_the_status_says_whether_it_works(run, api):
    with ListingServer(Reply("Here."), Reply("No.", status=401)) as server:
        api.put("/providers/den", json={"base_url": server.url, "api_key": KEY})
        status, said = run("test", "den")
        assert (status, "✔ den works: den/llama3 has answered" in said) == (0, True), said
        status, said = run("test", "den", "--model", "llama3", "--json")
    api.delete("/providers/den")
    found = json.loads(said)
    assert (status, found["works"], found["code"]) == (1, False, "MODEL_AUTH")
    assert "jupyter kasal provider set den" in found["message"]
