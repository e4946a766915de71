"""Reading what a crew is given to know: in linear time, whatever it is."""

import random

import orjson
import pytest

from kasal_jupyter.confined import confined
from kasal_jupyter.memory import chunks
from kasal_jupyter.memory.chunks import PASSAGE, passages_of, rows_in_passages
from kasal_jupyter.memory.parse import read
from kasal_jupyter.schemas.memory import MOST_PASSAGES

MOST = 1_900_000


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
