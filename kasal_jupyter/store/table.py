"""TinyDB's second seam: a table that reads and writes only the documents concerned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table

from kasal_jupyter.store.codec import decode
from kasal_jupyter.store.index import has_id
from kasal_jupyter.store.rows import select
from kasal_jupyter.store.storage import SqliteStorage
from kasal_jupyter.store.view import TableDraft, TableView

Update = Mapping[str, Any] | Callable[[MutableMapping[str, Any]], None]


class SqliteTable(Table):
    """A TinyDB table whose writes take time that does not grow with it.

    It is used as every TinyDB table is, with these differences: documents come in the
    order of their ids; a document given out shares nothing with any other; an insert
    can't be given an id that another process uses; :meth:`lookup` uses an index.

    Over a storage that is not a :class:`SqliteStorage` (a middleware, say) it works
    exactly as TinyDB's own table.
    """

    def __init__(
        self, storage: Storage, name: str, cache_size: int = 10, persist_empty: bool = False
    ) -> None:
        self._engine = storage.engine if isinstance(storage, SqliteStorage) else None
        self._draft: TableDraft | None = None
        self._cache_lock = threading.Lock()
        self._next_id: int | None  # type: ignore[assignment]  # TinyDB's, which declares a None
        super().__init__(storage, name, cache_size, persist_empty)

    def lookup(
        self,
        criteria: Mapping[str, Any],
        *,
        newest_first: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> list[Document]:
        """Give the documents that have all of the values, in the order of their ids.

        Only the documents given are touched; the others are not even looked at.

        Parameters
        ----------
        criteria
            Values by indexed field; with none, all documents match.
        newest_first
            Whether the highest id comes first.
        offset, limit
            The part of the result to give.

        Raises
        ------
        LookupError
            If a field has no index.
        """
        rows, _ = self.lookup_bodies(criteria, newest_first=newest_first, offset=offset, limit=limit)
        return [self.document_class(decode(body), doc_id) for doc_id, body in rows]

    def lookup_bodies(
        self,
        criteria: Mapping[str, Any],
        *,
        newest_first: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> tuple[list[tuple[int, bytes]], int]:
        """Give what :meth:`lookup` gives, as ids and encoded documents, and how many match in all."""
        assert self._engine is not None
        with self._engine.reading() as tables:
            table = tables.reader(self.name)
            found = select(table, criteria)
            count = len(found)
            start = min(offset, count)
            stop = count if limit is None else min(offset + limit, count)
            ids = found[count - stop : count - start] if newest_first else found[start:stop]
            rows = [(doc_id, table.body(doc_id)) for doc_id in ids]
        if newest_first:
            rows.reverse()
        return [(doc_id, body) for doc_id, body in rows if body is not None], count

    def lookup_ids(self, criteria: Mapping[str, Any]) -> list[int]:
        """Give the ids of the documents that have all of the values, ascending.

        Raises
        ------
        LookupError
            If a field has no index.
        """
        assert self._engine is not None
        with self._engine.reading() as tables:
            return list(select(tables.reader(self.name), criteria))

    def lookup_count(self, criteria: Mapping[str, Any]) -> int:
        """Count the documents that have all of the values.

        Raises
        ------
        LookupError
            If a field has no index.
        """
        assert self._engine is not None
        with self._engine.reading() as tables:
            return len(select(tables.reader(self.name), criteria))

    def lookup_same(self, criteria: Mapping[str, Any], rows: Mapping[int, bytes]) -> tuple[int, list[int]]:
        """Say how many of some rows match and are as they were, and which of them are not."""
        assert self._engine is not None
        with self._engine.reading() as tables:
            table = tables.reader(self.name)
            found = select(table, criteria)
            changed = [doc_id for doc_id, body in rows.items() if table.body(doc_id) != body]
            return sum(has_id(found, doc_id) for doc_id in rows.keys() - set(changed)), changed

    def search(self, cond: QueryLike) -> list[Document]:
        """Search for all documents matching a condition; see TinyDB's ``Table.search``."""
        engine = self._engine
        if engine is None:
            return super().search(cond)
        if engine.in_transaction:
            # What is not committed may never be, so it must not be remembered.
            return self._documents(self._scan(cond))
        # An entry holds encoded documents and the table's version, so that it is nobody's
        # to change, and void once another process has written.
        # The version is taken before the rows: an entry may be older than it says, never newer.
        version = engine.version(self.name)
        with self._cache_lock:
            entry: Any = self._query_cache.get(cond)
        if entry is None or entry[0] != version:
            entry = (version, self._scan(cond))
            if getattr(cond, "is_cacheable", lambda: True)():
                with self._cache_lock:
                    self._query_cache[cond] = entry
        return self._documents(entry[1])

    def clear_cache(self) -> None:
        """Clear the query cache."""
        with self._cache_lock:
            super().clear_cache()

    def get(  # type: ignore[override]  # TinyDB's overloads, in one
        self, cond: QueryLike | None = None, doc_id: int | None = None, doc_ids: list[int] | None = None
    ) -> Document | list[Document] | None:
        """Get a document by condition or id, or several by ids; see TinyDB's ``Table.get``."""
        if self._engine is None or doc_id is not None or doc_ids is None:
            plain: Callable[..., Document | list[Document] | None] = super().get
            return plain(cond, doc_id, doc_ids)
        view = TableView(self._engine, self.name)
        bodies = ((wanted, view.body(wanted)) for wanted in sorted(set(doc_ids)))
        return self._documents([(wanted, body) for wanted, body in bodies if body is not None])

    def insert(self, document: Mapping[str, Any]) -> int:
        """Insert a document; see TinyDB's ``Table.insert``."""
        if self._engine is None:
            return super().insert(document)
        # The id must be chosen where no other process can choose the same.
        with self._engine.transaction():
            return super().insert(document)

    def update(
        self, fields: Update, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None
    ) -> list[int]:
        """Update all matching documents; see TinyDB's ``Table.update``."""
        if self._engine is None or cond is None or doc_ids is not None:
            return super().update(fields, cond, doc_ids)
        # The condition is tried on documents that are thrown away: were it tried on the
        # draft's, every document of the table would have to be kept and compared.
        with self._engine.transaction():
            return super().update(fields, doc_ids=self._matching(cond))

    def update_multiple(self, updates: Iterable[tuple[Update, QueryLike]]) -> list[int]:
        """Do several updates, document by document; see TinyDB's ``Table.update_multiple``."""
        if self._engine is None:
            return super().update_multiple(updates)
        pairs = list(updates)
        updated: list[int] = []

        def apply(table: MutableMapping[int, Any]) -> None:
            for doc_id in candidates:
                for fields, cond in pairs:
                    if cond(table[doc_id]):
                        updated.append(doc_id)
                        if callable(fields):
                            fields(table[doc_id])
                        else:
                            table[doc_id].update(fields)

        with self._engine.transaction():
            # Each condition is tried again after the updates before it, but a document
            # that none fits to begin with is never changed.
            candidates = self._matching(lambda document: any(cond(document) for _, cond in pairs))
            self._update_table(apply)
        return updated

    def upsert(self, document: Mapping[str, Any], cond: QueryLike | None = None) -> list[int]:
        """Update the matching documents, or insert one; see TinyDB's ``Table.upsert``."""
        if self._engine is None:
            return super().upsert(document, cond)
        with self._engine.transaction():
            return super().upsert(document, cond)

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove all matching documents; see TinyDB's ``Table.remove``."""
        if self._engine is None or cond is None or doc_ids is not None:
            return super().remove(cond, doc_ids)
        with self._engine.transaction():
            return super().remove(doc_ids=self._matching(cond))

    def _matching(self, cond: QueryLike) -> list[int]:
        return [doc_id for doc_id, _ in self._scan(cond)]

    def _scan(self, cond: QueryLike) -> list[tuple[int, bytes]]:
        assert self._engine is not None
        return [
            (doc_id, body) for doc_id, body in TableView(self._engine, self.name).rows() if cond(decode(body))
        ]

    def _documents(self, rows: list[tuple[int, bytes]]) -> list[Document]:
        return [self.document_class(decode(body), self.document_id_class(doc_id)) for doc_id, body in rows]

    def _get_next_id(self) -> int:
        if self._engine is None:
            plain: Callable[[], int] = super()._get_next_id
            return plain()
        if self._draft is None:
            with self._engine.reading() as tables:
                last_id = tables.reader(self.name).last_id
        else:
            last_id = self._draft.last_id
        next_id = max(self._next_id or 1, last_id + 1)
        self._next_id = next_id + 1
        return next_id

    def _read_table(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]  # read-only
        if self._engine is None:
            return super()._read_table()
        return TableView(self._engine, self.name)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        if self._engine is None:
            super()._update_table(updater)
            return
        with self._engine.transaction() as layer:
            outer, draft = self._draft, TableDraft(layer.writer(self.name))
            self._draft = draft
            try:
                updater(draft)
                draft.apply()
            finally:
                self._draft = outer
        self.clear_cache()
