"""The models over the API."""

import json

import pytest

from tests.accounts import log_in
from tests.server import start_server
from tests.servers.endpoint_server import endpoint_server, reply

KEY = "sk-of-the-servers-environment"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A server with a key for OpenAI."""
    server = start_server(tmp_path_factory.mktemp("keyed"), environ={"OPENAI_API_KEY": KEY})
    yield server
    server.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server with a model server of its own, and that one."""
    with endpoint_server() as models:
        models.replies["/v1/models"] = reply(json.dumps({"data": [{"id": "llama3.2"}]}))
        server = start_server(
            tmp_path_factory.mktemp("own"),
            "--KasalApp.default_model=openai/llama3.2",
            environ={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{models.url}/v1"},
        )
        yield server, models
        server.close()


def listed(client, **query):
    answer = client.get("/models", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_server_without_keys_has_the_sandbox_and_says_what_is_missing(api):
    models = listed(api)["models"]
    assert models[0] == {
        "name": "sandbox",
        "provider": "sandbox",
        "available": True,
        "reason": None,
        "context_window": 200_000,
        "price": {"input": 0.0, "output": 0.0},
        "default": False,
        "has_key": False,
        "retired": None,
        "successor": None,
    }
    assert not any(model["available"] for model in models[1:])
    assert all(model["reason"] for model in models[1:])


def test_a_key_makes_openais_models_available_and_is_never_shown(keyed):
    with keyed.client() as client:
        page = listed(client)
        first = page["models"][0]
        assert (first["name"], first["default"], first["price"]) == (
            "gpt-4.1-mini",
            True,
            {"input": 0.4, "output": 1.6},
        )
        assert KEY not in json.dumps(page)


def test_lists_are_paged_filtered_searched_and_sorted(keyed):
    with keyed.client() as client:
        everything = listed(client)
        assert everything["total"] == len(everything["models"])
        paged = [listed(client, page=page, per_page=20) for page in (1, 2, 3, 4)]
        assert [model for page in paged for model in page["models"]] == everything["models"]
        running = listed(client, available="true")
        others = listed(client, available="false")
        assert running["models"] + others["models"] == everything["models"]
        assert listed(client, sort="available")["models"] == others["models"] + running["models"]
        assert {model["provider"] for model in listed(client, provider="Anthropic")["models"]} == {
            "anthropic"
        }
        found = listed(client, search="4.1-MINI")["models"]
        assert [model["name"] for model in found] == ["gpt-4.1-mini"]
        names = [model["name"] for model in listed(client, sort="-name")["models"]]
        assert names == sorted(names, reverse=True)
        priced = [model["price"] for model in listed(client, sort="price")["models"]]
        known = [price for price in priced if price is not None]
        assert priced == [*known, *[None] * (len(priced) - len(known))]
        prices = [sum(price.values()) for price in known]
        assert prices == sorted(prices)
        assert listed(client, sort="price")["models"][0]["name"] == "sandbox"


def test_a_model_server_is_asked_once_a_minute_and_by_nothing_else(own):
    server, models = own
    with server.client() as client:
        for _ in range(20):
            first, *others = listed(client)["models"]
            client.get("/crews")
        assert (first["name"], first["default"], first["available"]) == ("openai/llama3.2", True, True)
        assert first["price"] is None
        # In another order, unknown prices stay last.
        last = [model for model in listed(client, sort="-price")["models"] if model["available"]][-1]
        assert last == first
        assert KEY not in json.dumps(others)
    assert [asked.target for asked in models.asked] == ["/v1/models"]


def test_a_viewer_may_look(live_server):
    with log_in(live_server, "viewer") as viewer:
        assert listed(viewer)["models"][0]["name"] == "sandbox"


def test_a_sort_that_there_is_not_is_refused(api):
    assert api.get("/models", params={"sort": "colour"}).status_code == 400
