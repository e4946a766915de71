"""TinyDB's first seam: a storage that keeps a row a document in SQLite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinydb.storages import Storage

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.engine import Engine
from kasal_jupyter.store.memory import Indexes
from kasal_jupyter.store.view import TableDraft, TableView


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
    indexes
        The fields of each table that :meth:`SqliteTable.lookup` can look up.

    Attributes
    ----------
    engine
        The database underneath.
    """

    def __init__(
        self, path: str | Path, create_dirs: bool = False, *, indexes: Indexes | None = None
    ) -> None:
        super().__init__()
        path = Path(path)
        if create_dirs:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.engine = Engine(path, indexes)

    def read(self) -> dict[str, Any] | None:
        """Give every table, or None if there is none.

        The dictionary is the caller's to change and hand back to :meth:`write`. Its
        tables are views, which decode a document when it is asked for.
        """
        with self.engine.reading() as tables:
            names = tables.names()
        if not names:
            return None
        versions = {name: self.engine.version(name) for name in names}
        return _Tables({name: TableView(self.engine, name) for name in names}, versions)

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
        with self.engine.transaction() as layer:
            known = data.versions if isinstance(data, _Tables) else layer.names()
            for name in known:
                # A table that came after reading is not missing: its writer was not asked.
                if name not in data and layer.reader(name).present:
                    layer.writer(name).drop()
            for name, table in data.items():
                if isinstance(table, TableView):
                    continue
                if isinstance(data, _Tables) and self.engine.version(name) != data.versions.get(name, 0):
                    raise StoreError(f"The table {name!r} was changed by somebody else. Read it again.")
                overlay = layer.writer(name)
                draft = TableDraft(overlay)
                wanted = _documents(name, table)
                for doc_id in [doc_id for doc_id in draft if doc_id not in wanted]:
                    del draft[doc_id]
                draft.update(wanted)
                draft.apply()

    def close(self) -> None:
        """Close the file."""
        self.engine.close()


class _Tables(dict[str, Any]):
    """What was read, and the versions that the tables had then."""

    def __init__(self, tables: Mapping[str, Any], versions: Mapping[str, int]) -> None:
        super().__init__(tables)
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
