"""TinyDB's first seam: a storage that keeps a row a document in SQLite."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinydb.storages import Storage

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.engine import Engine
from kasal_jupyter.store.file import Schema
from kasal_jupyter.store.layout import Layout, decode, encode
from kasal_jupyter.store.migrations import DocumentSteps
from kasal_jupyter.store.rows import Rows, decoded


class SqliteStorage(Storage):
    """Keeps TinyDB's tables durably in one SQLite file, safe between processes.

    With :class:`~kasal_jupyter.store.table.SqliteTable` a write costs the same however
    large its table is. With TinyDB's own ``Table`` it is as durable and writes as few
    rows, but takes time that grows with the table, since that class hands over all of it.

    Parameters
    ----------
    path
        The file; it is created, readable by its owner alone, if it is not there.
    create_dirs
        Whether its folder is created, too.
    layouts
        How tables lie. Of those that :meth:`SqliteTable.lookup` looks up, the indexed fields are enough.
    steps, schemas
        As :class:`~kasal_jupyter.store.engine.Engine` takes them.

    Attributes
    ----------
    engine
        The database underneath.
    """

    def __init__(
        self,
        path: str | Path,
        create_dirs: bool = False,
        *,
        layouts: Mapping[str, Layout | tuple[str, ...]] | None = None,
        steps: Mapping[str, DocumentSteps] | None = None,
        schemas: Sequence[Schema] = (),
    ) -> None:
        super().__init__()
        path = Path(path)
        if create_dirs:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = {
            name: layout if isinstance(layout, Layout) else Layout(indexed=layout)
            for name, layout in (layouts or {}).items()
        }
        self.engine = Engine(path, whole, steps=steps, schemas=schemas)

    def read(self) -> dict[str, Any] | None:
        """Give every table, or None if there is none.

        The dictionary is the caller's to change and hand back to :meth:`write`. Its
        tables are views, which decode a document when it is asked for.
        """
        found = self.engine.rows("SELECT name, version, present FROM collections")
        versions = {name.decode(): version for name, version, _ in found}
        tables = {
            name.decode(): TableView(Rows(self.engine, name.decode()))
            for name, _, present in found
            if present
        }
        return _Tables(tables, versions) if tables else None

    def write(self, data: Mapping[str, Any]) -> None:
        """Make the tables be these, writing the documents that differ.

        Raises
        ------
        StoreError
            If the data was read from here and somebody else has changed one of the
            tables since: writing it would undo their change.
        TypeError
            If the data is not what :meth:`read` gives.
        """
        with self.engine.transaction():
            read = data if isinstance(data, _Tables) else None
            for (name,) in self.engine.rows("SELECT name FROM collections WHERE present"):
                # A table that came after reading is not missing: its writer was not asked.
                if name.decode() not in data and (read is None or name.decode() in read.names):
                    Rows(self.engine, name.decode()).clear(present=False)
            for name, table in data.items():
                if isinstance(table, TableView):
                    continue
                if read is not None and self.engine.version(name) != read.versions.get(name, 0):
                    raise StoreError(f"The table {name!r} was changed by somebody else. Read it again.")
                self._write_table(name, _documents(name, table))

    def _write_table(self, name: str, wanted: Mapping[int, dict[str, Any]]) -> None:
        rows = Rows(self.engine, name)
        bodies = {doc_id: encode(document) for doc_id, document in wanted.items()}
        before = dict(rows.rows())
        rows.delete([doc_id for doc_id in before if doc_id not in bodies])
        for doc_id, body in bodies.items():
            if doc_id in before:
                rows.update(doc_id, body, before[doc_id])
            else:
                rows.insert(body, doc_id)
        rows.make_present()

    def close(self) -> None:
        """Close the file."""
        self.engine.close()


class TableView(Mapping[str, dict[str, Any]]):
    """A table as TinyDB reads it: documents by their ids as text.

    Each document given out is decoded for the occasion, and its receiver's own.
    """

    def __init__(self, rows: Rows) -> None:
        self.source = rows

    def __len__(self) -> int:
        return self.source.count()

    def __iter__(self) -> Iterator[str]:
        return map(str, self.source.ids())

    def __getitem__(self, key: str) -> dict[str, Any]:
        try:
            body = self.source.body(int(key))
        except ValueError:
            raise KeyError(key) from None
        if body is None:
            raise KeyError(key)
        return decode(body)

    def items(self) -> ItemsView[str, dict[str, Any]]:
        """Give ids and documents, all of one moment."""
        return _Items(self)


class _Items(ItemsView[str, dict[str, Any]]):
    _mapping: TableView

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for doc_id, document in decoded(self._mapping.source.rows()):
            yield str(doc_id), document


class _Tables(dict[str, Any]):
    """What was read, and the versions that the tables had then."""

    def __init__(self, tables: Mapping[str, Any], versions: Mapping[str, int]) -> None:
        super().__init__(tables)
        self.names = frozenset(tables)
        self.versions = versions


def _documents(name: str, table: Any) -> dict[int, dict[str, Any]]:
    if not isinstance(table, Mapping) or not all(
        isinstance(document, Mapping) for document in table.values()
    ):
        raise TypeError(f"the table {name!r} is not a mapping of documents")
    try:
        return {int(doc_id): dict(document) for doc_id, document in table.items()}
    except ValueError as error:
        raise TypeError(f"the table {name!r} has an id that is not a number") from error
