"""Bringing a file up to date: the tables of a new version, and documents that an older one has written.

A file is brought up to date as it is opened, whole or not at all, in one transaction.
"""

# The names in SQL are those of layouts, which are code, or made by sql_name.
# ruff: noqa: S608

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kasal_jupyter.store.file import SCHEMA, Schema, too_new
from kasal_jupyter.store.layout import Layout, create, decode, encode, sql_name, text_columns

DocumentSteps = tuple[Callable[[dict[str, Any]], dict[str, Any]], ...]
"""Step *n* makes a document of version *n* + 1 one of the next version."""

_log = logging.getLogger(__name__)


class Migration:
    """Makes a file one that this version of the product uses.

    Parameters
    ----------
    path
        The file.
    layouts
        How tables are to lie.
    steps
        The steps of their documents.
    schemas
        Tables that rooms keep for themselves.
    """

    def __init__(
        self,
        path: Path,
        layouts: Mapping[str, Layout],
        steps: Mapping[str, DocumentSteps],
        schemas: Sequence[Schema],
    ) -> None:
        self._path = path
        self._layouts = layouts
        self._steps = steps
        self._schemas = schemas

    def is_current(self, connection: sqlite3.Connection) -> bool:
        """Say whether a file of our format has all that it is to have.

        Raises
        ------
        StoreTooNew
            If it has what only a newer version knows.
        """
        found = {
            name.decode(): (layout.decode(), documents)
            for name, layout, documents in connection.execute(
                "SELECT name, layout, documents FROM collections"
            )
        }
        for name, layout in self._layouts.items():
            if name in found and found[name][1] > layout.version:
                what = f"the version of its documents in {name!r}"
                raise too_new(self._path, what, found[name][1], layout.version)
        made = {name.decode(): version for name, version in connection.execute("SELECT * FROM schemas")}
        for schema in self._schemas:
            if made.get(schema.name, 0) > len(schema.steps):
                what = f"the version of its tables of {schema.name!r}"
                raise too_new(self._path, what, made[schema.name], len(schema.steps))
        return all(
            found.get(name) == (layout.text(), layout.version) for name, layout in self._layouts.items()
        ) and all(made.get(schema.name) == len(schema.steps) for schema in self._schemas)

    def run(self, connection: sqlite3.Connection, found: int) -> None:
        """Bring a file up to date, within a transaction.

        Parameters
        ----------
        connection
            The connection that writes.
        found
            The format that it has; 0: it is empty.
        """
        landed: dict[str, bool] = {}
        if found < 2:
            landed = _take_out_format_1(connection) if found else {}
            for statement in SCHEMA:
                connection.execute(statement)
        anew = [self._make_fit(connection, name) for name in dict.fromkeys((*landed, *self._layouts))]
        for name, present in landed.items():
            self._fill_from_format_1(connection, name, present=present)
        if found == 1:
            connection.execute("DROP TABLE format_1")
        if found == 1 or any(anew):
            connection.execute("DELETE FROM stored_bytes")
            for name, layout in self._layouts.items():
                _count_bytes(connection, name, layout.counted)
        for schema in self._schemas:
            self._make_schema(connection, schema)

    def remake(self, connection: sqlite3.Connection) -> None:
        """Make the tables that rooms keep for themselves anew, within a transaction.

        Those of rooms that are not known here are made by whoever opens the file next with them.
        """
        connection.execute("DELETE FROM schemas")
        for schema in self._schemas:
            self._make_schema(connection, schema)

    def _make_schema(self, connection: sqlite3.Connection, schema: Schema) -> None:
        known = connection.execute("SELECT version FROM schemas WHERE name = ?", (schema.name,)).fetchone()
        for step in schema.steps[known[0] if known else 0 :]:
            step(connection)
        connection.execute("INSERT OR REPLACE INTO schemas VALUES (?, ?)", (schema.name, len(schema.steps)))

    def _make_fit(self, connection: sqlite3.Connection, name: str) -> bool:
        """Make a table, or give one of another version the columns and the documents of this one.

        It says whether there was one that is another now.
        """
        layout = self._layouts.get(name, Layout())
        known = connection.execute(
            "SELECT layout, documents FROM collections WHERE name = ?", (name,)
        ).fetchone()
        if known is None:
            make_table(connection, name, layout)
            return False
        if (known[0].decode(), known[1]) == (layout.text(), layout.version):
            return False
        _take_out_indexes(connection, name)
        columns = connection.execute(f'PRAGMA table_info("{sql_name(name)}")')
        having = frozenset(column[1].decode() for column in columns)
        for statement in create(name, layout, having):
            connection.execute(statement)
        self._write_anew(connection, name, layout)
        connection.execute(
            "UPDATE collections SET layout = ?, documents = ?, version = version + 1 WHERE name = ?",
            (layout.text(), layout.version, name),
        )
        return True

    def _write_anew(self, connection: sqlite3.Connection, name: str, layout: Layout) -> None:
        table = sql_name(name)
        columns = "".join(f'"{column}" = ?, ' for column in layout.columns)
        last = 0
        while rows := connection.execute(
            f'SELECT doc_id, schema_version, body FROM "{table}" WHERE doc_id > ? ORDER BY doc_id LIMIT 1000',
            (last,),
        ).fetchall():
            for doc_id, version, body in rows:
                last = doc_id
                body, version, values, texts = self._raised(name, layout, doc_id, version, body)  # noqa: PLW2901
                changed = f"{columns}schema_version = ?, body = CAST(? AS TEXT)"
                connection.execute(
                    f'UPDATE "{table}" SET {changed} WHERE doc_id = ?', (*values, version, body, doc_id)
                )
                if layout.searched:
                    connection.execute(*put_texts(name, layout, doc_id, texts))

    def _fill_from_format_1(self, connection: sqlite3.Connection, name: str, *, present: bool) -> None:
        layout = self._layouts.get(name, Layout())
        last_id = 0
        rows = connection.execute('SELECT id, body FROM format_1 WHERE "table" = ? ORDER BY id', (name,))
        for doc_id, body in rows.fetchall():
            last_id = doc_id
            if body is None:
                continue
            text, version, values, texts = self._raised(name, layout, doc_id, 1, body)
            connection.execute(insert_statement(name, layout), (doc_id, version, *values, text))
            if layout.searched:
                connection.execute(*put_texts(name, layout, doc_id, texts))
        table = sql_name(name)
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        # An id is not given twice.
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last_id))
        connection.execute("UPDATE collections SET present = ?, version = 1 WHERE name = ?", (present, name))

    def _raised(
        self, name: str, layout: Layout, doc_id: int, version: int, body: Any
    ) -> tuple[Any, int, tuple[Any, ...], tuple[str, ...]]:
        """Give a document in the version of today, with what stands in its columns.

        One that is damaged stays as it is, and in nobody's way.
        """
        try:
            document = decode(body)
            for step in self._steps.get(name, ())[version - 1 :]:
                document = step(document)
            if version < layout.version:
                body, version = encode(document), layout.version
            return body, version, layout.values(document), layout.texts(document)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            _log.error("The store's table %r is damaged at document %s: %r.", name, doc_id, error)
            return body, version, (None,) * len(layout.columns), ("",) * len(layout.searched)


def make_table(connection: sqlite3.Connection, name: str, layout: Layout) -> None:
    """Make a table that is not there yet; for TinyDB it is there once something was written."""
    for statement in create(name, layout, frozenset()):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO collections (name, layout, documents) VALUES (?, ?, ?)",
        (name, layout.text(), layout.version),
    )


def insert_statement(name: str, layout: Layout) -> str:
    """Give the statement that inserts an id, a version, the columns' values and a body."""
    columns = "".join(f'"{column}", ' for column in layout.columns)
    marks = "?, " * len(layout.columns)
    return (
        f'INSERT INTO "{sql_name(name)}" (doc_id, schema_version, {columns}body) '
        f"VALUES (?, ?, {marks}CAST(? AS TEXT))"
    )


def put_texts(name: str, layout: Layout, doc_id: int, texts: tuple[str, ...]) -> tuple[str, tuple[Any, ...]]:
    """Give the statement, and its parameters, that makes a new document be found."""
    columns, marks = ", ".join(text_columns(layout)), ", ?" * len(texts)
    return f"INSERT INTO {find_table(name, layout)} (rowid, {columns}) VALUES (?{marks})", (doc_id, *texts)


def find_table(name: str, layout: Layout) -> str:
    """Give the table that what is searched is written to."""
    find = sql_name(name, "find")
    return f'"{find}"' if layout.grams else f'"{find}_content"'


def _take_out_indexes(connection: sqlite3.Connection, name: str) -> None:
    table = sql_name(name)
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL", (table,)
    ).fetchall()
    for (index,) in found:
        connection.execute(f'DROP INDEX "{index.decode()}"')
    for each in (sql_name(name, "find"), f"{sql_name(name, 'find')}_content"):
        # The first takes along what is FTS5's own.
        connection.execute(f'DROP TABLE IF EXISTS "{each}"')


def _count_bytes(connection: sqlite3.Connection, name: str, counted: str | None) -> None:
    if counted is None:
        return
    connection.execute(
        f"""
        INSERT INTO stored_bytes
        SELECT ?, "{counted}", sum(length(CAST(body AS BLOB))) FROM "{sql_name(name)}"
        WHERE typeof("{counted}") = 'text' GROUP BY 2
        ON CONFLICT (field, value) DO UPDATE SET bytes = bytes + excluded.bytes
        """,
        (counted,),
    )


def _take_out_format_1(connection: sqlite3.Connection) -> dict[str, bool]:
    """Put the documents of format 1 aside; give its tables, and whether TinyDB knew each."""
    present = dict(connection.execute("SELECT name, present FROM tables").fetchall())
    named = [name for (name,) in connection.execute('SELECT DISTINCT "table" FROM documents').fetchall()]
    connection.execute("DROP INDEX IF EXISTS tombstones")
    connection.execute("ALTER TABLE documents RENAME TO format_1")
    connection.execute("DROP TABLE tables")
    connection.execute("DROP TABLE pruned")
    return {name.decode(): bool(present.get(name)) for name in dict.fromkeys((*present, *named))}
