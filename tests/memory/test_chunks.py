"""Chunks: a document in the passages that it is recalled in."""

import pytest

from kasal_jupyter.memory.parse import OVERLAP, PASSAGE, passages_of, rows_in_passages


def sentences(count):
    return [
        f"Sentence number {number} tells of the thing with the number {number}." for number in range(count)
    ]


def test_a_short_text_is_one_passage_as_it_is():
    assert passages_of("One.\nTwo.\n\nThree.") == ["One.\nTwo.\n\nThree."]
    assert passages_of(" \n\n ") == []


def test_every_sentence_is_whole_in_some_passage_and_none_is_too_long():
    told = sentences(200)
    passages = passages_of(" ".join(told))
    assert all(len(passage) <= PASSAGE for passage in passages)
    assert all(any(sentence in passage for passage in passages) for sentence in told)


def test_a_passage_begins_with_the_end_of_the_one_before():
    first, second, *_ = passages_of(" ".join(sentences(60)))
    shared = max(length for length in range(PASSAGE) if first.endswith(second[:length]))
    assert 40 < shared <= OVERLAP
    assert second.startswith("Sentence number 15 ")


def test_it_is_cut_between_paragraphs_where_that_can_be():
    paragraphs = [f"Paragraph {number}: {'word ' * 80}end." for number in range(6)]
    for passage in passages_of("\n\n".join(paragraphs)):
        assert passage.startswith("Paragraph")
        assert passage.endswith("end.")


@pytest.mark.parametrize(
    "text", ["x" * 5_000, "word " * 2_000, "。".join(["文" * 300] * 9), "\n" * 9_000 + "a"]
)
def test_what_has_no_sentences_is_cut_as_well(text):
    passages = passages_of(text)
    assert all(0 < len(passage) <= PASSAGE for passage in passages)
    assert sum(map(len, passages)) >= len(text.strip()) * 0.9


def test_a_markdown_passage_begins_with_the_headings_above_it():
    text = "# Returns\n\nFree.\n\n## Abroad\n\nNot free.\n\n```\n# no heading\n```\n\n# Other\n\nNothing."
    assert passages_of(text, headings=True) == [
        "Returns\nFree.",
        "Returns > Abroad\nNot free.\n\n```\n# no heading\n```",
        "Other\nNothing.",
    ]


def test_rows_stay_whole():
    rows = [f"name: {'n' * 90}; number: {number}" for number in range(50)]
    passages = rows_in_passages(rows)
    assert [row for passage in passages for row in passage.splitlines()] == rows
    assert max(map(len, passages)) <= PASSAGE
