"""Words: what a text is compared by."""

import pytest

from kasal_jupyter.memory.words import COMMON_WEIGHT, alike, stem, stems_of, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("report", "reports"),
        ("report", "reporting"),
        ("plan", "planning"),
        ("prefer", "preferred"),
        ("company", "companies"),
        ("price", "prices"),
        ("rechnung", "rechnungen"),
    ],
)
def test_forms_of_a_word_have_one_stem(one, other):
    assert stem(one) == stem(other)


def test_short_words_and_numbers_stay_as_they_are():
    assert [stem(word) for word in ("is", "gas", "2024", "gpt4s")] == ["is", "gas", "2024", "gpt4s"]


def test_case_and_accents_do_not_matter():
    assert words_of("Café ÉTÉ Straße") == ["cafe", "ete", "strasse"]


def test_what_has_no_alphabet_is_read_by_pairs():
    assert words_of("東京都 2024年") == ["東京", "京都", "2024", "年"]
    assert words_of("한국어") == ["한국", "국어"]


def test_common_words_count_little():
    stems = stems_of("the price of the car")
    assert stems["car"] == 1.0
    assert COMMON_WEIGHT <= stems["the"] < 0.2


def test_how_alike_texts_are():
    assert alike("abc", "abc") == 1.0
    assert alike("ab", "cd") == 0.0
    assert alike("", "") == 1.0


@pytest.mark.parametrize("text", ["", " \n", "!?…", "\0\x1b[31m", "\ud800"])
def test_any_text_has_words_or_none(text):
    assert words_of(text) in ([], ["31m"])
