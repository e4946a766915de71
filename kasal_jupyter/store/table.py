"""TinyDB's second seam: a table that reads and writes only the documents concerned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from tinydb import TinyDB
from tinydb.queries import QueryLike
from tinydb.storages import Storage
from tinydb.table import Document, Table

from kasal_jupyter.store.layout import decode, encode
from kasal_jupyter.store.rows import Row, Rows, decoded
from kasal_jupyter.store.storage import SqliteStorage, TableView

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
        self._rows = Rows(storage.engine, name) if isinstance(storage, SqliteStorage) else None
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
        assert self._rows is not None
        found = self._rows.rows(
            self._rows.having(criteria),
            order="doc_id DESC" if newest_first else "doc_id",
            offset=offset,
            limit=limit,
        )
        return [self.document_class(decode(body), doc_id) for doc_id, body in found]

    def search(self, cond: QueryLike) -> list[Document]:
        """Search for all documents matching a condition; see TinyDB's ``Table.search``."""
        if self._rows is None:
            return super().search(cond)
        engine = self._rows.engine
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
        if self._rows is None or doc_id is not None or doc_ids is None:
            plain: Callable[..., Document | list[Document] | None] = super().get
            return plain(cond, doc_id, doc_ids)
        bodies = ((wanted, self._rows.body(wanted)) for wanted in sorted(set(doc_ids)))
        return self._documents([(wanted, body) for wanted, body in bodies if body is not None])

    def insert(self, document: Mapping[str, Any]) -> int:
        """Insert a document; see TinyDB's ``Table.insert``."""
        if self._rows is None:
            return super().insert(document)
        # The id must be chosen where no other process can choose the same.
        with self._rows.engine.transaction():
            return super().insert(document)

    def update(
        self, fields: Update, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None
    ) -> list[int]:
        """Update all matching documents; see TinyDB's ``Table.update``."""
        if self._rows is None or cond is None or doc_ids is not None:
            return super().update(fields, cond, doc_ids)
        # The condition is tried on documents that are thrown away: were it tried on the
        # draft's, every document of the table would have to be kept and compared.
        with self._rows.engine.transaction():
            return super().update(fields, doc_ids=self._matching(cond))

    def update_multiple(self, updates: Iterable[tuple[Update, QueryLike]]) -> list[int]:
        """Do several updates, document by document; see TinyDB's ``Table.update_multiple``."""
        if self._rows is None:
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

        with self._rows.engine.transaction():
            # Each condition is tried again after the updates before it, but a document
            # that none fits to begin with is never changed.
            candidates = self._matching(lambda document: any(cond(document) for _, cond in pairs))
            self._update_table(apply)
        return updated

    def upsert(self, document: Mapping[str, Any], cond: QueryLike | None = None) -> list[int]:
        """Update the matching documents, or insert one; see TinyDB's ``Table.upsert``."""
        if self._rows is None:
            return super().upsert(document, cond)
        with self._rows.engine.transaction():
            return super().upsert(document, cond)

    def remove(self, cond: QueryLike | None = None, doc_ids: Iterable[int] | None = None) -> list[int]:
        """Remove all matching documents; see TinyDB's ``Table.remove``."""
        if self._rows is None or cond is None or doc_ids is not None:
            return super().remove(cond, doc_ids)
        with self._rows.engine.transaction():
            return super().remove(doc_ids=self._matching(cond))

    def _matching(self, cond: QueryLike) -> list[int]:
        return [doc_id for doc_id, _ in self._scan(cond)]

    def _scan(self, cond: QueryLike) -> list[Row]:
        assert self._rows is not None
        found = self._rows.rows()
        fitting = {doc_id for doc_id, document in decoded(found) if cond(document)}
        return [row for row in found if row[0] in fitting]

    def _documents(self, rows: list[Row]) -> list[Document]:
        return [self.document_class(decode(body), self.document_id_class(doc_id)) for doc_id, body in rows]

    def _get_next_id(self) -> int:
        if self._rows is None:
            plain: Callable[[], int] = super()._get_next_id
            return plain()
        last_id = self._rows.last_id() if self._draft is None else self._draft.last_id
        next_id = max(self._next_id or 1, last_id + 1)
        self._next_id = next_id + 1
        return next_id

    def _read_table(self) -> Mapping[str, Mapping[str, Any]]:  # type: ignore[override]  # read-only
        if self._rows is None:
            return super()._read_table()
        return TableView(self._rows)

    def _update_table(self, updater: Callable[[Any], None]) -> None:
        if self._rows is None:
            super()._update_table(updater)
            return
        with self._rows.engine.transaction():
            outer, draft = self._draft, TableDraft(self._rows)
            self._draft = draft
            try:
                updater(draft)
                draft.apply()
            finally:
                self._draft = outer
        self.clear_cache()


class TableDraft(MutableMapping[int, dict[str, Any]]):
    """A table as TinyDB's updaters edit it: documents by their ids.

    A document handed out is private until :meth:`apply`, which stores those that
    differ from what they were, however deep inside.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._before: dict[int, bytes | None] = {}
        self._documents: dict[int, dict[str, Any] | None] = {}
        self._cleared = False
        self._last_id: int | None = None

    @property
    def last_id(self) -> int:
        """The highest id that was ever given."""
        if self._last_id is None:
            self._last_id = 0 if self._cleared else self._rows.last_id()
        return self._last_id

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[int]:
        # The updaters add and remove while they iterate over a list of this.
        stored = [] if self._cleared else self._rows.ids()
        for doc_id in stored:
            if self._documents.get(doc_id, ...) is not None:
                yield doc_id
        known = set(stored)
        for doc_id in sorted(self._documents):
            if self._documents[doc_id] is not None and doc_id not in known:
                yield doc_id

    def __contains__(self, doc_id: object) -> bool:
        if doc_id in self._documents:
            return self._documents[doc_id] is not None
        return isinstance(doc_id, int) and self._body(doc_id) is not None

    def __getitem__(self, doc_id: int) -> dict[str, Any]:
        if doc_id not in self._documents:
            body = self._body(doc_id)
            self._documents[doc_id] = None if body is None else decode(body)
        document = self._documents[doc_id]
        if document is None:
            raise KeyError(doc_id)
        return document

    def __setitem__(self, doc_id: int, document: dict[str, Any]) -> None:
        if not isinstance(doc_id, int):
            raise TypeError(f"a document's id must be an int, not {doc_id!r}")
        self._documents[doc_id] = document
        self._last_id = max(self.last_id, doc_id)

    def __delitem__(self, doc_id: int) -> None:
        if doc_id not in self:
            raise KeyError(doc_id)
        self._documents[doc_id] = None

    def clear(self) -> None:
        """Remove every document; without it each would be deleted by itself."""
        self._documents.clear()
        self._before.clear()
        self._cleared = True
        self._last_id = 0

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
            self._rows.clear()
        self._rows.delete([doc_id for doc_id, body in bodies.items() if body is None])
        for doc_id, body in bodies.items():
            if body is None:
                continue
            before = self._body(doc_id)
            if before is None:
                self._rows.insert(body, doc_id)
            else:
                self._rows.update(doc_id, body, before)
        self._rows.make_present()

    def _body(self, doc_id: int) -> bytes | None:
        if self._cleared:
            return None
        if doc_id not in self._before:
            self._before[doc_id] = self._rows.body(doc_id)
        return self._before[doc_id]


class Database(TinyDB):
    """A TinyDB that is durable, fast at any size, and safe between processes.

    ``Database("notes.db").insert({"text": "…"})`` returns once the document is on the disk.
    """

    table_class = SqliteTable
    default_storage_class = SqliteStorage  # type: ignore[assignment]  # declared as a JSONStorage
