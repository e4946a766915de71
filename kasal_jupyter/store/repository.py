"""A collection's documents, typed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, DocumentDamaged, NotFound
from kasal_jupyter.store.catalog import Collection, D, Order
from kasal_jupyter.store.codec import decode, encode
from kasal_jupyter.store.engine import Engine
from kasal_jupyter.store.table import SqliteTable

R = TypeVar("R")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page(Generic[D]):
    """A part of a list.

    Attributes
    ----------
    documents
        The part.
    total
        How many documents the list has.
    """

    documents: list[D]
    total: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which documents of a list are wanted, and in which order, where no index tells.

    Attributes
    ----------
    sort
        The field to sort by.
    descending
        Whether the greatest comes first.
    equal
        Values that fields must have.
    least, below
        Bounds of fields; a document is taken whose value is at least the one and below the other.
    search
        A text that one of the fields in ``searched`` must contain, whatever its case.
    searched
        Those fields.
    offset, limit
        The part of the result to give.
    """

    sort: str
    descending: bool = False
    equal: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, str] = field(default_factory=dict)
    below: Mapping[str, str] = field(default_factory=dict)
    search: str | None = None
    searched: tuple[str, ...] = ()
    offset: int = 0
    limit: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.equal or self.least or self.below) and self.search is None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Say whether a document is wanted."""
        if any(row[name] != value for name, value in self.equal.items()):
            return False
        if any(row[name] < value for name, value in self.least.items()):
            return False
        if any(row[name] >= value for name, value in self.below.items()):
            return False
        if self.search is None:
            return True
        text = self.search.casefold()
        return any(text in str(row.get(name) or "").casefold() for name in self.searched)

    def key(self, row: Mapping[str, Any]) -> tuple[bool, bool, Any]:
        """Give a document's place; what has no value comes last."""
        value = row.get(self.sort)
        if isinstance(value, str):
            return self.descending, True, value.casefold()
        # A damaged document may have anything there.
        figure = value if isinstance(value, (int, float)) else 0
        return (value is None) != self.descending, False, figure


class Repository(Generic[D]):
    """Reads and changes the documents of one collection.

    Reading is for any thread; each call sees committed documents of one moment, other
    processes' included. Changing is for the work given to ``Store.change``.

    ``**criteria`` are values of indexed fields, all of which must fit. They are looked
    up in the indexes, in time that depends on how many documents fit and not on how
    many there are. An unindexed field raises a :class:`LookupError`.

    A document that does not fit its type any more is in nobody's way: lists leave it out, and it is logged
    once; it can be deleted. Whoever asks for that very one gets a :class:`DocumentDamaged`.

    Parameters
    ----------
    table
        The collection's table.
    engine
        The database that the table is in.
    collection
        What it holds.
    """

    def __init__(self, table: SqliteTable, engine: Engine, collection: Collection[D]) -> None:
        self._table = table
        self._engine = engine
        self._collection = collection
        # The damaged documents that were met, as they were then.
        self._damaged: dict[int, bytes] = {}
        self._damaged_lock = threading.Lock()

    def version(self) -> int:
        """Give a number that is another one whenever the collection has changed, by whomever."""
        return self._engine.version(self._collection.name)

    def get(self, document_id: str) -> D | None:
        """Give the document with the id, or None.

        Raises
        ------
        DocumentDamaged
            It does not fit its type.
        """
        found, _ = self._table.lookup_bodies({"id": document_id}, limit=1)
        return self._strictly(*found[0]) if found else None

    def readable(self, document_id: str) -> D | None:
        """Give the document with the id; None as well where it does not fit its type."""
        found, _ = self._table.lookup_bodies({"id": document_id}, limit=1)
        return next(iter(self._each(found, self._parse)), None)

    def has(self, document_id: str) -> bool:
        """Say whether there is a document with the id, whatever state it is in."""
        return bool(self._table.lookup_count({"id": document_id}))

    def find(self, *, order: Order | None = None, **criteria: str | None) -> list[D]:
        """Give all documents that fit, in the collection's own order, if no other is asked for."""
        return self._page(order or self._collection.order, 0, None, criteria).documents

    def complete(self, **criteria: str | None) -> list[D]:
        """Give all documents that fit, as :meth:`find` does, where none may be missing.

        Raises
        ------
        DocumentDamaged
            One of them does not fit its type.
        """
        rows, _ = self._table.lookup_bodies(criteria, newest_first=self._collection.order == "newest")
        documents = [self._strictly(*row) for row in rows]
        if self._collection.order == "position":
            documents.sort(key=attrgetter("position"))
        return documents

    def page(
        self, *, order: Order | None = None, offset: int = 0, limit: int | None = 100, **criteria: str | None
    ) -> Page[D]:
        """Give a part of the documents that fit.

        In the order ``created`` or ``newest``, only the page's documents are read; to
        order by ``position``, all that fit are.

        Parameters
        ----------
        order
            The order; the collection's own, if it is None.
        offset
            How many documents to pass over.
        limit
            How many documents to give at most; all, if it is None.
        """
        return self._page(order or self._collection.order, offset, limit, criteria)

    def _page(
        self, order: Order, offset: int, limit: int | None, criteria: Mapping[str, str | None]
    ) -> Page[D]:
        if order == "position":
            documents = self._each(self._table.lookup_bodies(criteria)[0], self._parse)
            documents.sort(key=attrgetter("position"))
            return Page(documents[offset : None if limit is None else offset + limit], len(documents))
        rows, total = self._table.lookup_bodies(
            criteria, newest_first=order == "newest", offset=offset, limit=limit
        )
        documents = self._each(rows, self._parse)
        return Page(documents, total - self._left_out(criteria))

    def bodies(
        self,
        read: Callable[[bytes], R],
        *,
        newest: bool = False,
        offset: int = 0,
        limit: int | None = 100,
        **criteria: str | None,
    ) -> tuple[list[R], int]:
        """Give a part of the documents that fit, made of what is stored, and how many fit.

        Nothing is decoded but by `read`: for answers that are made of the stored bytes. It raises what
        pydantic raises for a document that is damaged.
        """
        rows, total = self._table.lookup_bodies(criteria, newest_first=newest, offset=offset, limit=limit)
        return self._each(rows, read), total - self._left_out(criteria)

    def select(
        self, wanted: Selection, newer: Mapping[str, D] | None = None, **criteria: str | None
    ) -> Page[D]:
        """Look through the documents that fit, for what no index answers.

        It reads every one of them, so that it is for a thread: 10,000 take some 50 ms.

        Parameters
        ----------
        wanted
            Which, and in what order.
        newer
            Documents by their ids as they stand now, where that is not stored yet: they are looked at in the
            place of what is. The criteria still go by what is stored.
        **criteria
            Fields and their values, as an index has them.
        """
        found = []
        for doc_id, body in self._table.lookup_bodies(criteria)[0]:
            row = decode(body)
            try:
                if newer and (now := newer.get(row["id"])):
                    row = now.dump()
                    body = encode(row)  # noqa: PLW2901 - what stands in its place
                if wanted.takes(row):
                    found.append((row, doc_id, body))
            except (KeyError, TypeError) as error:
                self._note_damaged(doc_id, body, error)
        # Rows come in the order they were made, more exactly than their times tell, and a stable sort
        # keeps that order among equals.
        if wanted.sort != "created_at":
            found.sort(key=lambda each: wanted.key(each[0]), reverse=wanted.descending)
        elif wanted.descending:
            found.reverse()
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        documents = self._each(
            [(doc_id, body) for _, doc_id, body in found[wanted.offset : end]], self._parse
        )
        damaged = sum(self._damaged.get(doc_id) == body for _, doc_id, body in found) if self._damaged else 0
        return Page(documents, len(found) - damaged)

    def count(self, **criteria: str | None) -> int:
        """Count the documents that fit."""
        return self._table.lookup_count(criteria) - self._left_out(criteria)

    def insert(self, document: D) -> None:
        """Add a document.

        Raises
        ------
        Conflict
            If there is one with its id.
        """
        self._require_change()
        row = document.dump()
        if self._table.lookup_count({"id": row["id"]}):
            raise Conflict(f"There is already a document {row['id']!r} in {self._collection.name}.")
        self._table.insert(row)

    def update(self, document_id: str, fields: Mapping[str, Any]) -> D:
        """Change some of a document's fields, and give the changed document.

        Raises
        ------
        NotFound
            If there is no such document.
        TypeError
            If the documents have no such field, or their id would change.
        DocumentDamaged
            If what is stored does not fit its type, and would not with the fields either.
        pydantic.ValidationError
            If a value does not fit.
        """
        self._require_change()
        unknown = fields.keys() - self._collection.document.model_fields.keys()
        if unknown or fields.get("id", document_id) != document_id:
            wrong = ", ".join(sorted(unknown or {"id"}))
            raise TypeError(f"these fields of {self._collection.name} can't be updated: {wrong}")
        doc_id = self._doc_id(document_id)
        row = self._table.get(doc_id=doc_id)
        assert isinstance(row, dict)
        try:
            document = self._collection.document.model_validate({**row, **fields})
        except ValidationError:
            # Is it what is stored, or what is given?
            self.get(document_id)
            raise
        self._table.update(document.dump(), doc_ids=[doc_id])
        return document

    def replace(self, document: D) -> None:
        """Put a document in the place of the one with its id.

        Raises
        ------
        NotFound
            If there is no such document.
        """
        self._require_change()
        row = document.dump()
        self._table.update(row, doc_ids=[self._doc_id(row["id"])])

    def delete(self, document_id: str) -> bool:
        """Delete a document; tell whether there was one."""
        self._require_change()
        return bool(self._table.remove(doc_ids=self._table.lookup_ids({"id": document_id})))

    def delete_where(self, **criteria: str | None) -> int:
        """Delete the documents that fit; tell how many they were.

        Raises
        ------
        TypeError
            If no criterion is given: to delete everything must be asked for in another way.
        """
        self._require_change()
        if not criteria:
            raise TypeError("delete_where needs a criterion")
        return len(self._table.remove(doc_ids=self._table.lookup_ids(criteria)))

    def _doc_id(self, document_id: str) -> int:
        found = self._table.lookup_ids({"id": document_id})
        if not found:
            raise NotFound(f"There is no document {document_id!r} in {self._collection.name}.")
        return found[0]

    def _require_change(self) -> None:
        if not self._engine.in_transaction:
            raise RuntimeError("documents are changed by the work given to Store.change or Store.change_now")

    # -- what is damaged -----------------------------------------------------------------------------

    def _parse(self, body: bytes) -> D:
        return self._collection.document.model_validate(decode(body))

    def _each(self, rows: Iterable[tuple[int, bytes]], read: Callable[[bytes], R]) -> list[R]:
        """Read documents, but for those that are damaged."""
        found = []
        for doc_id, body in rows:
            try:
                found.append(read(body))
            except ValidationError as error:
                self._note_damaged(doc_id, body, error)
        return found

    def _strictly(self, doc_id: int, body: bytes) -> D:
        try:
            return self._parse(body)
        except ValidationError as error:
            self._note_damaged(doc_id, body, error)
            row = decode(body)
            owner, crew_id = (str(row.get(name) or "") for name in ("owner", "crew_id"))
            raise DocumentDamaged(
                f"{self._named(doc_id, row, error)}. Delete it, or have a backup restored",
                collection=self._collection.name,
                document_id=str(row.get("id")),
                owner=owner,
                crew_id=crew_id,
            ) from error

    def _note_damaged(self, doc_id: int, body: bytes, error: Exception) -> None:
        """Remember a damaged document, and say once which it is."""
        with self._damaged_lock:
            if self._damaged.get(doc_id) == body:
                return
            self._damaged[doc_id] = body
        _log.error("%s; it is left out", self._named(doc_id, decode(body), error))

    def _named(self, doc_id: int, row: Mapping[str, Any], error: Exception) -> str:
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        else:
            reason = f"{type(error).__name__}: {error}"
        return (
            f"The document {row.get('id', f'number {doc_id}')!r} in {self._collection.name} "
            f"does not fit its type: {reason}"
        )

    def _left_out(self, criteria: Mapping[str, str | None]) -> int:
        """Count the damaged documents, of those that were met, that fit and are there still."""
        if not self._damaged:
            return 0
        with self._damaged_lock:
            known = dict(self._damaged)
        there, gone = self._table.lookup_same(criteria, known)
        if gone:
            with self._damaged_lock:
                for doc_id in gone:
                    if self._damaged.get(doc_id) == known[doc_id]:
                        del self._damaged[doc_id]
        return there
