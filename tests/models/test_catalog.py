"""Names of models: who serves them, how they are spelled there, with which key."""

from datetime import date

import pytest

from kasal_jupyter.models.catalog import KEYLESS, OPENAI_DEFAULT, ModelCatalog, ModelUnavailable
from kasal_jupyter.models.providers import PROVIDERS, Credentials
from kasal_jupyter.schemas.spec import RunEmbedder, RunSearch

AWS = {"AWS_ACCESS_KEY_ID": "AKIA-1", "AWS_SECRET_ACCESS_KEY": "aws-secret", "AWS_REGION": "eu-central-1"}
AZURE = {"AZURE_API_KEY": "az-1", "AZURE_ENDPOINT": "https://x.openai.azure.com", "AZURE_API_VERSION": "2025"}


def catalog(environ=None, day="2026-11-25", **more):
    return ModelCatalog("", {} if environ is None else environ, today=lambda: date.fromisoformat(day), **more)


def test_the_sandbox_needs_nothing():
    assert catalog().resolve("sandbox").provider == "sandbox"


@pytest.mark.parametrize(
    ("name", "model"), [("gpt-6-sol", "gpt-6-sol"), ("openai/llama3", "llama3"), ("o5-mini", "o5-mini")]
)
def test_an_openai_model_takes_the_servers_key(name, model):
    found = catalog({"OPENAI_API_KEY": "sk-1"}).resolve(name)
    assert (found.name, found.provider, found.model, found.api_key) == (name, "openai", model, "sk-1")
    assert found.remark is None
    assert "sk-1" not in repr(found)


def test_a_server_of_ones_own_needs_no_key():
    found = catalog({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}).resolve("openai/m")
    assert (found.base_url, found.api_key) == ("http://127.0.0.1:1/v1", KEYLESS)


@pytest.mark.parametrize(
    "name", ["gpt-4", None, "claude-3-opus", "mystery", "openai/", "mystery/m", "azure/x"]
)
def test_a_model_that_cannot_run_says_what_to_do(name):
    with pytest.raises(ModelUnavailable, match=r"sandbox|openai/<model>"):
        catalog().resolve(name)


def test_the_default_model():
    assert ModelCatalog("sandbox", {}).resolve(None).provider == "sandbox"
    environ = {}
    keyed = catalog(environ)
    # A key that is set later counts at once.
    environ["OPENAI_API_KEY"] = "sk-1"
    assert keyed.resolve(None).model == OPENAI_DEFAULT


@pytest.mark.parametrize(
    ("name", "environ", "resolved"),
    [
        ("claude-opus-5", {"ANTHROPIC_API_KEY": "k"}, ("anthropic", "claude-opus-5", "k", None)),
        ("anthropic/claude-opus-5", {"ANTHROPIC_API_KEY": "k"}, ("anthropic", "claude-opus-5", "k", None)),
        ("gemini-3.8-flash", {"GOOGLE_API_KEY": "k"}, ("gemini", "gemini-3.8-flash", "k", None)),
        ("google/gemini-3.8-flash", {"GEMINI_API_KEY": "k"}, ("gemini", "gemini-3.8-flash", "k", None)),
        ("azure/mine", AZURE, ("azure", "mine", "az-1", "https://x.openai.azure.com")),
        ("bedrock/us.amazon.nova-pro-v1:0", AWS, ("bedrock", "us.amazon.nova-pro-v1:0", None, None)),
        ("us.anthropic.claude-opus-5", AWS, ("bedrock", "us.anthropic.claude-opus-5", None, None)),
        ("ollama/llama3.2:3b", {}, ("ollama", "llama3.2:3b", None, "http://127.0.0.1:11434")),
        (
            "openrouter/meta/llama-4",
            {"OPENROUTER_API_KEY": "k"},
            ("openai", "meta/llama-4", "k", "https://openrouter.ai/api/v1"),
        ),
        (
            "hosted_vllm/qwen",
            {"VLLM_BASE_URL": "http://gpu:8000/v1"},
            ("openai", "qwen", KEYLESS, "http://gpu:8000/v1"),
        ),
        (
            "databricks/dbrx",
            {"DATABRICKS_HOST": "adb-1.azuredatabricks.net", "DATABRICKS_TOKEN": "k"},
            ("openai", "dbrx", "k", "https://adb-1.azuredatabricks.net/serving-endpoints"),
        ),
    ],
)
def test_every_provider_takes_what_its_sdk_reads(name, environ, resolved):
    provider, model, key, base_url = resolved
    found = catalog(environ).resolve(name)
    assert (found.name, found.provider, found.model) == (name, provider, model)
    assert (found.api_key, found.base_url) == (key, base_url)


def test_options_go_by_the_names_that_crewai_has():
    assert catalog(AZURE).resolve("azure/mine").options == {"api_version": "2025"}
    bedrock = catalog(AWS).resolve("bedrock/m")
    assert bedrock.options == {
        "aws_access_key_id": "AKIA-1",
        "aws_secret_access_key": "aws-secret",
        "aws_region_name": "eu-central-1",
    }
    assert bedrock.secrets() == ["AKIA-1", "aws-secret"]
    assert "aws-secret" not in repr(bedrock)


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("127.0.0.1:11434", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("gpu-box", "http://gpu-box:11434"),
        ("http://gpu-box:8080/", "http://gpu-box:8080"),
        ("https://ollama.example.com/v1", "https://ollama.example.com"),
    ],
)
def test_ollamas_host_may_be_written_as_ollama_has_it(host, base_url):
    assert catalog({"OLLAMA_HOST": host}).resolve("ollama/m").base_url == base_url


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-4", ["OPENAI_API_KEY or OPENAI_BASE_URL", "PUT /v1/providers/openai"]),
        ("claude-3-opus", ["ANTHROPIC_API_KEY", "api_key by PUT /v1/providers/anthropic"]),
        ("azure/x", ["AZURE_API_KEY and AZURE_ENDPOINT", "api_key and base_url by PUT"]),
        (
            "bedrock/x",
            ["AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION", "options.aws_region_name"],
        ),
        ("groq/x", ["GROQ_API_KEY"]),
        ("my-box/x", ["PUT /v1/providers/my-box registers"]),
        ("opnai/gpt", ["did you mean 'openai'"]),
        ("llama3", ['"ollama/llama3"', '"openai/llama3"']),
    ],
)
def test_a_provider_that_is_not_set_says_what_to_set(name, says):
    with pytest.raises(ModelUnavailable) as caught:
        catalog().resolve(name)
    for text in says:
        assert text in str(caught.value)


def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(
        PROVIDERS,
        "anthropic",
        # Under another name for its module, which nothing has.
        type(PROVIDERS["anthropic"])(
            *("anthropic", "Anthropic", "anthropic"),
            key=("ANTHROPIC_API_KEY",),
            extra="anthropic",
            module="no_such_sdk",
        ),
    )
    with pytest.raises(ModelUnavailable) as caught:
        catalog().resolve("claude-opus-5")
    assert 'pip install "kasal-jupyter[anthropic]"' in str(caught.value)
    # Everything at once: the key is missing, too.
    assert "ANTHROPIC_API_KEY" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "day", "model", "on"),
    [
        ("claude-3-opus", "2025-12-01", "claude-3-opus-20240229", None),
        ("claude-3-opus", "2026-02-01", "claude-opus-4-1-20250805", "2026-01-05"),
        ("claude-3-opus", "2026-11-25", "claude-opus-4-8", "2026-01-05"),
        ("claude-3.5-sonnet", "2026-11-25", "claude-sonnet-4-5-20250929", "2025-10-28"),
        ("claude-3.5-sonnet", "2026-12-01", "claude-sonnet-5-5", "2025-10-28"),
        ("gpt-4", "2026-10-22", "gpt-4", None),
        ("gpt-4", "2026-10-23", "gpt-5.6-sol", "2026-10-23"),
        ("openai/gpt-4", "2026-10-23", "gpt-5.6-sol", "2026-10-23"),
        ("o1-mini", "2026-01-01", "o4-mini", "2025-10-27"),
        ("gemini-pro", "2026-11-25", "gemini-2.5-flash", "2025-02-15"),
        ("gemini-pro", "2026-12-01", "gemini-3.5-flash-lite", "2025-02-15"),
    ],
)
def test_a_retired_name_is_answered_by_its_successor(name, day, model, on):
    environ = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}
    found = catalog(environ, day).resolve(name)
    assert (found.name, found.model) == (name, model)
    if on is None:
        assert found.remark is None
    else:
        assert f"{name} was retired" in found.remark
        assert f"on {on}; {model} answers instead" in found.remark


def test_what_others_serve_by_the_same_name_is_not_retired():
    own = catalog({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    assert own.resolve("gpt-4").model == "gpt-4"
    assert catalog(AZURE).resolve("azure/gpt-4").model == "gpt-4"
    at_home = catalog({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://api.openai.com/v1"})
    assert at_home.resolve("gpt-4").model == "gpt-5.6-sol"


def stored(**by_owner):
    return lambda owner: by_owner.get(owner, {})


def test_the_owners_own_comes_before_the_servers_and_that_before_the_environments():
    environ = {"OPENAI_API_KEY": "sk-environment", "OPENAI_BASE_URL": "http://environment/v1"}
    catalogue = catalog(
        environ,
        stored=stored(
            ada={"openai": Credentials("user", "sk-ada", None)},
            grace={"openai": Credentials("server", None, "http://server/v1")},
        ),
    )
    ada, grace, other = (catalogue.of(owner).resolve("gpt-6-sol") for owner in ("ada", "grace", "other"))
    # Each as a whole: nobody's key goes to another's address.
    assert (ada.api_key, ada.base_url) == ("sk-ada", None)
    assert (grace.api_key, grace.base_url) == (KEYLESS, "http://server/v1")
    assert (other.api_key, other.base_url) == ("sk-environment", "http://environment/v1")


def test_an_address_that_errors_may_not_name_is_told_by_what_has_set_it():
    models = catalog(
        {"OPENAI_API_KEY": "sk-env", "OPENAI_API_BASE": "http://10.0.0.7/v1"},
        stored=stored(
            ada={"openai": Credentials("user", "sk-ada", "http://10.0.0.8/v1")},
            grace={"openai": Credentials("server", None, "http://10.0.0.9/v1")},
            tim={"openai": Credentials("server", None, "http://127.0.0.1:8000/v1")},
        ),
    )

    def told(owner):
        return models.of(owner).resolve("gpt-4o").address_set_by

    assert told("ada") is told("tim") is None
    assert told("grace") == "the administrator's setting of openai"
    assert told("somebody") == "OPENAI_API_BASE in the server's environment"


def test_servers_that_are_registered_by_name_are_used_side_by_side():
    mine = catalog(
        stored=stored(
            ada={
                "lab": Credentials("user", "sk-lab", "http://lab/v1", guarded=True),
                "den": Credentials("user", None, "http://den/v1"),
            }
        )
    ).of("ada")
    lab, den = mine.resolve("lab/qwen/qwen3"), mine.resolve("den/llama3")
    assert (lab.provider, lab.model, lab.api_key, lab.guarded) == ("openai", "qwen/qwen3", "sk-lab", True)
    assert (den.base_url, den.api_key, den.guarded) == ("http://den/v1", KEYLESS, False)
    with pytest.raises(ModelUnavailable):
        catalog().resolve("lab/qwen/qwen3")


def test_a_key_that_cannot_be_read_is_no_reason_to_take_another():
    catalogue = catalog(
        {"OPENAI_API_KEY": "sk-environment"},
        stored=stored(ada={"openai": Credentials("user", unreadable=True)}),
    )
    with pytest.raises(ModelUnavailable, match="give it again by PUT /v1/providers/openai"):
        catalogue.of("ada").resolve("gpt-6-sol")


def test_who_searches_the_web():
    assert catalog().search() == RunSearch(engine="ddgs")
    environ = {"SEARXNG_BASE_URL": "http://127.0.0.1:8888", "BRAVE_API_KEY": "br-1"}
    assert catalog(environ).search() == RunSearch(engine="brave", api_key="br-1", guarded=False)
    own = stored(ada={"searxng": Credentials("user", None, "https://searx.example.com", guarded=True)})
    assert catalog(environ, stored=own).of("ada").search() == RunSearch(
        engine="searxng", base_url="https://searx.example.com", guarded=True
    )


def test_what_makes_vectors():
    keyed = catalog({"OPENAI_API_KEY": "sk-1", "OLLAMA_HOST": "gpu", "ANTHROPIC_API_KEY": "k"})
    assert keyed.embedder() == keyed.embedder("offline") == RunEmbedder()
    assert keyed.embedder("openai/text-embedding-3-small") == RunEmbedder(
        provider="openai", model="text-embedding-3-small", api_key="sk-1"
    )
    ollama = keyed.embedder("ollama/nomic-embed-text")
    assert (ollama.provider, ollama.base_url) == ("ollama", "http://gpu:11434")
    with pytest.raises(ModelUnavailable, match="makes no vectors"):
        keyed.embedder("claude-opus-5")
    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        ModelCatalog("", {}, default_embedder="openai/text-embedding-3-small").embedder()
