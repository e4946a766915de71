"""What models cost, by a list that comes with the installation."""

from datetime import UTC, datetime

import pytest

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.models import ModelPrice

NOW = datetime(2025, 11, 24, 12, tzinfo=UTC)
OPENROUTER = "https://openrouter.ai/api/v1"


def usage(prompt, completion, **more):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **more,
    }


def test_tokens_are_charged_at_their_price_and_cached_ones_at_theirs():
    assert prices.cost("gpt-4.1-mini", None, usage(1_000_000, 0), NOW) == pytest.approx(0.4)
    assert prices.cost("gpt-4.1-mini", None, usage(0, 1_000_000), NOW) == pytest.approx(1.6)
    halved = usage(1_000_000, 0, cached_tokens=500_000)
    assert prices.cost("gpt-4.1-mini", None, halved, NOW) == pytest.approx(0.2 + 0.05)
    assert prices.cost("gpt-4.1-mini", None, usage(0, 0), NOW) == 0.0


def test_the_price_is_that_of_the_day():
    a_million = usage(1_000_000, 0)
    before = prices.cost("o3", None, a_million, datetime(2025, 1, 15, tzinfo=UTC))
    assert prices.cost("o3", None, a_million, NOW) == pytest.approx(2)
    assert before == pytest.approx(10)


@pytest.mark.parametrize(
    ("model", "base_url", "tokens"),
    [
        ("gpt-4.1-mini", None, None),
        ("a-model-that-nobody-knows", None, usage(10, 5)),
        # Listed, but sold otherwise than by tokens read and written.
        ("whisper-1", None, usage(10, 5)),
        ("text-embedding-3-small", None, usage(10, 5)),
        # The same name, but on somebody's own server.
        ("gpt-4.1-mini", "http://127.0.0.1:11434/v1", usage(10, 5)),
        ("gpt-4.1-mini", "https://api.openai.com@models.example.com/v1", usage(10, 5)),
        # Counts that cannot be.
        ("gpt-4.1-mini", None, usage(10, 5, cached_tokens=20)),
        ("gpt-4.1-mini", None, usage(-10, 5)),
    ],
)
def test_what_is_not_known_is_unknown_and_never_zero(model, base_url, tokens):
    assert prices.cost(model, base_url, tokens, NOW) is None


def test_a_provider_that_is_known_by_its_address_has_its_own_prices():
    assert prices.cost("openai/gpt-4.1-mini", OPENROUTER, usage(1_000_000, 0), NOW) == pytest.approx(0.4)
    assert prices.cost("gpt-4.1-mini", "https://API.openai.com/v1", usage(1_000_000, 0), NOW) is not None
    assert prices.provider_of(OPENROUTER) == "openrouter"
    assert prices.provider_of(None) == prices.provider_of("https://api.openai.com/v1") == "openai"
    assert prices.provider_of("http://127.0.0.1:11434/v1") is None


def test_a_model_is_known_with_its_window_and_its_price():
    known = prices.known_model("gpt-4.1-mini-2025-04-14", None, NOW)
    assert known.price == ModelPrice(input=0.4, output=1.6)
    assert known.context_window >= 1_000_000
    assert prices.known_model("a-model-that-nobody-knows", None, NOW) is None


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_those_to_choose_from_are_there_to_be_talked_to(provider):
    models = prices.chat_models(provider, NOW)
    assert len(models) > 10
    assert all(model.price.output > 0 for model in models)
    names = " ".join(model.name for model in models)
    for other in ("embedding", "image", "audio", "realtime", "tts", "whisper", "2024-", "2025-", "ft:"):
        assert other not in names


def test_the_newest_are_one_of_each_family():
    models = prices.chat_models("anthropic", NOW)
    names = [model.name for model in prices.newest(prices.current(models, 2))]
    assert len([name for name in names if "sonnet" in name]) == 1
    assert not [name for name in names if name.startswith("claude-3")]
    assert 2 <= len(names) <= 10


def test_a_provider_that_the_list_does_not_have_has_no_models():
    assert prices.chat_models("nobody", NOW) == ()
    assert prices.newest(prices.current((), 2)) == []
