"""The tables: a crew's texts are found from the change on that brings them, to the one that takes them."""

import sqlite3

import pytest

from kasal_jupyter.memory import tables
from kasal_jupyter.memory.tables import KINDS, Record
from tests.memory.conftest import TIME, records
from tests.memory.retrieval import KNOWN


def counts(known):
    """Count the rows of each table that has one for a text."""
    return {
        name: known.connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        for name in ("memory_texts", "memory_words", "memory_vectors")
    }


def test_a_number_says_whose_a_text_is_and_of_what_kind():
    numbers = [
        tables.number_of(crew, kind, place) for crew in (1, 2) for kind in KINDS for place in (1, 2**32 - 1)
    ]
    assert numbers == sorted(numbers)
    assert [tables.kind_of(number) for number in numbers] == [
        kind for _ in range(2) for kind in KINDS for _ in "ab"
    ]
    first, last = tables.numbers_of(2)
    assert [number for number in numbers if first <= number <= last] == numbers[6:]
    first, last = tables.numbers_of(1, ["knowledge"])
    assert [number for number in numbers if first <= number <= last] == numbers[4:6]
    assert tables.place_of(numbers[-1]) == 2**32 - 1
    assert numbers[-1] < 2**63


def test_what_is_forgotten_leaves_no_row(known):
    known.add(records(*KNOWN))
    assert known.contents("customer Meyer email")[0] == KNOWN[0]
    known.remove("0", "nobody")
    assert KNOWN[0] not in known.contents("customer Meyer email")
    assert set(counts(known).values()) == {len(KNOWN) - 1, 0}
    known.remove(*(str(place) for place in range(len(KNOWN))))
    assert set(counts(known).values()) == {0}
    assert tables.crew_row(known.connection, "crew_a").texts == 0


def test_a_word_that_no_text_has_is_found_in_longer_ones(known):
    known.add(records("Die Umsatzsteuer steigt", "Die Ladesäule ist neu", "Meyer has a printer"))
    assert known.contents("Welche Steuern?") == ["Die Umsatzsteuer steigt"]
    assert known.contents("Ladesäulen") == ["Die Ladesäule ist neu"]
    known.remove("0")
    assert known.contents("Welche Steuern?") == []


def test_what_is_there_already_is_left_as_it_is(known):
    known.add(records("The printer is new"))
    known.add(records("The printer is old", "The scanner is old"))
    assert known.contents("printer scanner") == ["The scanner is old", "The printer is new"]
    assert tables.crew_row(known.connection, "crew_a").texts == 2


def test_a_change_that_fails_changes_nothing(known):
    known.add(records("The printer is new"))

    def broken():
        yield Record("9", "long_term", "The scanner is new", None, TIME)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        known.add(broken())
    assert known.contents("printer scanner") == ["The printer is new"]
    assert counts(known)["memory_words"] == 1


def test_a_crew_is_searched_alone(known):
    known.add([Record("a", "long_term", "The printer is ours", None, TIME)])
    known.add([Record("b", "long_term", "The printer is theirs", None, TIME)], crew="crew_b")
    assert known.contents("printer") == ["The printer is ours"]
    assert known.contents("printer", crew="crew_b") == ["The printer is theirs"]
    assert known.contents("printer", crew="crew_c") == []


def test_a_crew_s_scores_do_not_depend_on_others(known):
    known.add(records(*KNOWN))
    before = known.search("How should we contact the customer Meyer?").hits
    many = [Record(f"b{n}", "knowledge", f"{text} {n}", None, TIME) for n in range(20) for text in KNOWN]
    known.add([Record(f"{record.id}/{n}", *list_of(record)) for n, record in enumerate(many)], crew="crew_b")
    assert known.search("How should we contact the customer Meyer?").hits == before


def list_of(record):
    return record.kind, record.content, record.category, record.time


def test_a_source_is_found_when_all_of_it_is_there(known):
    parts = [
        Record(f"p{n}", "knowledge", f"Chapter {n} tells of printers", "book.md", TIME) for n in range(3)
    ]
    known.add(parts[:2], source="text_1", state=tables.State.COMING)
    assert known.contents("printers") == []
    known.add(parts[2:], source="text_1", state=tables.State.COMING)
    with known:
        assert tables.publish(known.connection, "text_1")
        assert not tables.publish(known.connection, "text_2")
    assert len(known.contents("printers")) == 3
    assert tables.sources_gone(known.connection) == []
    with known:
        tables.withdraw(known.connection, "crew_a", "text_1")
    assert known.contents("printers") == []
    assert tables.sources_gone(known.connection) == ["text_1"]


def test_a_source_that_never_comes_is_given_up(known, monkeypatch):
    known.add(records("Of printers", kind="knowledge"), source="text_1", state=tables.State.COMING)
    assert tables.sources_gone(known.connection) == []
    monkeypatch.setattr(tables, "ABANDONED_SECONDS", -1.0)
    assert tables.sources_gone(known.connection) == ["text_1"]
    with known:
        tables.withdraw(known.connection, "crew_a", "text_1")
        assert not tables.publish(known.connection, "text_1")


def test_a_crew_that_is_gone_is_found_no_more(known):
    known.add(records(*KNOWN))
    with known:
        tables.forget_crew(known.connection, "crew_a")
    assert known.contents("customer Meyer email") == []
    assert tables.crews_in(known.connection, tables.State.GONE) == ["crew_a"]


def test_it_works_with_a_connection_that_gives_bytes(known):
    known.connection.text_factory = bytes
    known.add(records(*KNOWN), source="text_1")
    assert tables.ids_there(known.connection, "crew_a") == {str(place) for place in range(len(KNOWN))}
    assert tables.sources_of(known.connection, "crew_a") == ["text_1"]
    assert isinstance(tables.crew_row(known.connection, "crew_a").remark, str)


@pytest.mark.parametrize(
    "text",
    [
        'Meyer" OR "printer',
        "Meyer NEAR(printer, 2)",
        "NOT Meyer",
        "AND OR NOT NEAR",
        "words : Meyer",
        "{words} : Meyer",
        "^Meyer* + printer",
        "-Meyer",
        "Meyer' ; DROP TABLE memory_texts; --",
        '"',
        "(((((",
        "me\0yer",
        "Meyer's l'eau d\u2019accord",
        "memory_words MATCH 'x'",
    ],
)
def test_nothing_that_is_asked_is_fts5_s_syntax(known, text):
    """The first two words of a record are looked for, and nothing is denied, joined or failed."""
    known.add([*records(text, "Meyer has a printer"), *[Record("z", "long_term", "Something", None, TIME)]])
    found = known.search(text)
    assert found.remark == ""
    if "Meyer" in text:
        assert "Meyer has a printer" in [hit.record.content for hit in found.hits]
    known.remove("0")
    assert counts(known)["memory_words"] == 2


def test_two_processes_see_no_half_change(known):
    """A reader sees what was there when it began."""
    known.add(records("The printer is new"))
    with sqlite3.connect(f"file:{known.file}?mode=ro", uri=True, isolation_level=None) as reader:
        reader.execute("BEGIN")
        assert tables.crew_row(reader, "crew_a").texts == 1
        known.remove("0")
        assert len(list(tables.records(reader, [tables.number_of(1, "long_term", 1)]))) == 1
    reader.close()
