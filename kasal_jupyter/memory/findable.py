"""What crews remember and know, with the tables by which it is found: filled, and cleared of what is gone.

Whatever may be much (what an earlier version has stored, a long source, all that a crew had) is done in
changes of a batch each, so that nobody else's waits for all of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kasal_jupyter.memory import tables
from kasal_jupyter.memory.tables import Record
from kasal_jupyter.schemas.memory import Memory, Passage
from kasal_jupyter.store.file import Schema
from kasal_jupyter.store.layout import decode
from kasal_jupyter.store.repository import Repository
from kasal_jupyter.store.store import Store


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in a store's file, anew if they are there, and note the crews that have documents."""
    for name in ("crews", "sources", "texts", "words", "parts", "vectors"):
        connection.execute(f"DROP TABLE IF EXISTS memory_{name}")
    tables.create_tables(connection)
    for collection in ("doc_memories", "doc_passages"):
        connection.execute(
            f"INSERT OR IGNORE INTO memory_crews (crew_id, state) SELECT DISTINCT crew_id, ? "  # noqa: S608
            f"FROM {collection} WHERE typeof(crew_id) = 'text'",
            (tables.State.COMING,),
        )


SCHEMAS = (Schema("memory", (_make_tables,)),)
"""What this room keeps for itself in the store's file: whoever opens a store brings it."""


def memory_record(memory: Memory) -> Record:
    """Give a memory as it is found."""
    return Record(memory.id, memory.type, memory.content, memory.category, memory.created_at)


def passage_record(passage: Passage) -> Record:
    """Give a passage as it is found."""
    return Record(passage.id, "knowledge", passage.content, passage.name, passage.created_at)


# -- what an earlier version has stored --------------------------------------------------------------


def not_found_yet(store: Store, crew_id: str) -> list[str]:
    """Give the ids of a crew's memories and passages that are not in the tables."""
    with store.read() as connection:
        there = tables.ids_there(connection, crew_id)
    stored = (*store.memories.ids(crew_id=crew_id), *store.passages.ids(crew_id=crew_id))
    return [each for each in stored if each not in there]


async def fill(store: Store, crew_id: str, missing: Sequence[str]) -> None:
    """Have what :func:`not_found_yet` gave be found."""
    for at in range(0, len(missing), tables.BATCH):
        await store.change(partial(_fill, store, crew_id, missing[at : at + tables.BATCH]))
    # What came meanwhile has come with its own change.
    await store.change(lambda: tables.has_come(store.connection, crew_id))


def _fill(store: Store, crew_id: str, ids: Iterable[str]) -> None:
    if not store.crews.has(crew_id):
        return
    for each in ids:
        if (memory := store.memories.readable(each)) is not None:
            tables.add_texts(store.connection, crew_id, [memory_record(memory)])
        elif (passage := store.passages.readable(each)) is not None:
            tables.add_texts(store.connection, crew_id, [passage_record(passage)], source=passage.source_id)


# -- what is gone ------------------------------------------------------------------------------------


def forget_crew(store: Store, crew_id: str) -> None:
    """Have nothing be left to find of what a crew remembers and was given to know, within a change."""
    tables.forget_crew(store.connection, crew_id)
    sweep_some(store)


async def sweep(store: Store) -> None:
    """Delete whatever is gone."""
    while await store.change(partial(sweep_some, store)):
        pass


def sweep_some(store: Store) -> bool:
    """Delete a batch of what is gone, within a change; tell whether there may be more."""
    connection, left = store.connection, tables.BATCH
    for text_id in tables.sources_gone(connection):
        left -= _delete(store.passages, store, left, source_id=text_id)
        if left <= 0:
            return True
        tables.drop_source(connection, text_id)
    for crew_id in tables.crews_in(connection, tables.State.GONE):
        for repository in (store.memories, store.passages, store.knowledge):
            left -= _delete(repository, store, left, crew_id=crew_id)
            if left <= 0:
                return True
        tables.drop_crew(connection, crew_id)
    return False


def withdraw_orphans(store: Store, crew_id: str) -> None:
    """Have nothing be found of a crew's sources that are not stored any more, within a change."""
    known, _ = store.knowledge.bodies(_text_id, limit=None, crew_id=crew_id)
    for text_id in tables.sources_of(store.connection, crew_id):
        if text_id not in known:
            tables.withdraw(store.connection, crew_id, text_id)


def _delete(repository: Repository[Any], store: Store, most: int, **criteria: str) -> int:
    """Delete documents with what they are found by, at most so many; tell how many they were."""
    ids = repository.ids(**criteria)[:most]
    for each in ids:
        repository.delete(each)
    tables.remove_texts(store.connection, ids)
    return len(ids)


def _text_id(body: bytes) -> str:
    row = decode(body)
    return str(row.get("text_id") or row.get("id"))
