"""Reading what a crew is given to know: in linear time, whatever it is."""

import random

import orjson
import pytest

from kasal_jupyter.confined import confined
from kasal_jupyter.memory import parse as chunks
from kasal_jupyter.memory.parse import OVERLAP, PASSAGE, passages_of, read, rows_in_passages
from kasal_jupyter.schemas.memory import MOST_PASSAGES

MOST = 1_900_000

pytestmark = pytest.mark.usefixtures("lent")


def read_text(kind, text):
    return orjson.loads(read(kind.encode() + b"\n" + text.encode()))["passages"]


@pytest.mark.parametrize(
    ("line", "title"),
    [("# a", "a"), ("###### b ## c ##", "b ## c"), ("####### seven", None), ("#none", None), ("# ##", None)],
)
def test_headings_are_told_from_text(line, title):
    (passage,) = passages_of(f"{line}\ntext", headings=True)
    assert passage == (f"{title}\ntext" if title else f"{line}\ntext")


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("name,born\nAda,1815\n", "name: Ada; born: 1815"),
        ("name;born;by\nAda;1815;a,b\n", "name: Ada; born: 1815; by: a,b"),
        ("name\tborn\nAda\t1815\n", "name: Ada; born: 1815"),
        ('a|b\n"x|y"|z\n', "a: x|y; b: z"),
        ("alone\nAda\n", "alone: Ada"),
    ],
)
def test_what_parts_a_tables_cells_is_found(text, passage):
    assert read_text("text/csv", text) == [passage]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/markdown", "# a" + "#" * MOST + "b"),
        ("text/markdown", f"# {'t' * (MOST // 2)}\n" + "## a\nb\n" * (MOST // 16)),
        ("text/csv", '\n"' * (MOST // 2)),
        ("text/csv", "a" * 100_000 + ",b\n" + "1,2\n" * (MOST // 8)),
        ("text/csv", "," * MOST),
        ("text/plain", "a" * MOST),
        ("text/plain", "a.\n" * (MOST // 3)),
        ("text/plain", '."' * (MOST // 2)),
        ("application/json", "[" * MOST),
        ("application/json", "[" + "{}," * (MOST // 3) + "{}]"),
        ("application/json", '{"a":' * (MOST // 5)),
        ("text/html", "<b>" * (MOST // 3)),
    ],
)
def test_whatever_is_given_ends(kind, text):
    try:
        confined("kasal_jupyter.memory.parse:read", kind.encode() + b"\n" + text.encode(), seconds=120)
    except ValueError:
        return


@pytest.mark.parametrize("unit", ["a. ", "a.\n", "word ", "a", ".'\"", "# a\n", "\n \n", "```\n# a\n"])
def test_twice_the_text_is_twice_the_work(monkeypatch, unit):
    steps = 0
    original = chunks._joined

    def count(held):
        nonlocal steps
        steps += len(held)
        return original(held)

    monkeypatch.setattr(chunks, "_joined", count)
    done = []
    for size in (20_000, 40_000):
        steps = 0
        passages_of(unit * (size // len(unit)), headings=True)
        done.append(steps)
    assert done[1] <= 2.2 * done[0] + 10


def test_more_passages_than_a_crew_may_have_are_refused_when_there_is_one_too_many():
    taken = 0

    def rows():
        nonlocal taken
        while taken < 2 * MOST_PASSAGES:
            taken += 1
            yield "x" * PASSAGE

    with pytest.raises(ValueError, match="more than 10,000 passages"):
        rows_in_passages(rows())
    assert taken <= MOST_PASSAGES + 3


@pytest.mark.parametrize("seed", range(3))
def test_long_pieces_are_cut_as_they_always_were(seed):
    chance = random.Random(seed)
    text = "".join(chance.choices("abc  ", k=9_000))
    passages = passages_of(text)
    assert all(len(passage) <= PASSAGE for passage in passages)
    assert {word for passage in passages for word in passage.split()} >= set(text.split())


# -- Chunks: a document in the passages that it is recalled in -----------------------------------------


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
