"""Addresses of models that a run's user has named: held to the rules for tools, whoever calls them."""

import pytest

from tests.engine import agent, crew, openai_model, task
from tests.servers.endpoint_server import endpoint_server, redirect
from tests.servers.openai_server import OpenAIServer, Reply


@pytest.fixture
def run(engine, tmp_path):
    """Run a crew of one agent on a model that its user has named."""

    def call(url, **more):
        model = openai_model(url)
        model["gpt"]["guarded"] = True
        if url_of_admin := more.pop("admins", None):
            model["free"] = {**model["gpt"], "name": "free", "base_url": url_of_admin, "guarded": False}
        return engine.run(
            crew(
                tmp_path,
                [agent("Speaker", model="free" if "free" in model else "gpt", settings={"timeout": 10})],
                [task("t", "speaker", "Say something")],
                models=model,
                **more,
            )
        )

    return call


def test_what_only_this_machine_can_reach_is_not_called(run):
    with OpenAIServer(Reply("Never")) as server:
        record = run(server.url)
        assert server.requests == []
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "MODEL_UNREACHABLE"


def test_what_the_deployer_allows_is_called(run):
    with OpenAIServer(Reply("Hello")) as server:
        record = run(server.url, allowed_hosts=["127.0.0.1"])
    assert (record.end["status"], record.end["result"].strip()) == ("completed", "Hello")


def test_a_redirect_gets_no_further(run):
    with OpenAIServer(Reply("Never")) as inner, endpoint_server() as outer:
        outer.replies["/v1/chat/completions"] = redirect(f"{inner.url}/chat/completions", 307)
        # Allowed by its name only; the redirect goes to the address.
        record = run(f"http://localhost:{outer.port}/v1", allowed_hosts=["localhost"])
        assert inner.requests == []
        assert outer.asked != []
    assert record.end["status"] == "failed"


def test_an_admins_address_is_called_beside_a_users(run):
    with OpenAIServer(Reply("Hello")) as free, OpenAIServer(Reply("Never")) as inner:
        record = run(inner.url, admins=free.url)
        assert inner.requests == []
    assert record.end["status"] == "completed"
