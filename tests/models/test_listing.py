"""The models to choose from, by what the environment says."""

import asyncio
import contextlib
import json
import threading
from dataclasses import replace

import pytest

from kasal_jupyter.models.catalog import OPENAI_DEFAULT, ModelCatalog, SandboxCatalog
from kasal_jupyter.models.listing import doubts, list_models
from kasal_jupyter.models.providers import Credentials
from kasal_jupyter.schemas.models import ModelPrice
from kasal_jupyter.tools.guard import HostGuard
from tests.servers.endpoint_server import endpoint_server, reply
from tests.servers.ollama_server import Installed, OllamaServer

KEY = "sk-1234567890"


NOBODY = "http://127.0.0.1:9"
"""Where no Ollama answers; one may run on the machine of the tests."""


def listed(default="", **environ):
    models = asyncio.run(list_models(ModelCatalog(default, {"OLLAMA_HOST": NOBODY, **environ})))
    assert len({model.name for model in models}) == len(models)
    return models


def by_name(models):
    return {model.name: model for model in models}


def test_without_a_key_only_the_sandbox_runs_and_the_others_say_why():
    first, *others = listed()
    assert (first.name, first.available, first.price) == ("sandbox", True, ModelPrice(input=0, output=0))
    assert not any(model.available or model.default for model in others)
    assert {model.provider for model in others} == {
        *("openai", "anthropic", "gemini", "azure", "bedrock", "ollama")
    }
    # A handful of each, to see what there could be.
    assert 10 < len(others) < 40
    assert "OPENAI_API_KEY" in by_name(others)[OPENAI_DEFAULT].reason
    for model in others:
        if "<" in model.name:
            # Nobody knows what there would be.
            assert model.reason
        else:
            assert repr(model.name) in model.reason
            assert model.price is not None
        assert not model.has_key


def test_with_a_key_openais_models_run_with_window_and_price():
    models = listed(OPENAI_API_KEY=KEY)
    first = models[0]
    assert (first.name, first.provider, first.default, first.reason) == (OPENAI_DEFAULT, "openai", True, None)
    assert first.price == ModelPrice(input=0.4, output=1.6)
    assert first.context_window >= 1_000_000
    running = [model for model in models if model.available]
    assert {model.provider for model in running} == {"openai", "sandbox"}
    assert running == models[: len(running)]
    assert {model.has_key for model in running} == {True, False}
    assert 20 < len(models) < 100
    assert [model.default for model in models].count(True) == 1
    # Each is what a run would get.
    catalog = ModelCatalog("", {"OPENAI_API_KEY": KEY})
    assert all(catalog.resolve(model.name) for model in running)


def test_no_key_is_ever_in_it():
    with endpoint_server() as server:
        base_url = f"{server.url.replace('://', '://ada:pass-word@')}/v1"
        models = [*listed(OPENAI_API_KEY=KEY), *listed(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=base_url)]
    written = json.dumps([model.model_dump() for model in models])
    assert KEY not in written
    assert "pass-word" not in written


def test_the_servers_default_is_marked_listed_or_not():
    assert by_name(listed("sandbox"))["sandbox"].default
    found = by_name(listed("openai/my-own", OPENAI_API_KEY=KEY))
    assert (found["openai/my-own"].default, found["openai/my-own"].available) == (True, True)
    assert found["openai/my-own"].price is None
    assert not found[OPENAI_DEFAULT].default
    unusable = by_name(listed("claude-of-a-default", OPENAI_API_KEY=KEY))["claude-of-a-default"]
    assert (unusable.default, unusable.available, unusable.provider) == (True, False, "anthropic")
    assert "Anthropic" in unusable.reason


def test_a_server_of_ones_own_lists_what_it_serves():
    data = [{"id": "llama3.2", "max_model_len": 131_072}, {"id": "gpt-4o"}, {"id": "qwen/qwen3"}]
    with endpoint_server() as server:
        server.replies["/v1/models"] = reply(json.dumps({"data": data}))
        models = listed("openai/llama3.2", OPENAI_BASE_URL=f"{server.url}/v1")
        place = server.url.removeprefix("http://")
    running = [model for model in models if model.available]
    assert [model.name for model in running] == ["openai/llama3.2", "gpt-4o", "openai/qwen/qwen3", "sandbox"]
    assert {model.provider for model in running} == {place, "sandbox"}
    llama, gpt = running[:2]
    assert (llama.default, llama.context_window, llama.price) == (True, 131_072, None)
    # What it is called is no price: OpenAI's gpt-4o is another.
    assert gpt.price is None
    assert "openai" not in {model.provider for model in models}


def test_a_server_that_does_not_answer_says_why():
    models = listed(OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    (failed,) = (model for model in models if model.provider == "127.0.0.1:9")
    assert not failed.available
    assert "127.0.0.1:9" in failed.reason
    assert "it cannot be reached" in failed.reason
    assert models[0].name == "sandbox"


def test_openais_own_address_is_not_asked():
    at_home = listed(OPENAI_API_KEY=KEY, OPENAI_BASE_URL="https://api.openai.com/v1")
    assert at_home == listed(OPENAI_API_KEY=KEY)


def test_in_the_sandbox_there_is_nothing_else():
    (only,) = asyncio.run(list_models(SandboxCatalog()))
    assert (only.name, only.available, only.default) == ("sandbox", True, True)


def test_retired_models_come_last_and_name_their_successors():
    models = listed(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY="sk-ant-1")
    found = by_name(models)
    for name, on in (("gpt-4", "2026-10-23"), ("claude-3-opus", "2026-01-05")):
        model = found[name]
        assert (model.available, model.retired) == (True, on)
        successor = found[model.successor]
        assert (successor.retired, successor.price) == (None, model.price)
    running = [model for model in models if model.available]
    first = next(place for place, model in enumerate(running) if model.retired)
    assert all(model.retired for model in running[first:])
    # Whoever serves gpt-4 still has not retired it.
    with endpoint_server() as server:
        server.replies["/v1/models"] = reply(json.dumps({"data": [{"id": "gpt-4"}]}))
        own = by_name(listed(OPENAI_BASE_URL=f"{server.url}/v1"))
    assert own["gpt-4"].retired is None


def test_every_provider_with_a_key_lists_its_models_with_window_and_price():
    models = listed(
        ANTHROPIC_API_KEY="k",
        GEMINI_API_KEY="k",
        AWS_ACCESS_KEY_ID="k",
        AWS_SECRET_ACCESS_KEY="k",
        AWS_REGION="eu-central-1",
        AZURE_API_KEY="k",
        AZURE_ENDPOINT="https://x.openai.azure.com",
        AZURE_DEPLOYMENTS="gpt-4o, mine",
    )
    running = [model for model in models if model.available]
    assert {model.provider for model in running} == {"sandbox", "anthropic", "gemini", "azure", "bedrock"}
    for provider in ("anthropic", "gemini", "bedrock"):
        theirs = [model for model in running if model.provider == provider and model.retired is None]
        assert len(theirs) > 3
        assert all(model.price for model in theirs)
    found = by_name(models)
    assert found["azure/gpt-4o"].price is not None
    assert found["azure/mine"].price is None
    assert "azure/<deployment>" not in found
    unnamed = by_name(listed(AZURE_API_KEY="k", AZURE_ENDPOINT="https://x.openai.azure.com"))
    assert "azure/<deployment>" in unnamed["azure/<deployment>"].reason


def test_what_ollama_has_installed_is_listed_live():
    models = [
        Installed("llama3.2:latest"),
        Installed("qwen3:8b", longest=40_960, loaded=8_192),
        Installed("nomic-embed-text:latest", capabilities=("embedding",)),
        Installed("odd:1b", longest=None),
    ]
    with OllamaServer(models) as ollama:
        found = by_name(listed("ollama/qwen3:8b", OLLAMA_HOST=ollama.url))
        theirs = {name: model for name, model in found.items() if model.provider == "ollama"}
    assert set(theirs) == {"ollama/llama3.2:latest", "ollama/qwen3:8b", "ollama/odd:1b"}
    assert all(model.available and model.price is None for model in theirs.values())
    windows = [theirs[f"ollama/{name}"].context_window for name in ("llama3.2:latest", "qwen3:8b", "odd:1b")]
    # What it was loaded with is less than what it could take.
    assert windows == [131_072, 8_192, None]
    assert theirs["ollama/qwen3:8b"].default


def test_an_ollama_that_is_not_there_says_what_to_do():
    found = by_name(listed())["ollama/<model>"]
    assert not found.available
    for text in ("127.0.0.1:9 was asked", "it cannot be reached", "start Ollama", "OLLAMA_HOST"):
        assert text in found.reason


def test_named_servers_are_asked_all_at_the_same_time():
    """None of them waits for another one: each answers only when all have been asked."""
    together = threading.Barrier(3, timeout=30)

    def answer(name):
        def wait_for_the_others(handler, asked):
            together.wait()
            reply(json.dumps({"data": [{"id": name}]}))(handler, asked)

        return wait_for_the_others

    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(endpoint_server()) for name in ("lab", "den", "groq")}
        for name, server in servers.items():
            server.replies["/v1/models"] = answer(f"{name}-model")
        own = {
            name: Credentials("user", f"sk-{name}", f"{server.url}/v1") for name, server in servers.items()
        }
        catalog = ModelCatalog("", {"OLLAMA_HOST": NOBODY}, stored=lambda _owner: own).of("ada")
        found = by_name(asyncio.run(list_models(catalog)))
        keys = {name: server.asked[0].headers["authorization"] for name, server in servers.items()}
    for name in servers:
        assert (found[f"{name}/{name}-model"].provider, found[f"{name}/{name}-model"].available) == (
            name,
            True,
        )
    assert keys == {name: f"Bearer sk-{name}" for name in servers}


def test_a_users_address_is_asked_by_the_rules_for_tools():
    with endpoint_server() as server:
        own = {"lab": Credentials("user", "sk-1", f"{server.url}/v1", guarded=True)}
        base = ModelCatalog("", {"OLLAMA_HOST": NOBODY}, stored=lambda _owner: own)
        refused = by_name(asyncio.run(list_models(base.of("ada"))))["lab/<model>"]
        assert server.asked == []
        server.replies["/v1/models"] = reply(json.dumps({"data": [{"id": "m"}]}))
        allowed = replace(base, guard=HostGuard(["127.0.0.1"])).of("ada")
        assert by_name(asyncio.run(list_models(allowed)))["lab/m"].available
    assert "may not be called" in refused.reason
    assert "this machine" in refused.reason


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": KEY}])
def test_whatever_is_listed_as_available_can_be_resolved_and_nothing_else(environ):
    catalog = ModelCatalog("", environ)
    for model in listed(**environ):
        if model.available:
            assert catalog.resolve(model.name).name == model.name
        elif "<" not in model.name:
            with pytest.raises(ValueError, match="sandbox") as caught:
                catalog.resolve(model.name)
            assert str(caught.value) == model.reason


def test_a_model_that_nobody_is_known_to_serve_is_doubted():
    with OllamaServer([Installed("llama3.2:latest"), Installed("qwen3:4b")]) as ollama:
        environ = {"OPENAI_API_KEY": KEY, "OLLAMA_HOST": ollama.url}
        names = [
            *("sandbox", "gpt-4", "gpt-4.1-mini", "ft:gpt-4.1:mine", "gpt-99", "claude-9", "nobody/x"),
            *("ollama/llama3.2", "ollama/qwen3:4b", "ollama/qwen3"),
        ]
        found = asyncio.run(doubts(ModelCatalog("", environ), names))
        gone = asyncio.run(doubts(ModelCatalog("", {"OLLAMA_HOST": NOBODY}), ["ollama/llama3.2"]))
        assert asyncio.run(doubts(SandboxCatalog(), names)) == {}
    assert found.keys() == {"gpt-99", "ollama/qwen3"}
    assert found["gpt-99"].startswith("No model 'gpt-99' of OpenAI is known here")
    assert found["gpt-99"].endswith("`provider test openai --model gpt-99` asks it")
    assert "does not list 'qwen3'; did you mean 'qwen3:4b'? `provider test" in found["ollama/qwen3"]
    assert "start Ollama" in gone["ollama/llama3.2"]
