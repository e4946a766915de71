"""Words: what a text is compared by."""

import pytest

from kasal_jupyter.memory.words import alike, telling, words_of


def test_case_and_accents_do_not_matter():
    assert words_of("Café ÉTÉ Straße") == ["cafe", "ete", "strasse"]


def test_what_has_no_alphabet_is_read_by_pairs():
    assert words_of("東京都 2024年") == ["東京", "京都", "2024", "年"]
    assert words_of("한국어") == ["한국", "국어"]


def test_common_words_tell_nothing_and_each_other_tells_once():
    assert telling("the price of the car: the car, el precio, die Autos") == [
        "price",
        "car",
        "precio",
        "autos",
    ]


def test_what_is_left_of_a_word_with_an_apostrophe():
    assert words_of("The customer's l'eau d\u2019accord 'quoted' it's") == [
        *("the", "customer", "eau", "accord", "quoted", "s")
    ]


def test_a_long_text_in_signs_has_all_its_pairs():
    assert len(words_of("会" * 500)) == 499


def test_how_alike_texts_are():
    assert alike("abc", "abc") == 1.0
    assert alike("ab", "cd") == 0.0
    assert alike("", "") == 1.0


@pytest.mark.parametrize("text", ["", " \n", "!?…", "\0\x1b[31m", "\ud800"])
def test_any_text_has_words_or_none(text):
    assert words_of(text) in ([], ["31m"])
