import pytest

from kasal_jupyter.models.catalog import KEYLESS, OPENAI_DEFAULT, ModelCatalog, ModelUnavailable


def test_the_sandbox_needs_nothing():
    assert ModelCatalog("", {}).resolve("sandbox").provider == "sandbox"


@pytest.mark.parametrize(
    ("name", "model"), [("gpt-4", "gpt-4"), ("openai/llama3", "llama3"), ("o3-mini", "o3-mini")]
)
def test_an_openai_model_takes_the_servers_key(name, model):
    found = ModelCatalog("", {"OPENAI_API_KEY": "sk-1"}).resolve(name)
    assert (found.name, found.provider, found.model, found.api_key) == (name, "openai", model, "sk-1")
    assert "sk-1" not in repr(found)


def test_a_server_of_ones_own_needs_no_key():
    found = ModelCatalog("", {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}).resolve("openai/m")
    assert (found.base_url, found.api_key) == ("http://127.0.0.1:1/v1", KEYLESS)


@pytest.mark.parametrize("name", ["gpt-4", None, "claude-3-opus", "mystery", "openai/"])
def test_a_model_that_cannot_run_says_what_to_do(name):
    with pytest.raises(ModelUnavailable, match=r"sandbox|openai/<model>"):
        ModelCatalog("", {}).resolve(name)


def test_the_default_model():
    assert ModelCatalog("sandbox", {}).resolve(None).provider == "sandbox"
    environ = {}
    catalog = ModelCatalog("", environ)
    # A key that is set later counts at once.
    environ["OPENAI_API_KEY"] = "sk-1"
    assert catalog.resolve(None).model == OPENAI_DEFAULT
