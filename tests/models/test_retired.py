"""The table of retired models."""

from datetime import date

import pytest

from kasal_jupyter.models import retired
from kasal_jupyter.models.retired import retired_names, spelling

FAR = date(2100, 1, 1)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_every_successor_is_served_at_last_and_the_chain_ends(provider):
    table = retired._TABLES[provider]
    for model in table:
        found = retired.retired(provider, model, FAR)
        assert found.successor not in table
        assert found.on == table[model].on


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_nothing_is_retired_before_its_day(provider):
    for model, entry in retired._TABLES[provider].items():
        assert retired.retired(provider, model, date.fromordinal(entry.on.toordinal() - 1)) is None
        assert retired.retired(provider, model, entry.on) is not None


def test_a_name_that_people_write_is_spelled_as_its_provider_does():
    assert spelling("anthropic", "claude-3-opus") == "claude-3-opus-20240229"
    assert spelling("anthropic", "Claude-3.5-Haiku") == "claude-3-5-haiku-20241022"
    assert spelling("anthropic", "claude-2.1") == "claude-2.1"
    assert spelling("openai", "gpt-4") == "gpt-4"


def test_the_names_that_are_listed_have_no_dates():
    names = list(retired_names("anthropic", date(2026, 11, 25)))
    assert "claude-3-opus" in names
    assert not any(name[-4:].isdigit() for name in names)
    assert "gpt-4" in retired_names("openai", date(2026, 11, 25))
    assert "gpt-4" not in retired_names("openai", date(2026, 10, 22))
