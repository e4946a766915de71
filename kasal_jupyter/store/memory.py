"""The committed tables in memory, and how far they follow the file."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Mapping

from kasal_jupyter.store.codec import decode
from kasal_jupyter.store.layer import Layer
from kasal_jupyter.store.rows import Keys, Rows, keys_of
from kasal_jupyter.store.session import Changes, RowChange

Indexes = Mapping[str, tuple[str, ...]]
"""The indexed fields of each table that has any."""


_log = logging.getLogger(__name__)

_KeyedRow = tuple[RowChange, Keys]


class Memory:
    """The committed tables. Read them, and keep what was read, only while holding the lock.

    Parameters
    ----------
    indexes
        The indexed fields of each table that has any.

    Attributes
    ----------
    lock
        Held while rows are read or exchanged; never while anything is decoded or written to disk.
    revision
        The file's revision that the tables are at.
    """

    def __init__(self, indexes: Indexes) -> None:
        self.lock = threading.RLock()
        self.revision = 0
        self._indexes = indexes
        self._tables: dict[str, Rows] = {}
        self._versions = itertools.count(1)

    def reader(self, name: str) -> Rows:
        """Give the table with the name; an empty one, if there is none."""
        table = self._tables.get(name)
        return self._new_table(name) if table is None else table

    def names(self) -> list[str]:
        """Give the names of the tables there are."""
        return [name for name, table in self._tables.items() if table.present]

    def version(self, name: str) -> int:
        """Give a number that is another one whenever the table has changed."""
        return self.reader(name).version

    def merge(self, layer: Layer, revision: int) -> None:
        """Take in a layer that this process has committed.

        Nothing is to be done if a reader was faster and has read the commit from the
        file: what it read may already be newer than the layer.
        """
        with self.lock:
            if self.revision >= revision:
                return
            for name, overlay in layer:
                table = self._table(name)
                overlay.apply(table)
                table.version = next(self._versions)
            self.revision = revision

    def take_in(self, changes: Changes) -> None:
        """Take in what was read from the file, whoever has committed it."""
        rows = self._keyed(changes.rows)
        if changes.whole:
            self._replace(changes, rows)
            return
        with self.lock:
            since = self.revision
            if changes.upto <= since:
                return
            touched = set()
            for event in changes.tables:
                table = self._table(event.name)
                if event.cleared > since:
                    table.clear()
                table.present = event.present
                touched.add(event.name)
            # Some of the rows may be here already: they were merged after the file was read.
            for row, keys in rows:
                _put(self._table(row.table), row, keys)
                touched.add(row.table)
            for name in touched:
                self._tables[name].version = next(self._versions)
            self.revision = changes.upto

    def _replace(self, changes: Changes, rows: list[_KeyedRow]) -> None:
        # Built aside and swapped in: the lock is not held while 100,000 rows are indexed.
        tables: dict[str, Rows] = {}
        for event in changes.tables:
            tables[event.name] = self._new_table(event.name)
            tables[event.name].present = event.present
        for row, keys in rows:
            _put(tables[row.table], row, keys)
        with self.lock:
            if changes.upto < self.revision:
                return
            version = next(self._versions)
            for table in tables.values():
                table.version = version
            self._tables = tables
            self.revision = changes.upto

    def _keyed(self, rows: list[RowChange]) -> list[_KeyedRow]:
        keyed = []
        for row in rows:
            fields = self._indexes.get(row.table, ())
            keys: Keys = ()
            if fields and row.body is not None:
                try:
                    keys = keys_of(decode(row.body), fields)
                except (ValueError, TypeError, AttributeError) as error:
                    # Nobody knows what it was. It stays in the file, and all others can be used.
                    _log.error(
                        "The store's table %r is damaged at document %s, which is left out: %s. "
                        "Restore a backup, or import an export.",
                        row.table,
                        row.doc_id,
                        error,
                    )
                    row = row._replace(body=None)  # noqa: PLW2901
            keyed.append((row, keys))
        return keyed

    def _table(self, name: str) -> Rows:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._new_table(name)
        return table

    def _new_table(self, name: str) -> Rows:
        return Rows(self._indexes.get(name, ()))


def _put(table: Rows, row: RowChange, keys: Keys) -> None:
    if row.body is None:
        table.remove(row.doc_id)
    else:
        table.put(row.doc_id, row.body, keys)
