"""A collection's documents, typed, and which of them a list wants."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from kasal_jupyter.errors import Conflict, DocumentDamaged, NotFound
from kasal_jupyter.store.collections import Collection, D, Order
from kasal_jupyter.store.engine import Engine
from kasal_jupyter.store.layout import Layout, decode, encode, folded, sort_column, sort_value
from kasal_jupyter.store.rows import Condition, Row, Rows

R = TypeVar("R")

Criterion = str | bool | None

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
    engine
        The database.
    collection
        What it holds.
    """

    def __init__(self, engine: Engine, collection: Collection[D]) -> None:
        self._engine = engine
        self._collection = collection
        self._rows = Rows(engine, collection.name)
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
        found = self._by_id(document_id)
        return self._strictly(*found) if found else None

    def required(self, document_id: str, what: str) -> D:
        """Give the document with the id.

        Parameters
        ----------
        document_id
            The id.
        what
            What it is to whoever asks for it, in words: ``user``, say.

        Raises
        ------
        DocumentDamaged
            It does not fit its type.
        NotFound
            There is none.
        """
        found = self.get(document_id)
        if found is None:
            raise NotFound(f"There is no {what} {document_id}")
        return found

    def readable(self, document_id: str) -> D | None:
        """Give the document with the id; None as well where it does not fit its type."""
        found = self._by_id(document_id)
        return next(iter(self._each([found], self._parse)), None) if found else None

    def has(self, document_id: str) -> bool:
        """Say whether there is a document with the id, whatever state it is in."""
        return bool(self._rows.ids(self._rows.having({"id": document_id})))

    def ids(self, **criteria: Criterion) -> list[str]:
        """Give the ids of all documents that fit, whatever state they are in, in the order they were made."""
        return self._rows.document_ids(self._rows.having(criteria))

    def find(self, *, order: Order | None = None, **criteria: Criterion) -> list[D]:
        """Give all documents that fit, in the collection's own order, if no other is asked for."""
        return self._each(self._rows.rows(self._rows.having(criteria), order=self._sql(order)), self._parse)

    def complete(self, **criteria: Criterion) -> list[D]:
        """Give all documents that fit, as :meth:`find` does, where none may be missing.

        Raises
        ------
        DocumentDamaged
            One of them does not fit its type.
        """
        rows = self._rows.rows(self._rows.having(criteria), order=self._sql(None))
        return [self._strictly(*row) for row in rows]

    def page(
        self, *, order: Order | None = None, offset: int = 0, limit: int | None = 100, **criteria: Criterion
    ) -> Page[D]:
        """Give a part of the documents that fit; only these are read.

        Parameters
        ----------
        order
            The order; the collection's own, if it is None.
        offset
            How many documents to pass over.
        limit
            How many documents to give at most; all, if it is None.
        """
        documents, total = self._part(
            self._rows.having(criteria), self._sql(order), offset, limit, self._parse
        )
        return Page(documents, total)

    def bodies(
        self,
        read: Callable[[bytes], R],
        *,
        newest: bool = False,
        offset: int = 0,
        limit: int | None = 100,
        **criteria: Criterion,
    ) -> tuple[list[R], int]:
        """Give a part of the documents that fit, made of what is stored, and how many fit.

        Nothing is decoded but by `read`: for answers that are made of the stored bytes. It raises what
        pydantic raises for a document that is damaged.
        """
        order = self._sql("newest" if newest else "created")
        return self._part(self._rows.having(criteria), order, offset, limit, read)

    def remembered(self, key: Hashable, make: Callable[[], R]) -> R:
        """Give what is made of the collection alone, which is made once until the collection changes.

        Parameters
        ----------
        key
            What it is, among all that is made of the collection.
        make
            Makes it. It must be short: several hundred are kept.
        """
        return self._engine.remembered(self._collection.name, key, make)

    def select(
        self, wanted: Selection, newer: Mapping[str, D] | None = None, **criteria: Criterion
    ) -> Page[D]:
        """Give a part of a list that is cut, searched or sorted.

        Parameters
        ----------
        wanted
            Which, and in what order.
        newer
            Documents by their ids as they stand now, where that is not stored yet: they are looked at in the
            place of what is. The criteria still go by what is stored.
        **criteria
            Fields and their values, as an index has them.

        Raises
        ------
        LookupError
            If the collection's layout has not what is asked for.
        """
        scope = self._rows.having(criteria)
        # Its first facet is what the index for lists begins with.
        listed = not criteria or not criteria.keys().isdisjoint(self._collection.facets[:1])
        if newer:
            with self._engine.snapshot():
                return self._select_with(wanted, newer, scope)
        documents, total = self._part(
            scope & wanted.condition(self._rows),
            wanted.order(self._rows.layout),
            wanted.offset,
            wanted.limit,
            self._parse,
            listed=listed,
        )
        return Page(documents, total)

    def _select_with(self, wanted: Selection, newer: Mapping[str, D], scope: Condition) -> Page[D]:
        standing: dict[int, D] = {}
        places: list[tuple[Any, int]] = []
        for document_id, document in newer.items():
            for doc_id in self._rows.ids(self._rows.having({"id": document_id}) & scope):
                standing[doc_id] = document
                row = document.dump()
                if wanted.takes(row):
                    places.append((wanted.value(row, doc_id), doc_id))
        stored = scope & wanted.condition(self._rows)
        if standing:
            # Numbers: nothing of them needs a parameter, of which there may only be so many.
            stored &= Condition(f"doc_id NOT IN ({', '.join(map(str, standing))})")
        total = len(places) + self._rows.count(stored, listed=True) - self._left_out(stored)
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        layout = self._rows.layout
        places += self._rows.places(stored, wanted.column(layout), wanted.order(layout), end)
        # A stable sort keeps the order in which they were made among equals.
        places.sort(key=lambda place: place[1])
        places.sort(key=lambda place: wanted.place(place[0]), reverse=wanted.descending)
        documents = []
        for _, doc_id in places[wanted.offset : end]:
            if doc_id in standing:
                documents.append(standing[doc_id])
            elif (body := self._rows.body(doc_id)) is not None:
                documents += self._each([(doc_id, body)], self._parse)
        return Page(documents, total)

    def count(self, **criteria: Criterion) -> int:
        """Count the documents that fit."""
        wanted = self._rows.having(criteria)
        return self._rows.count(wanted) - self._left_out(wanted)

    def insert(self, document: D) -> None:
        """Add a document.

        Raises
        ------
        Conflict
            If there is one with its id.
        """
        self._require_change()
        row = document.dump()
        if self.has(row["id"]):
            raise Conflict(f"There is already a document {row['id']!r} in {self._collection.name}.")
        self._rows.insert(encode(row))

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
        doc_id, before = self._required(document_id)
        row = _readable(before)
        try:
            document = self._collection.document.model_validate({**row, **fields})
        except ValidationError:
            # Is it what is stored, or what is given?
            self.get(document_id)
            raise
        self._rows.update(doc_id, encode({**row, **document.dump()}), before)
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
        doc_id, before = self._required(row["id"])
        # What another version keeps beside our fields stays.
        self._rows.update(doc_id, encode({**_readable(before), **row}), before)

    def delete(self, document_id: str) -> bool:
        """Delete a document; tell whether there was one."""
        self._require_change()
        return bool(self._rows.delete(self._rows.ids(self._rows.having({"id": document_id}))))

    def delete_where(self, **criteria: Criterion) -> int:
        """Delete the documents that fit; tell how many they were.

        Raises
        ------
        TypeError
            If no criterion is given: to delete everything must be asked for in another way.
        """
        self._require_change()
        if not criteria:
            raise TypeError("delete_where needs a criterion")
        return self._rows.delete(self._rows.ids(self._rows.having(criteria)))

    def _by_id(self, document_id: str) -> Row | None:
        found = self._rows.rows(self._rows.having({"id": document_id}), limit=1)
        return found[0] if found else None

    def _required(self, document_id: str) -> Row:
        found = self._by_id(document_id)
        if found is None:
            raise NotFound(f"There is no document {document_id!r} in {self._collection.name}.")
        return found

    def _require_change(self) -> None:
        _ = self._engine.job

    def _sql(self, order: Order | None) -> str:
        match order or self._collection.order:
            case "position":
                return f'"{sort_column("position")}", doc_id'
            case "newest":
                return "doc_id DESC"
            case "created":
                return "doc_id"

    def _part(
        self,
        wanted: Condition,
        order: str,
        offset: int,
        limit: int | None,
        read: Callable[[bytes], R],
        *,
        listed: bool = False,
    ) -> tuple[list[R], int]:
        def part() -> tuple[list[R], int]:
            rows = self._rows.rows(wanted, order=order, offset=offset, limit=limit, listed=listed)
            # How many there are is mostly remembered.
            total = self._rows.count(wanted, listed=listed)
            return self._each(rows, read), total - self._left_out(wanted)

        version = self.version()
        found = part()
        if self.version() == version:
            return found
        with self._engine.snapshot():
            return part()

    # -- what is damaged -----------------------------------------------------------------------------

    def _parse(self, body: bytes) -> D:
        return self._collection.document.model_validate(decode(body))

    def _each(self, rows: Iterable[Row], read: Callable[[bytes], R]) -> list[R]:
        """Read documents, but for those that are damaged."""
        found = []
        for doc_id, body in rows:
            try:
                found.append(read(body))
            except ValueError as error:
                self._note_damaged(doc_id, body, error)
        return found

    def _strictly(self, doc_id: int, body: bytes) -> D:
        try:
            return self._parse(body)
        except ValueError as error:
            self._note_damaged(doc_id, body, error)
            known = self._rows.columns(doc_id, ("id", "owner", "crew_id"))
            raise DocumentDamaged(
                f"{self._named(doc_id, body, error)}. Delete it, or have a backup restored",
                collection=self._collection.name,
                document_id=known["id"],
                owner=known["owner"],
                crew_id=known["crew_id"],
            ) from error

    def _note_damaged(self, doc_id: int, body: bytes, error: Exception) -> None:
        """Remember a damaged document, and say once which it is."""
        with self._damaged_lock:
            if self._damaged.get(doc_id) == body:
                return
            self._damaged[doc_id] = body
        _log.error("%s; it is left out", self._named(doc_id, body, error))

    def _named(self, doc_id: int, body: bytes, error: Exception) -> str:
        if not isinstance(error, ValidationError) or not (row := _readable(body)):
            return f"The store's table {self._collection.name!r} is damaged at document {doc_id}: {error}"
        first = error.errors(include_url=False, include_input=False)[0]
        return (
            f"The document {row.get('id', f'number {doc_id}')!r} in {self._collection.name} "
            f"does not fit its type: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        )

    def _left_out(self, wanted: Condition) -> int:
        """Count the damaged documents, of those that were met, that fit and are there still."""
        if not self._damaged:
            return 0
        with self._damaged_lock:
            known = dict(self._damaged)
        there = 0
        for doc_id, body in known.items():
            if self._rows.body(doc_id) == body:
                there += bool(self._rows.ids(Condition("doc_id = ?", (doc_id,)) & wanted))
                continue
            with self._damaged_lock:
                if self._damaged.get(doc_id) == body:
                    del self._damaged[doc_id]
        return there


def _readable(body: bytes) -> dict[str, Any]:
    """Read a document that may be damaged; an empty one, where nothing can be read of it."""
    try:
        return decode(body)
    except ValueError:
        return {}


# Which documents of a list are wanted, and in which order.


@dataclass(frozen=True, slots=True)
class Selection:
    """A list cut by values, times and a search, and sorted.

    The fields are those that the collection's layout has for it: facets, what lists are sorted by, and what
    they are searched in.

    Attributes
    ----------
    sort
        The field to sort by. ``created_at`` is the order in which documents were made, which is more exact
        than their times.
    descending
        Whether the greatest comes first; what has no value comes last either way.
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

    def condition(self, rows: Rows) -> Condition:
        """Say in SQL which documents are wanted.

        Raises
        ------
        LookupError
            If the collection has no such facet, or no such field is searched.
        """
        wanted = Condition()
        for operator, values in (("=", self.equal), (">=", self.least), ("<", self.below)):
            for name, value in values.items():
                wanted &= Condition(f'"{_facet(rows.layout, name)}" {operator} ?', (value,))
        if self.search is not None:
            wanted &= rows.containing(self.search, self.searched)
        return wanted

    def column(self, layout: Layout) -> str:
        """Give what the list is sorted by, in SQL."""
        if self.sort == "created_at":
            return "doc_id"
        if self.sort in layout.sorted:
            return f'"{sort_column(self.sort)}"'
        return f'"{_facet(layout, self.sort)}"'

    def order(self, layout: Layout) -> str:
        """Give the order in SQL."""
        column, direction = self.column(layout), "DESC" if self.descending else "ASC"
        if column == "doc_id":
            return f"doc_id {direction}"
        return f"{column} IS NULL, {column} {direction}, doc_id"

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Say whether a document is wanted that is not stored like this yet."""
        if any(row[name] != value for name, value in self.equal.items()):
            return False
        if any(row[name] < value for name, value in self.least.items()):
            return False
        if any(row[name] >= value for name, value in self.below.items()):
            return False
        if self.search is None:
            return True
        text = folded(self.search)
        return any(text in folded(row.get(name)) for name in self.searched)

    def place(self, value: Any) -> tuple[bool, bool, Any]:
        """Give the place of what stands in the column; what has no value comes last."""
        return (value is None) != self.descending, isinstance(value, str), 0 if value is None else value

    def value(self, row: Mapping[str, Any], doc_id: int) -> Any:
        """Give what would stand in the column for a document that is not stored like this yet."""
        return doc_id if self.sort == "created_at" else sort_value(row.get(self.sort))


def _facet(layout: Layout, name: str) -> str:
    if name not in layout.fields:
        known = ", ".join((*layout.fields, *layout.sorted))
        raise LookupError(f"lists are not cut or sorted by {name!r}, but by: {known}")
    return name
