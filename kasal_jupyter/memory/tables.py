"""The tables in which what crews remember and know is searched: in the store's own file.

::

    memory_crews    number  crew_id  state  last  texts  remark
    memory_sources  number  text_id  crew_number  state  touched
    memory_texts    number  id  source  words  record       a row a memory or passage
    memory_words    rowid  words                            FTS5: the words by which it is found
    memory_parts    rowid  words                            FTS5: three letters each of the same
    memory_vectors  number  embedder  vector                of an embedder, where one is set

A text's number says whose it is and of what kind, see :func:`number_of`. The texts of a crew are one range of
numbers: a search reads of each word what the crew's own texts have of it, however many others there are, and
no crew's scores depend on another's texts.

All this is changed in the transaction that changes the documents it is made of, so that both always agree.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Self

import orjson

from kasal_jupyter.memory.words import parts_of, telling

# What is remembered, as it is searched.

Kind = Literal["short_term", "long_term", "knowledge"]
"""Memories of two types, and the passages of what a crew was given to know."""

KINDS: tuple[Kind, ...] = ("short_term", "long_term", "knowledge")


@dataclass(frozen=True, slots=True)
class Record:
    """A memory, or a passage of a crew's knowledge.

    Attributes
    ----------
    category
        A long-term memory's; the source's name for knowledge.
    time
        When it was stored, see :func:`kasal_jupyter.schemas.base.utc_now`.
    """

    id: str
    kind: Kind
    content: str
    category: str | None
    time: str

    @property
    def text(self) -> str:
        """What it is found by."""
        return f"{self.category}: {self.content}" if self.category else self.content

    def dump(self) -> bytes:
        """Give it as JSON."""
        return orjson.dumps([self.id, self.kind, self.content, self.category, self.time])

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read what :meth:`dump` gave.

        Raises
        ------
        ValueError
            It is something else.
        """
        return cls(*orjson.loads(data))


BATCH = 100
"""Most texts that are written in one change: others wait for it."""

ABANDONED_SECONDS = 600.0
"""After this long without a batch, a source that was to come is given up: who gave it is gone."""

_BLOCK = 256
"""Vectors that are read at a time: as floats, those of 1,536 dimensions have 1.6 MB."""

_OF_KIND = 32
_OF_CREW = 34
"""How many bits of a number are below the kind, and below the crew."""

_WITH = {
    table: f"SELECT rowid FROM {table} WHERE {table} MATCH ? AND rowid BETWEEN ? AND ?"  # noqa: S608
    for table in ("memory_words", "memory_parts")
}

_THERE = 1
"""See :class:`State`."""

_TABLES = (
    """
    CREATE TABLE memory_crews (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        crew_id TEXT NOT NULL UNIQUE,
        state INTEGER NOT NULL,
        last INTEGER NOT NULL DEFAULT 0,
        texts INTEGER NOT NULL DEFAULT 0,
        remark TEXT NOT NULL DEFAULT ''
    )
    """,
    """
    CREATE TABLE memory_sources (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        text_id TEXT NOT NULL UNIQUE,
        crew_number INTEGER NOT NULL,
        state INTEGER NOT NULL,
        touched REAL NOT NULL
    )
    """,
    """
    CREATE TABLE memory_texts (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        source INTEGER NOT NULL DEFAULT 0,
        words INTEGER NOT NULL,
        record BLOB NOT NULL
    )
    """,
    "CREATE INDEX memory_texts_by_source ON memory_texts (source, number) WHERE source",
    f"CREATE INDEX memory_sources_unseen ON memory_sources (crew_number) WHERE state != {_THERE}",
    # The tokenizer splits at what stands between our words, and at nothing else: every sign beyond ASCII is
    # a letter to it. Where a word stands in a text does not matter, and is not kept.
    """
    CREATE VIRTUAL TABLE memory_words USING fts5(
        words, tokenize = 'porter ascii', detail = none, columnsize = 0
    )
    """,
    # What has no content of its own is told by whoever deletes what it had.
    """
    CREATE VIRTUAL TABLE memory_parts USING fts5(
        words, content = '', tokenize = 'trigram', detail = none, columnsize = 0
    )
    """,
    "CREATE TABLE memory_vectors (number INTEGER PRIMARY KEY, embedder TEXT NOT NULL, vector BLOB NOT NULL)",
    "CREATE INDEX memory_vectors_by_embedder ON memory_vectors (embedder, number)",
)


class State(IntEnum):
    """Where a crew, or a source, is.

    Attributes
    ----------
    COMING
        Not all of its texts are here yet: a source is not searched until they are, a crew is.
    THERE
        All are.
    GONE
        It is not searched any more, and its texts are deleted, in batches.
    """

    COMING = 0
    THERE = _THERE
    GONE = 2


@dataclass(frozen=True, slots=True)
class CrewRow:
    """What is known of a crew here.

    Attributes
    ----------
    texts
        How many texts it has.
    remark
        Why not all of them have vectors.
    """

    number: int
    state: State
    texts: int
    remark: str


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, in a file that has none of them."""
    for table in _TABLES:
        connection.execute(table)


def number_of(crew_number: int, kind: Kind, place: int) -> int:
    """Give the number of a text of a crew."""
    return crew_number << _OF_CREW | KINDS.index(kind) << _OF_KIND | place


def kind_of(number: int) -> Kind:
    """Give the kind that a text's number tells."""
    return KINDS[number >> _OF_KIND & 3]


def place_of(number: int) -> int:
    """Give the place of a text among its crew's: the later it came, the higher."""
    return number & (1 << _OF_KIND) - 1


def numbers_of(crew_number: int, kinds: Collection[Kind] = KINDS) -> tuple[int, int]:
    """Give the first and the last number that texts of a crew, of neighbouring kinds, may have."""
    places = [KINDS.index(kind) for kind in kinds]
    first = crew_number << _OF_CREW | min(places) << _OF_KIND
    return first, (crew_number << _OF_CREW | max(places) << _OF_KIND) + (1 << _OF_KIND) - 1


# -- crews -------------------------------------------------------------------------------------------


def crew_row(connection: sqlite3.Connection, crew_id: str) -> CrewRow | None:
    """Give a crew; None where it has remembered nothing yet, or is gone."""
    found = connection.execute(
        "SELECT number, state, texts, remark FROM memory_crews WHERE crew_id = ? AND state != ?",
        (crew_id, State.GONE),
    ).fetchone()
    return None if found is None else CrewRow(found[0], State(found[1]), found[2], _text(found[3]))


def has_come(connection: sqlite3.Connection, crew_id: str) -> None:
    """Note that all texts of a crew are here."""
    connection.execute(
        "UPDATE memory_crews SET state = ? WHERE crew_id = ? AND state = ?",
        (State.THERE, crew_id, State.COMING),
    )


def forget_crew(connection: sqlite3.Connection, crew_id: str) -> None:
    """Have nothing of a crew be found any more; what it has is deleted later."""
    connection.execute(
        "INSERT INTO memory_crews (crew_id, state) VALUES (?, ?) "
        "ON CONFLICT (crew_id) DO UPDATE SET state = excluded.state",
        (crew_id, State.GONE),
    )


def remark_on(connection: sqlite3.Connection, crew_id: str, remark: str) -> None:
    """Note why not all texts of a crew have vectors."""
    connection.execute("UPDATE memory_crews SET remark = ? WHERE crew_id = ?", (remark, crew_id))


def crews_in(connection: sqlite3.Connection, state: State) -> list[str]:
    """Give the ids of the crews that are in a state."""
    rows = connection.execute("SELECT crew_id FROM memory_crews WHERE state = ?", (state,))
    return [_text(crew_id) for (crew_id,) in rows]


def drop_crew(connection: sqlite3.Connection, crew_id: str) -> None:
    """Delete a crew of which nothing is left."""
    connection.execute(
        "DELETE FROM memory_sources WHERE crew_number = (SELECT number FROM memory_crews WHERE crew_id = ?)",
        (crew_id,),
    )
    connection.execute("DELETE FROM memory_crews WHERE crew_id = ?", (crew_id,))


# -- sources -----------------------------------------------------------------------------------------


def publish(connection: sqlite3.Connection, text_id: str) -> bool:
    """Have a source be searched, all of which is here; tell whether it is there still."""
    changed = connection.execute(
        "UPDATE memory_sources SET state = ? WHERE text_id = ? AND state = ?",
        (State.THERE, text_id, State.COMING),
    )
    return bool(changed.rowcount)


def withdraw(connection: sqlite3.Connection, crew_id: str, text_id: str) -> None:
    """Have nothing of a source be found any more; what it has is deleted later."""
    connection.execute(
        "INSERT INTO memory_sources (text_id, crew_number, state, touched) "
        "VALUES (?, coalesce((SELECT number FROM memory_crews WHERE crew_id = ?), 0), ?, ?) "
        "ON CONFLICT (text_id) DO UPDATE SET state = excluded.state",
        (text_id, crew_id, State.GONE, time.time()),
    )


def sources_of(connection: sqlite3.Connection, crew_id: str) -> list[str]:
    """Give the ids of the texts of a crew's sources that are searched."""
    rows = connection.execute(
        "SELECT text_id FROM memory_sources JOIN memory_crews ON memory_crews.number = crew_number "
        "WHERE crew_id = ? AND memory_sources.state = ?",
        (crew_id, State.THERE),
    )
    return [_text(text_id) for (text_id,) in rows]


def sources_gone(connection: sqlite3.Connection) -> list[str]:
    """Give the ids of the texts of sources that are gone, or that have never come."""
    rows = connection.execute(
        "SELECT text_id FROM memory_sources WHERE state = ? OR state = ? AND touched < ?",
        (State.GONE, State.COMING, time.time() - ABANDONED_SECONDS),
    )
    return [_text(text_id) for (text_id,) in rows]


def drop_source(connection: sqlite3.Connection, text_id: str) -> None:
    """Delete a source of which nothing is left."""
    connection.execute("DELETE FROM memory_sources WHERE text_id = ?", (text_id,))


# -- texts -------------------------------------------------------------------------------------------


def add_texts(
    connection: sqlite3.Connection,
    crew_id: str,
    records: Iterable[Record],
    *,
    source: str | None = None,
    state: State = State.THERE,
) -> None:
    """Have texts of a crew be found; one that is here already is left as it is.

    Parameters
    ----------
    connection
        The transaction's.
    crew_id
        The crew.
    records
        The texts.
    source
        The id of the text that they are passages of.
    state
        What a source becomes that is not known yet.
    """
    crew_number = _crew_number(connection, crew_id)
    source_number = 0 if source is None else _source_number(connection, crew_number, source, state)
    (last,) = connection.execute("SELECT last FROM memory_crews WHERE number = ?", (crew_number,)).fetchone()
    added = 0
    for record in records:
        words = telling(record.text)
        last += 1
        number = number_of(crew_number, record.kind, last)
        there = connection.execute(
            "INSERT INTO memory_texts (number, id, source, words, record) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            (number, record.id, source_number, len(words), record.dump()),
        )
        if there.rowcount:
            found_by = (number, " ".join(words))
            connection.execute("INSERT INTO memory_words (rowid, words) VALUES (?, ?)", found_by)
            connection.execute("INSERT INTO memory_parts (rowid, words) VALUES (?, ?)", found_by)
            added += 1
    connection.execute(
        "UPDATE memory_crews SET last = ?, texts = texts + ? WHERE number = ?", (last, added, crew_number)
    )


def remove_texts(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Have texts be found no more; those that are not here are passed over."""
    for text_id in ids:
        found = connection.execute("SELECT number FROM memory_texts WHERE id = ?", (text_id,)).fetchone()
        if found is None:
            continue
        connection.execute(
            "INSERT INTO memory_parts (memory_parts, rowid, words) "
            "SELECT 'delete', rowid, words FROM memory_words WHERE rowid = ?",
            found,
        )
        connection.execute("DELETE FROM memory_texts WHERE number = ?", found)
        connection.execute("DELETE FROM memory_words WHERE rowid = ?", found)
        connection.execute("DELETE FROM memory_vectors WHERE number = ?", found)
        connection.execute(
            "UPDATE memory_crews SET texts = texts - 1 WHERE number = ?", (found[0] >> _OF_CREW,)
        )


def words_in(connection: sqlite3.Connection, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give by how many words each of some texts is found."""
    for number in numbers:
        for (words,) in connection.execute("SELECT words FROM memory_texts WHERE number = ?", (number,)):
            yield number, words


def records(connection: sqlite3.Connection, numbers: Iterable[int]) -> Iterator[tuple[int, Record]]:
    """Give texts by their numbers, in their order; each is read when it is asked for."""
    for number in numbers:
        for (record,) in connection.execute("SELECT record FROM memory_texts WHERE number = ?", (number,)):
            yield number, Record.load(record)


def hidden(connection: sqlite3.Connection, crew_number: int) -> set[int]:
    """Give the numbers of a crew's texts that are not to be found: of sources that come, or are gone."""
    sources = connection.execute(
        f"SELECT number FROM memory_sources WHERE crew_number = ? AND state != {_THERE}",  # noqa: S608
        (crew_number,),
    ).fetchall()
    numbers: set[int] = set()
    for source in sources:
        rows = connection.execute("SELECT number FROM memory_texts WHERE source = ? AND source", source)
        numbers.update(number for (number,) in rows)
    return numbers


def ids_there(connection: sqlite3.Connection, crew_id: str) -> set[str]:
    """Give the ids of a crew's texts."""
    crew = crew_row(connection, crew_id)
    if crew is None:
        return set()
    rows = connection.execute(
        "SELECT id FROM memory_texts WHERE number BETWEEN ? AND ?", numbers_of(crew.number)
    )
    return {_text(text_id) for (text_id,) in rows}


@dataclass(frozen=True, slots=True)
class Term:
    """A word of a query, as it is looked up.

    Attributes
    ----------
    count
        How many of the crew's texts have it.
    match
        What is asked of FTS5: letters and digits in quotes, so that nothing of a word is syntax to it.
    part
        Whether it is found within longer words.
    """

    count: int
    match: str
    part: bool = False


def terms_of(
    connection: sqlite3.Connection, crew: CrewRow, words: Iterable[str], *, at_most: int
) -> dict[str, Term]:
    """Look words up, those of :func:`~.words.words_of`, each by its parts where no text of the crew has it.

    Parameters
    ----------
    connection
        To read by.
    crew
        The crew.
    words
        The words.
    at_most
        How many texts are counted of each.
    """

    def count(table: str, match: str) -> int:
        counting = f"SELECT count(*) FROM ({_WITH[table]} LIMIT ?)"  # noqa: S608 - a constant
        (found,) = connection.execute(counting, (match, *numbers_of(crew.number), at_most)).fetchone()
        assert isinstance(found, int)
        return found

    terms = {}
    for word in words:
        term = Term(count("memory_words", f'"{word}"'), f'"{word}"')
        if not term.count and (parts := parts_of(word)):
            match = " AND ".join(f'"{part}"' for part in parts)
            term = Term(count("memory_parts", match), match, part=True)
        terms[word] = term
    return terms


def numbers_with(
    connection: sqlite3.Connection, crew: CrewRow, term: Term, *, among: Sequence[int] | None = None
) -> list[int]:
    """Give the numbers of a crew's texts that have a term: all of them, or those among some."""
    found = _WITH["memory_parts" if term.part else "memory_words"]
    asked = (term.match, *numbers_of(crew.number))
    if among is None:
        rows = connection.execute(found, asked)
    else:
        within = f"SELECT value FROM json_each(?) WHERE value IN ({found})"  # noqa: S608 - a constant
        rows = connection.execute(within, (json.dumps(among), *asked))
    return [number for (number,) in rows]


def copy_crew(source: sqlite3.Connection, copy: sqlite3.Connection, crew_id: str) -> None:
    """Copy what a crew remembers and knows into tables that have nothing yet.

    Parameters
    ----------
    source
        To read by.
    copy
        The transaction's, on another file.
    crew_id
        The crew.
    """
    crew = crew_row(source, crew_id)
    if crew is None:
        return
    own, texts = "number = ?", "number BETWEEN ? AND ?"
    for table, where, asked in (
        ("memory_crews", own, (crew.number,)),
        ("memory_sources", "crew_number = ?", (crew.number,)),
        ("memory_texts", texts, numbers_of(crew.number)),
        ("memory_vectors", texts, numbers_of(crew.number)),
    ):
        rows = source.execute(f"SELECT * FROM {table} WHERE {where}", asked)  # noqa: S608 - constants
        marks = ", ".join("?" * len(rows.description))
        copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - constants
    for table in ("memory_words", "memory_parts"):
        words = source.execute(
            "SELECT rowid, words FROM memory_words WHERE rowid BETWEEN ? AND ?", numbers_of(crew.number)
        )
        copy.executemany(f"INSERT INTO {table} (rowid, words) VALUES (?, ?)", words)  # noqa: S608 - constants


# -- vectors -----------------------------------------------------------------------------------------


def without_vector(
    connection: sqlite3.Connection, crew: CrewRow, embedder: str, *, after: int, limit: int
) -> list[tuple[int, str]]:
    """Give the numbers and texts of a crew that have no vector of an embedder yet, after a number."""
    _, last = numbers_of(crew.number)
    rows = connection.execute(
        "SELECT number, record FROM memory_texts WHERE number > ? AND number <= ? AND NOT EXISTS "
        "(SELECT 1 FROM memory_vectors WHERE embedder = ? AND number = memory_texts.number) LIMIT ?",
        (max(after, crew.number << _OF_CREW), last, embedder, limit),
    )
    return [(number, Record.load(record).text) for number, record in rows]


def write_vectors(
    connection: sqlite3.Connection, embedder: str, vectors: Iterable[tuple[int, bytes]]
) -> None:
    """Store an embedder's vectors, in place of another's; of texts that are here still."""
    connection.executemany(
        "INSERT OR REPLACE INTO memory_vectors (number, embedder, vector) "
        "SELECT number, ?, ? FROM memory_texts WHERE number = ?",
        ((embedder, vector, number) for number, vector in vectors),
    )


def drop_vectors(connection: sqlite3.Connection, crew: CrewRow, embedder: str) -> None:
    """Delete an embedder's vectors of a crew: another model answers under its name."""
    connection.execute(
        "DELETE FROM memory_vectors WHERE embedder = ? AND number BETWEEN ? AND ?",
        (embedder, *numbers_of(crew.number)),
    )


def count_vectors(connection: sqlite3.Connection, crew: CrewRow, embedder: str) -> int:
    """Count an embedder's vectors of a crew."""
    (count,) = connection.execute(
        "SELECT count(*) FROM memory_vectors WHERE embedder = ? AND number BETWEEN ? AND ?",
        (embedder, *numbers_of(crew.number)),
    ).fetchone()
    assert isinstance(count, int)
    return count


def vector_bytes(connection: sqlite3.Connection, crew: CrewRow, embedder: str) -> int:
    """Give the length of an embedder's vectors of a crew, in bytes; 0 where there is none."""
    found = connection.execute(
        "SELECT length(vector) FROM memory_vectors WHERE embedder = ? AND number BETWEEN ? AND ? LIMIT 1",
        (embedder, *numbers_of(crew.number)),
    ).fetchone()
    return 0 if found is None else int(found[0])


def vectors_of(
    connection: sqlite3.Connection, crew: CrewRow, embedder: str, kinds: Collection[Kind]
) -> Iterator[list[tuple[int, bytes]]]:
    """Give an embedder's vectors of a crew with their texts' numbers, in blocks."""
    rows = connection.execute(
        "SELECT number, vector FROM memory_vectors WHERE embedder = ? AND number BETWEEN ? AND ?",
        (embedder, *numbers_of(crew.number, kinds)),
    )
    while some := rows.fetchmany(_BLOCK):
        yield some


def _crew_number(connection: sqlite3.Connection, crew_id: str) -> int:
    connection.execute(
        "INSERT INTO memory_crews (crew_id, state) VALUES (?, ?) ON CONFLICT (crew_id) DO NOTHING",
        (crew_id, State.THERE),
    )
    (number,) = connection.execute("SELECT number FROM memory_crews WHERE crew_id = ?", (crew_id,)).fetchone()
    assert isinstance(number, int)
    return number


def _source_number(connection: sqlite3.Connection, crew_number: int, text_id: str, state: State) -> int:
    connection.execute(
        "INSERT INTO memory_sources (text_id, crew_number, state, touched) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (text_id) DO UPDATE SET touched = excluded.touched",
        (text_id, crew_number, state, time.time()),
    )
    (number,) = connection.execute(
        "SELECT number FROM memory_sources WHERE text_id = ?", (text_id,)
    ).fetchone()
    assert isinstance(number, int)
    return number


def _text(value: str | bytes) -> str:
    """Give what a connection gives as bytes or as text, as the store's own does."""
    return value.decode() if isinstance(value, bytes) else value
