"""A table in memory: its encoded documents, their order, their indexes."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from kasal_jupyter.store.codec import encode
from kasal_jupyter.store.index import Index, has_id, insert_id, remove_id

Keys = tuple[Hashable, ...]
"""A document's values in its table's indexed fields, in the fields' order."""


class TableReader(Protocol):
    """What can be asked of a table, whether it holds its rows or lies over another."""

    fields: tuple[str, ...]
    last_id: int
    present: bool

    def __len__(self) -> int: ...

    def body(self, doc_id: int) -> bytes | None:
        """Give the encoded document with the id, or None."""

    def ids(self) -> Sequence[int]:
        """Give all ids, ascending."""

    def matching(self, field: str, value: Hashable) -> Sequence[int]:
        """Give the ids of the documents with the value in the indexed field, ascending."""

    def keys(self, doc_id: int) -> Keys:
        """Give the indexed values of a row that is there."""

    def size(self, value: Hashable) -> int:
        """Give the bytes of the rows that are an owner's, or in a table without owners a crew's."""


class TableWriter(Protocol):
    """What can be done to a table."""

    present: bool

    def put(self, doc_id: int, body: bytes, keys: Keys) -> None:
        """Add the row, or replace it."""

    def remove(self, doc_id: int) -> None:
        """Remove the row, if there is one."""

    def clear(self) -> None:
        """Remove every row, and let ids start at 1 again."""


class Rows:
    """A table's rows.

    Parameters
    ----------
    fields
        The indexed fields.

    Attributes
    ----------
    last_id
        The highest id that was ever given; an id is not given twice, unless the table was cleared.
    present
        Whether the database has the table; an empty table can be there, too.
    version
        Grows with every change that others can see.
    """

    __slots__ = (
        *("_bodies", "_ids", "_indexes", "_keys", "_sized", "_sizes"),
        *("fields", "last_id", "present", "version"),
    )

    def __init__(self, fields: tuple[str, ...] = ()) -> None:
        self.fields = fields
        self.last_id = 0
        self.present = False
        self.version = 0
        self._bodies: dict[int, bytes] = {}
        self._ids: list[int] = []
        self._keys: dict[int, Keys] = {}
        self._indexes = {field: Index() for field in fields}
        self._sized = sized_field(fields)
        self._sizes: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, doc_id: int) -> bool:
        return doc_id in self._bodies

    def body(self, doc_id: int) -> bytes | None:
        """Give the encoded document with the id, or None."""
        return self._bodies.get(doc_id)

    def keys(self, doc_id: int) -> Keys:
        """Give the indexed values of a row that is there."""
        return self._keys.get(doc_id, ())

    def ids(self) -> Sequence[int]:
        """Give all ids, ascending. The sequence is the table's own: copy what you keep."""
        return self._ids

    def matching(self, field: str, value: Hashable) -> Sequence[int]:
        """Give the ids with the value in the indexed field, ascending; the index's own, as with `ids`."""
        return self._indexes[field].ids(value)

    def put(self, doc_id: int, body: bytes, keys: Keys) -> None:
        """Add the row, or replace it."""
        self._count(doc_id, -1)
        if doc_id not in self._bodies:
            insert_id(self._ids, doc_id)
            for field, value in zip(self.fields, keys, strict=True):
                self._indexes[field].add(value, doc_id)
        else:
            for field, old, new in zip(self.fields, self.keys(doc_id), keys, strict=True):
                if old != new:
                    self._indexes[field].discard(old, doc_id)
                    self._indexes[field].add(new, doc_id)
        self._bodies[doc_id] = body
        if keys:
            self._keys[doc_id] = keys
        self._count(doc_id, +1)
        self.last_id = max(self.last_id, doc_id)

    def remove(self, doc_id: int) -> None:
        """Remove the row, if there is one. Its id stays used."""
        self.last_id = max(self.last_id, doc_id)
        self._count(doc_id, -1)
        if self._bodies.pop(doc_id, None) is None:
            return
        remove_id(self._ids, doc_id)
        for field, value in zip(self.fields, self._keys.pop(doc_id, ()), strict=True):
            self._indexes[field].discard(value, doc_id)

    def clear(self) -> None:
        """Remove every row, and let ids start at 1 again."""
        self._bodies = {}
        self._ids = []
        self._keys = {}
        self._indexes = {field: Index() for field in self.fields}
        self._sizes = {}
        self.last_id = 0

    def size(self, value: Hashable) -> int:
        """Give the bytes of the rows with the value in the field that sizes are counted by."""
        return self._sizes.get(value, 0)

    def _count(self, doc_id: int, sign: int) -> None:
        if self._sized is None or (body := self._bodies.get(doc_id)) is None:
            return
        value = self._keys[doc_id][self._sized]
        if size := self._sizes.get(value, 0) + sign * len(body):
            self._sizes[value] = size
        else:
            self._sizes.pop(value, None)


def sized_field(fields: tuple[str, ...]) -> int | None:
    """Give the place of the field that sizes are counted by; None where there is none."""
    return next((fields.index(name) for name in ("owner", "crew_id") if name in fields), None)


def keys_of(document: Mapping[str, Any], fields: tuple[str, ...]) -> Keys:
    """Give a document's values in the indexed fields; None where it has none."""
    return tuple(_key(document.get(field)) for field in fields)


def select(table: TableReader, criteria: Mapping[str, Any]) -> Sequence[int]:
    """Give the ids of the documents that have all of the values, ascending, from the indexes alone.

    Raises
    ------
    LookupError
        If a field has no index.
    """
    for field in criteria:
        if field not in table.fields:
            known = ", ".join(table.fields) or "none"
            raise LookupError(f"there is no index on {field!r}; the indexed fields are: {known}")
    found = sorted((table.matching(field, _key(value)) for field, value in criteria.items()), key=len)
    if not found:
        return table.ids()
    few, others = found[0], found[1:]
    if not others:
        return few
    return [doc_id for doc_id in few if all(has_id(other, doc_id) for other in others)]


def _key(value: Any) -> Hashable:
    if isinstance(value, str):
        # The same owner or crew is named by thousands of rows.
        return sys.intern(value)
    if isinstance(value, (dict, list)):
        return encode({"": value})
    # 1, 1.0 and True are equal to a dictionary, and three values to JSON.
    return value if value is None else (type(value).__name__, value)
