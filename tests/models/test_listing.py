"""The models to choose from, by what the environment says."""

import asyncio
import json

import pytest

from kasal_jupyter.models.catalog import OPENAI_DEFAULT, ModelCatalog, SandboxCatalog
from kasal_jupyter.models.listing import list_models
from kasal_jupyter.schemas.models import ModelPrice
from tests.servers.endpoint_server import endpoint_server, reply

KEY = "sk-1234567890"


def listed(default="", **environ):
    models = asyncio.run(list_models(ModelCatalog(default, environ)))
    assert len({model.name for model in models}) == len(models)
    return models


def by_name(models):
    return {model.name: model for model in models}


def test_without_a_key_only_the_sandbox_runs_and_the_others_say_why():
    first, *others = listed()
    assert (first.name, first.available, first.price) == ("sandbox", True, ModelPrice(input=0, output=0))
    assert not any(model.available or model.default for model in others)
    assert {model.provider for model in others} == {"openai", "anthropic", "google"}
    # A handful of each, to see what there could be.
    assert 10 < len(others) < 40
    assert "OPENAI_API_KEY" in by_name(others)[OPENAI_DEFAULT].reason
    for model in others:
        assert repr(model.name) in model.reason
        assert model.price is not None


def test_with_a_key_openais_models_run_with_window_and_price():
    models = listed(OPENAI_API_KEY=KEY)
    first = models[0]
    assert (first.name, first.provider, first.default, first.reason) == (OPENAI_DEFAULT, "openai", True, None)
    assert first.price == ModelPrice(input=0.4, output=1.6)
    assert first.context_window >= 1_000_000
    running = [model for model in models if model.available]
    assert {model.provider for model in running} == {"openai", "sandbox"}
    assert running == models[: len(running)]
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


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": KEY}])
def test_whatever_is_listed_as_available_can_be_resolved_and_nothing_else(environ):
    catalog = ModelCatalog("", environ)
    for model in listed(**environ):
        if model.available:
            assert catalog.resolve(model.name).name == model.name
        else:
            with pytest.raises(ValueError, match="sandbox") as caught:
                catalog.resolve(model.name)
            assert str(caught.value) == model.reason
