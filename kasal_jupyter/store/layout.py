"""How a collection lies in its SQL table: the document, and what is looked up, listed and searched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import orjson

from kasal_jupyter.wellformed import well_formed

SORTED_CHARACTERS = 200
"""So much of a text counts where a list is sorted by it."""

_PLAIN = re.compile(r"[a-z_][a-z0-9_]{0,60}")

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a table's documents stands in columns of their own, beside the JSON.

    Attributes
    ----------
    indexed
        Fields that documents are looked up by, each with an index.
    facets
        Fields that lists are cut by.
    sorted
        Fields that lists are sorted by, texts whatever their case. One index has these and the facets, so
        that no list has to read documents other than those it gives.
    searched
        Fields that lists are searched in.
    grams
        Whether an FTS5 index finds every three letters of them. It is not worth what it costs to write where
        a list is never longer than what one crew has: there each text is looked through.
    counted
        The field by whose value the stored bytes are counted.
    version
        The version of the documents that are written.
    """

    indexed: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()
    sorted: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    grams: bool = False
    counted: str | None = None
    version: int = 1

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields with a column of their own."""
        return tuple(dict.fromkeys((*self.indexed, *self.facets)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside the document's."""
        return (*self.fields, *map(sort_column, self.sorted))

    def values(self, document: Mapping[str, Any]) -> tuple[Value, ...]:
        """Give what stands in the columns for a document."""
        fields = (column_value(document.get(field)) for field in self.fields)
        return (*fields, *(sort_value(document.get(field)) for field in self.sorted))

    def texts(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """Give what is found of a document by a search."""
        return tuple(folded(document.get(field)) for field in self.searched)

    def text(self) -> str:
        """Give the layout as a text, to see whether it is another one than a table has."""
        return orjson.dumps(astuple(self)[:-1]).decode()


def column_value(value: Any) -> Value:
    """Give a field's value as it stands in its column; what is no plain value as its JSON."""
    if value is None or isinstance(value, (str, float)):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else float(value)
    return encode({"": value}).decode()


def sort_column(field: str) -> str:
    """Give the name of the column that a list is sorted by."""
    return f"by_{field}"


def sort_value(value: Any) -> Value:
    """Give the place of a value in a list. A damaged document may have anything there."""
    if isinstance(value, str):
        return value.casefold()[:SORTED_CHARACTERS]
    return column_value(value) if value is None or isinstance(value, (int, float)) else 0


def folded(value: Any) -> str:
    """Give a text as it is searched: whatever its case."""
    return str(value or "").casefold()


def sql_name(table: str, kind: str = "doc") -> str:
    """Give the name of a table in SQL, which takes ``Notes`` and ``notes`` for the same.

    Parameters
    ----------
    table
        Its name for TinyDB, which may be any text.
    kind
        ``doc`` for the documents, ``find`` for what is searched.
    """
    if _PLAIN.fullmatch(table) and not table.startswith("x_"):
        return f"{kind}_{table}"
    return f"{kind}_x_{table.encode().hex()}"


def create(name: str, layout: Layout, having: frozenset[str]) -> list[str]:
    """Give the statements that make a table, or make it fit the layout.

    Parameters
    ----------
    name
        The table's.
    layout
        What it is to have.
    having
        The columns that it has; none where there is no such table.
    """
    table = sql_name(name)
    if having:
        missing = [column for column in layout.columns if column not in having]
        made = [f'ALTER TABLE "{table}" ADD COLUMN "{column}"' for column in missing]
    else:
        # The body stands last: it may be long, and what stands behind it is slow to read.
        columns = "".join(f'"{column}", ' for column in layout.columns)
        fixed = "doc_id INTEGER PRIMARY KEY AUTOINCREMENT, schema_version INTEGER NOT NULL DEFAULT 1"
        made = [f'CREATE TABLE "{table}" ({fixed}, {columns}body TEXT NOT NULL)']
    made += [f'CREATE INDEX "{table}.{field}" ON "{table}" ("{field}")' for field in layout.indexed]
    if layout.facets or layout.sorted:
        listed = ", ".join(f'"{column}"' for column in (*layout.facets, *map(sort_column, layout.sorted)))
        made.append(f'CREATE INDEX "{table}/lists" ON "{table}" ({listed})')
    if layout.searched:
        find = sql_name(name, "find")
        columns = ", ".join(text_columns(layout))
        if layout.grams:
            # No places of the letters are kept: what they find is looked through.
            options = "tokenize='trigram case_sensitive 1', detail=none"
            made.append(f'CREATE VIRTUAL TABLE "{find}" USING fts5({columns}, {options})')
        else:
            made.append(f'CREATE TABLE "{find}_content" (id INTEGER PRIMARY KEY, {columns})')
    return made


def text_columns(layout: Layout) -> list[str]:
    """Give the names of the columns with what is searched, which are FTS5's own."""
    return [f"c{n}" for n in range(len(layout.searched))]


# Documents as bytes: what a row holds, in memory and on disk.
#
# Rows are kept encoded, and decoded anew for everybody who asks. So nobody shares a
# document with anybody else, a change is seen by comparing bytes (``True == 1``, but
# ``b"true" != b"1"``), and the garbage collector has nothing to walk through: a full
# collection over 100,000 documents held as dictionaries stops a server for 0.4 s.

# Refuse what JSON has no word for, as the standard library does, and don't write a text for it.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

# JSON may begin with a blank. Ours does where only the standard library gives back what was
# stored: orjson reads an integer beyond 64 bits as a float.
_EXACT = b" "


def encode(document: Mapping[str, Any]) -> bytes:
    """Write a document as JSON.

    What is no JSON is treated as TinyDB's own storage treats it (tuples become lists,
    keys become strings, anything else is refused), but NaN and the infinities become
    ``null``, so that the file stays JSON, and what no UTF-8 can hold becomes U+FFFD.

    Raises
    ------
    TypeError
        If the document holds something that has no JSON form.
    """
    try:
        return orjson.dumps(document, option=_OPTIONS)
    except orjson.JSONEncodeError:
        if (mended := well_formed(document)) is not document:
            return encode(mended)
        return _EXACT + json.dumps(document, separators=(",", ":")).encode()


def decode(body: bytes) -> dict[str, Any]:
    """Read a document that :func:`encode` wrote; each call gives a document of its own.

    Raises
    ------
    ValueError
        If the bytes are no JSON object.
    """
    document = json.loads(body) if body.startswith(_EXACT) else orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object: {body[:40]!r}")  # noqa: TRY004  # wrong data, not a wrong call
    return document
