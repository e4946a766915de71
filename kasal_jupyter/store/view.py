"""What TinyDB is given to read and to edit instead of plain dictionaries."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping
from typing import Any

from kasal_jupyter.store.codec import decode, encode
from kasal_jupyter.store.engine import Engine
from kasal_jupyter.store.layer import Overlay
from kasal_jupyter.store.rows import TableReader, keys_of

Document = dict[str, Any]


class TableView(Mapping[str, Document]):
    """A table as TinyDB reads it: documents by their ids as text.

    Each document given out is decoded for the occasion, and its receiver's own.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def __len__(self) -> int:
        with self._engine.reading() as tables:
            return len(tables.reader(self._name))

    def __iter__(self) -> Iterator[str]:
        with self._engine.reading() as tables:
            ids = list(tables.reader(self._name).ids())
        return map(str, ids)

    def __getitem__(self, key: str) -> Document:
        try:
            body = self.body(int(key))
        except ValueError:
            raise KeyError(key) from None
        if body is None:
            raise KeyError(key)
        return decode(body)

    def items(self) -> ItemsView[str, Document]:
        """Give ids and documents, all of one moment."""
        return _Items(self)

    def body(self, doc_id: int) -> bytes | None:
        """Give the encoded document with the id, or None."""
        with self._engine.reading() as tables:
            return tables.reader(self._name).body(doc_id)

    def rows(self) -> list[tuple[int, bytes]]:
        """Give ids and encoded documents in the ids' order, all of one moment."""
        with self._engine.reading() as tables:
            return rows_of(tables.reader(self._name))


class _Items(ItemsView[str, Document]):
    """Decodes one document at a time: 100,000 of them are 750 MB as dictionaries."""

    _mapping: TableView

    def __iter__(self) -> Iterator[tuple[str, Document]]:
        for doc_id, body in self._mapping.rows():
            yield str(doc_id), decode(body)


class TableDraft(MutableMapping[int, Document]):
    """A table as TinyDB's updaters edit it: documents by their ids.

    A document handed out is private until :meth:`apply`, which stores those that
    differ from what they were, however deep inside.
    """

    def __init__(self, table: Overlay) -> None:
        self._table = table
        self._documents: dict[int, Document | None] = {}
        self._cleared = False
        self.last_id = table.last_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[int]:
        # The updaters add and remove while they iterate over a list of this.
        for doc_id in [] if self._cleared else list(self._table.ids()):
            if self._documents.get(doc_id, ...) is not None:
                yield doc_id
        for doc_id in sorted(self._documents):
            if self._documents[doc_id] is not None and (self._cleared or self._table.body(doc_id) is None):
                yield doc_id

    def __contains__(self, doc_id: object) -> bool:
        if doc_id in self._documents:
            return self._documents[doc_id] is not None
        return isinstance(doc_id, int) and not self._cleared and self._table.body(doc_id) is not None

    def __getitem__(self, doc_id: int) -> Document:
        if doc_id not in self._documents:
            body = None if self._cleared else self._table.body(doc_id)
            self._documents[doc_id] = None if body is None else decode(body)
        document = self._documents[doc_id]
        if document is None:
            raise KeyError(doc_id)
        return document

    def __setitem__(self, doc_id: int, document: Document) -> None:
        if not isinstance(doc_id, int):
            raise TypeError(f"a document's id must be an int, not {doc_id!r}")
        self._documents[doc_id] = document
        self.last_id = max(self.last_id, doc_id)

    def __delitem__(self, doc_id: int) -> None:
        if doc_id not in self:
            raise KeyError(doc_id)
        self._documents[doc_id] = None

    def clear(self) -> None:
        """Remove every document; without it each would be deleted by itself."""
        self._documents.clear()
        self._cleared = True
        self.last_id = 0

    def apply(self) -> None:
        """Store what is different now.

        Everything is encoded before anything is stored: a document that can't be
        leaves the table as it was.
        """
        bodies = {
            doc_id: None if document is None else encode(document)
            for doc_id, document in self._documents.items()
        }
        if self._cleared:
            self._table.clear()
        for doc_id, body in bodies.items():
            if body is None:
                self._table.remove(doc_id)
            elif body != self._table.body(doc_id):
                # Encoding has changed what is no JSON, so the keys are read from the bytes.
                self._table.put(doc_id, body, keys_of(decode(body), self._table.fields))
        self._table.present = True


def rows_of(table: TableReader) -> list[tuple[int, bytes]]:
    """Give a table's ids and encoded documents; the engine's `reading` must be held meanwhile."""
    rows = []
    for doc_id in table.ids():
        body = table.body(doc_id)
        assert body is not None
        rows.append((doc_id, body))
    return rows
