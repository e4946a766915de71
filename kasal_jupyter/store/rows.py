"""The documents of one table, as rows: looked up, listed, searched, and changed."""

# The names in SQL are those of layouts, which are code, or made by sql_name.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kasal_jupyter.store.engine import Engine, Job
from kasal_jupyter.store.layout import Layout, column_value, decode, folded, sql_name
from kasal_jupyter.store.migrations import find_table, insert_statement, make_table, put_texts

Row = tuple[int, bytes]
"""A document's id in its table, and the encoded document."""

MOST_PARAMETERS = 500
"""Ids that one statement names."""

GRAM = 3
"""Characters that the index of what is searched knows together."""


class Condition:
    """Which rows are wanted, as SQL.

    Attributes
    ----------
    sql
        What stands behind ``WHERE``.
    parameters
        Its parameters.
    """

    __slots__ = ("parameters", "sql")

    def __init__(self, sql: str = "1", parameters: Sequence[Any] = ()) -> None:
        self.sql = sql
        self.parameters = tuple(parameters)

    def __and__(self, other: Condition) -> Condition:
        if other.sql == "1":
            return self
        if self.sql == "1":
            return other
        return Condition(f"{self.sql} AND {other.sql}", (*self.parameters, *other.parameters))


class Rows:
    """A table's rows.

    Reading gives what is committed, and within a change what that has made. Writing is for a change.

    Parameters
    ----------
    engine
        The database.
    name
        The table's name for TinyDB.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.layout = engine.layouts.get(name, Layout())
        self.sql_name = f'"{sql_name(name)}"'
        self._find = find_table(name, self.layout)
        # Those with a layout were made as the file was opened, others are as they are written first.
        self._there = name in engine.layouts
        has_lists = self.layout.facets or self.layout.sorted
        self._listed = f'{self.sql_name} INDEXED BY "{sql_name(name)}/lists"' if has_lists else self.sql_name
        self._insert = insert_statement(name, self.layout)
        counted = self.layout.counted
        self._gone = f'"{counted}"' if counted else "NULL"

    # -- which ---------------------------------------------------------------------------------------

    def having(self, criteria: Mapping[str, Any]) -> Condition:
        """Say which rows have all of the values.

        Raises
        ------
        LookupError
            If a field has no index.
        """
        parts: list[str] = []
        parameters: list[Any] = []
        for field, value in criteria.items():
            if field not in self.layout.indexed:
                known = ", ".join(self.layout.indexed) or "none"
                raise LookupError(f"there is no index on {field!r}; the indexed fields are: {known}")
            if value is None:
                parts.append(f'"{field}" IS NULL')
            else:
                parts.append(f'"{field}" = ?')
                parameters.append(column_value(value))
        return Condition(" AND ".join(parts) or "1", parameters)

    def containing(self, text: str, fields: Sequence[str]) -> Condition:
        """Say which rows have a text in one of the fields, whatever its case.

        Raises
        ------
        LookupError
            If a field is not searched.
        """
        for field in fields:
            if field not in self.layout.searched:
                raise LookupError(f"there is no search in {field!r} of {self.name}")
        text = folded(text)
        texts = f'"{sql_name(self.name, "find")}_content"'
        either = " OR ".join(f"instr(c{self.layout.searched.index(field)}, ?)" for field in fields)
        wanted = Condition(f"(SELECT {either} FROM {texts} WHERE id = doc_id)", (text,) * len(fields))
        if self.layout.grams and len(text) >= GRAM and "\0" not in text:
            grams = {text[n : n + GRAM].replace('"', '""') for n in range(len(text) - GRAM + 1)}
            matching = " AND ".join(f'"{gram}"' for gram in sorted(grams))
            found = f"SELECT rowid FROM {self._find} WHERE {self._find} MATCH ?"
            return Condition(f"doc_id IN ({found})", (matching,)) & wanted
        return wanted

    # -- reading -------------------------------------------------------------------------------------

    def there(self) -> bool:
        """Say whether SQL knows the table."""
        if not self._there:
            found = self.engine.rows("SELECT 1 FROM collections WHERE name = ?", (self.name,))
            # What a change has made may be undone with it.
            self._there = bool(found) and not self.engine.in_transaction
            return bool(found)
        return True

    def body(self, doc_id: int) -> bytes | None:
        """Give the encoded document with the id, or None."""
        if not self.there() or not _fits(doc_id):
            return None
        found = self.engine.rows(f"SELECT body FROM {self.sql_name} WHERE doc_id = ?", (doc_id,))
        return found[0][0] if found else None

    def ids(self, wanted: Condition | None = None) -> list[int]:
        """Give ids, ascending."""
        if not self.there():
            return []
        wanted = wanted or Condition()
        return [
            doc_id
            for (doc_id,) in self.engine.rows(
                f"SELECT doc_id FROM {self.sql_name} WHERE {wanted.sql} ORDER BY doc_id", wanted.parameters
            )
        ]

    def document_ids(self, wanted: Condition) -> list[str]:
        """Give the ids that documents have of their own, in the order of their rows."""
        found = self.engine.rows(
            f"SELECT id FROM {self.sql_name} WHERE {wanted.sql} AND id IS NOT NULL ORDER BY doc_id",
            wanted.parameters,
        )
        return [each.decode() for (each,) in found if isinstance(each, bytes)]

    def rows(
        self,
        wanted: Condition | None = None,
        *,
        order: str = "doc_id",
        offset: int = 0,
        limit: int | None = None,
        listed: bool = False,
    ) -> list[Row]:
        """Give rows in an order, which is SQL; `listed`: by the index that lists have."""
        if not self.there():
            return []
        wanted = wanted or Condition()
        parameters: Sequence[Any] = wanted.parameters
        part = ""
        if limit is not None or offset or listed:
            part, parameters = " LIMIT ? OFFSET ?", (*parameters, -1 if limit is None else limit, offset)
        sql = f"SELECT doc_id, body FROM {self.sql_name} WHERE {wanted.sql} ORDER BY {order}{part}"
        if listed:
            # The index has all that is looked at, so that of the documents themselves only these are read.
            sql = (
                f"SELECT place, (SELECT body FROM {self.sql_name} WHERE doc_id = place) FROM "
                f"(SELECT doc_id AS place FROM {self._listed} WHERE {wanted.sql} ORDER BY {order}{part})"
            )
        found: list[Any] = self.engine.rows(sql, parameters)
        return found

    def places(self, wanted: Condition, column: str, order: str, limit: int | None) -> list[tuple[Any, int]]:
        """Give what stands in a column, which is SQL, and the id of the first rows in an order."""
        found = self.engine.rows(
            f"SELECT {column}, doc_id FROM {self._listed} WHERE {wanted.sql} ORDER BY {order} LIMIT ?",
            (*wanted.parameters, -1 if limit is None else limit),
        )
        return [(value.decode() if isinstance(value, bytes) else value, doc_id) for value, doc_id in found]

    def columns(self, doc_id: int, fields: Sequence[str]) -> dict[str, str]:
        """Give what stands in columns of a row; nothing where there is no such column."""
        names = ", ".join(f'"{field}"' if field in self.layout.fields else "NULL" for field in fields)
        found = self.engine.rows(f"SELECT {names} FROM {self.sql_name} WHERE doc_id = ?", (doc_id,))
        values = found[0] if found else (None,) * len(fields)
        return {
            field: value.decode() if isinstance(value, bytes) else ""
            for field, value in zip(fields, values, strict=True)
        }

    def count(self, wanted: Condition | None = None, *, listed: bool = False) -> int:
        """Count rows."""
        if not self.there():
            return 0
        wanted = wanted or Condition()

        def count() -> int:
            source = self._listed if listed else self.sql_name
            sql = f"SELECT count(*) FROM {source} WHERE {wanted.sql}"
            return int(self.engine.rows(sql, wanted.parameters)[0][0])

        return self.engine.remembered(self.name, (wanted.sql, wanted.parameters), count)

    def last_id(self) -> int:
        """Give the highest id that was ever given; an id is not given twice, unless the table was cleared."""
        if not self.there():
            return 0
        found = self.engine.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", (sql_name(self.name),))
        return int(found[0][0]) if found else 0

    # -- writing -------------------------------------------------------------------------------------

    def insert(self, body: bytes, doc_id: int | None = None) -> int:
        """Add a row; give its id."""
        job = self._begin()
        # Encoding has changed what is no JSON, so what stands in the columns is read from the bytes.
        document = decode(body) if self.layout.columns or self.layout.searched else {}
        values = self.layout.values(document)
        done = job.connection.execute(self._insert, (doc_id, self.layout.version, *values, body))
        made = done.lastrowid
        assert made is not None
        if self.layout.searched:
            texts = self.layout.texts(document)
            job.connection.execute(*put_texts(self.name, self.layout, made, texts))
        self._count(job, document.get(self.layout.counted or ""), len(body), +1)
        return made

    def update(self, doc_id: int, body: bytes, before: bytes) -> None:
        """Put another document in the place of one."""
        if body == before:
            return
        job, layout = self._begin(), self.layout
        changed: dict[str, Any] = {}
        if layout.columns or layout.searched:
            document, old = decode(body), _known(before)
            values = zip(layout.columns, layout.values(document), strict=True)
            known = layout.values(old) if old is not None else None
            # An index whose column is not named is not written.
            changed = {
                column: value
                for n, (column, value) in enumerate(values)
                if known is None or (type(value), value) != (type(known[n]), known[n])
            }
            texts = layout.texts(document)
            if layout.searched and (old is None or texts != layout.texts(old)):
                job.connection.execute(f"DELETE FROM {self._find} WHERE rowid = ?", (doc_id,))
                job.connection.execute(*put_texts(self.name, layout, doc_id, texts))
            if layout.counted:
                # By what stands in its column: what was stored may be damaged.
                self._count_gone(job, (doc_id,))
                self._count(job, document.get(layout.counted), len(body), +1)
        names = "".join(f'"{name}" = ?, ' for name in changed)
        job.connection.execute(
            f"UPDATE {self.sql_name} SET {names}schema_version = ?, body = CAST(? AS TEXT) WHERE doc_id = ?",
            (*changed.values(), layout.version, body, doc_id),
        )

    def delete(self, doc_ids: Iterable[int]) -> int:
        """Remove rows; give how many there were. Their ids stay used."""
        removed, ids = 0, [doc_id for doc_id in doc_ids if _fits(doc_id)]
        if not ids or not self.there():
            return 0
        job = self._begin()
        for start in range(0, len(ids), MOST_PARAMETERS):
            some = ids[start : start + MOST_PARAMETERS]
            if self.layout.counted:
                self._count_gone(job, some)
            named = ", ".join("?" * len(some))
            if self.layout.searched:
                job.connection.execute(f"DELETE FROM {self._find} WHERE rowid IN ({named})", some)
            done = job.connection.execute(f"DELETE FROM {self.sql_name} WHERE doc_id IN ({named})", some)
            removed += done.rowcount
        return removed

    def make_present(self) -> None:
        """Let TinyDB know the table, though nothing is in it."""
        if not self.engine.rows("SELECT 1 FROM collections WHERE name = ? AND present", (self.name,)):
            self._begin()

    def clear(self, *, present: bool = True) -> None:
        """Remove every row, and let ids start at 1 again."""
        job = self._begin(present=present)
        if self.layout.counted:
            self._count_gone(job, None)
        job.connection.execute(f"DELETE FROM {self.sql_name}")
        job.connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (sql_name(self.name),))
        if self.layout.searched:
            job.connection.execute(f"DELETE FROM {self._find}")

    def _begin(self, *, present: bool = True) -> Job:
        job = self.engine.job
        if not self.there():
            make_table(job.connection, self.name, self.layout)
        self.engine.touch(self.name, present=present)
        return job

    def _count(self, job: Job, value: Any, size: int, rows: int) -> None:
        if self.layout.counted and isinstance(value, str):
            key = (self.name, value)
            job.bytes[key] += size
            job.documents[key] += rows
            if rows > 0:
                job.written.add(key)

    def _count_gone(self, job: Job, doc_ids: Sequence[int] | None) -> None:
        """Count what is about to go, by what stands in the columns: the document may be damaged."""
        which = "1" if doc_ids is None else f"doc_id IN ({', '.join('?' * len(doc_ids))})"
        found = job.connection.execute(
            f"SELECT {self._gone}, sum(length(CAST(body AS BLOB))), count(*) FROM {self.sql_name} "
            f"WHERE {which} GROUP BY 1",
            doc_ids or (),
        )
        for value, size, rows in found.fetchall():
            if isinstance(value, bytes):
                self._count(job, value.decode(), -size, -rows)


def decoded(rows: Iterable[Row]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Decode rows one at a time: 100,000 are 750 MB as dictionaries. What is no JSON is left out."""
    for doc_id, body in rows:
        if (document := _known(body)) is not None:
            yield doc_id, document


def _known(body: bytes) -> dict[str, Any] | None:
    """Read a document that may be damaged."""
    try:
        return decode(body)
    except (ValueError, TypeError, AttributeError):
        return None


def _fits(doc_id: object) -> bool:
    return isinstance(doc_id, int) and -(2**63) <= doc_id < 2**63
