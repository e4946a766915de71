"""Connections to the SQLite file: what others have changed is read, what we change is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kasal_jupyter.store.file import (
    BUSY_SECONDS,
    connect,
    create_file,
    prepare,
    store_errors,
    wait_while_busy,
)
from kasal_jupyter.store.layer import Layer
from kasal_jupyter.store.turnstile import POLL_SECONDS, Turnstile

KEEP_TOMBSTONES = 10_000
"""Revisions a tombstone is kept for. A process that missed more changes reads everything again."""

_PUT = """
INSERT INTO documents (revision, "table", id, body) VALUES (?, ?, ?, CAST(? AS TEXT))
ON CONFLICT ("table", id) DO UPDATE SET revision = excluded.revision, body = excluded.body
"""

_PUT_TABLE = """
INSERT INTO tables (name, revision, cleared, present) VALUES (:name, :revision, :cleared, :present)
ON CONFLICT (name) DO UPDATE SET revision = :revision, cleared = max(cleared, :cleared), present = :present
"""

# A table's highest id must stay known, or it would be given again.
_PRUNE = """
DELETE FROM documents WHERE body IS NULL AND revision <= ?
AND id < (SELECT max(id) FROM documents AS other WHERE other."table" = documents."table")
"""


@dataclass(frozen=True, slots=True)
class TableChange:
    """A table that came, went or was cleared, the last time at revision `cleared`."""

    name: str
    cleared: int
    present: bool


class RowChange(NamedTuple):
    """A document that was written, or deleted: then it has no body."""

    revision: int
    table: str
    doc_id: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a file holds that a reader has not seen.

    Attributes
    ----------
    upto
        The file's revision.
    whole
        Whether this is all that the file holds, because the reader's state is too old to build on.
    """

    upto: int
    whole: bool
    tables: list[TableChange]
    rows: list[RowChange]


class Session:
    """A connection to the file, which can be used by one thread at a time.

    Attributes
    ----------
    seen
        The `data_version` up to which the owner has taken in what other connections wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seen: int | None = None
        with store_errors(path):
            self._connection = connect(path)

    def close(self) -> None:
        """Close the connection; the last one of all processes also empties the write-ahead log."""
        self._connection.close()

    def data_version(self) -> int:
        """Give a number that changes when another connection commits. It costs two microseconds."""
        with store_errors(self._path):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def count_changes(self, since: int) -> int:
        """Count the changed rows after a revision."""
        with store_errors(self._path):
            found = self._connection.execute("SELECT count(*) FROM documents WHERE revision > ?", (since,))
            return int(found.fetchone()[0])

    def changes(self, since: int) -> Changes:
        """Give what changed after a revision, all of one moment."""
        with store_errors(self._path), self._moment():
            (pruned,) = self._connection.execute("SELECT revision FROM pruned").fetchone()
            whole = since < pruned or since == 0
            since = 0 if whole else since
            upto = since
            tables = []
            for name, revision, cleared, present in self._connection.execute(
                "SELECT name, revision, cleared, present FROM tables WHERE revision > ?", (since,)
            ):
                tables.append(TableChange(name.decode(), cleared, bool(present)))
                upto = max(upto, revision)
            names: dict[bytes, str] = {}
            rows = [
                RowChange(revision, names.get(table) or names.setdefault(table, table.decode()), doc_id, body)
                for revision, table, doc_id, body in self._connection.execute(
                    'SELECT revision, "table", id, body FROM documents WHERE revision > ? ORDER BY revision',
                    (since,),
                )
            ]
        if rows:
            upto = max(upto, rows[-1].revision)
        return Changes(upto, whole, tables, rows)

    @contextmanager
    def _moment(self) -> Iterator[None]:
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()


class WriteSession(Session):
    """The connection that writes.

    Attributes
    ----------
    deletions
        Tombstones written since the last :meth:`prune`.
    """

    def __init__(self, path: Path) -> None:
        create_file(path)
        super().__init__(path)
        try:
            with store_errors(path):
                prepare(self._connection, path)
                tombstones = self._connection.execute("SELECT count(*) FROM documents WHERE body IS NULL")
                (self.deletions,) = tombstones.fetchone()
                # SQLite would wait for its lock in steps of up to 100 ms.
                self._connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            super().close()
            raise
        self._turnstile = Turnstile(path.parent, BUSY_SECONDS)

    def close(self) -> None:
        """Close the connection, and leave the queue."""
        super().close()
        self._turnstile.close()

    def begin(self) -> None:
        """Begin a transaction, once no other process is in one."""
        with store_errors(self._path), self._turnstile:
            if self._connection.in_transaction:
                # One whose end failed as well, on a disk that answers with errors.
                self._connection.rollback()
            wait_while_busy(lambda: self._connection.execute("BEGIN IMMEDIATE"), POLL_SECONDS)

    def commit(self) -> None:
        """Commit the transaction: when this returns, it is on the disk."""
        with store_errors(self._path):
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """End the transaction and undo it. The connection may have done so itself, after an error."""
        with store_errors(self._path):
            self._connection.rollback()

    def write(self, layer: Layer, revision: int) -> int:
        """Write what a layer changes, and nothing else.

        Parameters
        ----------
        layer
            The changes to the file as it is at `revision`.
        revision
            The file's revision.

        Returns
        -------
        int
            The file's revision with the changes.
        """
        with store_errors(self._path):
            for name, overlay in layer:
                if overlay.cleared or overlay.created():
                    revision += 1
                    cleared = revision if overlay.cleared else 0
                    state = {
                        "name": name,
                        "revision": revision,
                        "cleared": cleared,
                        "present": overlay.present,
                    }
                    self._connection.execute(_PUT_TABLE, state)
                if overlay.cleared:
                    self._connection.execute('DELETE FROM documents WHERE "table" = ?', (name,))
                removed = overlay.removed()
                self.deletions += len(removed)
                rows: list[tuple[int, bytes | None]] = [(doc_id, None) for doc_id in removed]
                rows += [(doc_id, overlay.put_rows.body(doc_id)) for doc_id in overlay.put_rows.ids()]
                self._connection.executemany(
                    _PUT, ((revision + n, name, *row) for n, row in enumerate(rows, start=1))
                )
                revision += len(rows)
        return revision

    def prune(self, revision: int) -> None:
        """Forget the tombstones that every process has long seen."""
        upto = revision - KEEP_TOMBSTONES
        self.deletions = 0
        if upto > 0:
            with store_errors(self._path):
                self._connection.execute(_PRUNE, (upto,))
                self._connection.execute("UPDATE pruned SET revision = ?", (upto,))
