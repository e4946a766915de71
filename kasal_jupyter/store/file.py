"""The SQLite file below the store.

One row a document, keyed by a revision that grows with every change::

    documents  revision ¹  table  id  body     body is the document as JSON text, NULL once it is deleted
    tables     name  revision  cleared  present
    pruned     revision                        deletions up to this revision are forgotten

A changed row gets the next revision, so it moves to the end of the file's tree: to
write is to append, and what other processes changed is the tree's tail. A deleted
row stays for a while as a tombstone, so that they see that too.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kasal_jupyter.errors import StoreError, StoreTooNew
from kasal_jupyter.store.layer import Layer
from kasal_jupyter.store.turnstile import POLL_SECONDS, Turnstile

FORMAT = 1
"""The version of the file's format that this code writes, kept in SQLite's ``user_version``."""

APPLICATION_ID = 0x4B61736C
"""What marks the file as ours, kept in SQLite's ``application_id``: ``Kasl``."""

BUSY_SECONDS = 30.0
"""How long to wait for another process's transaction; they take milliseconds."""

KEEP_TOMBSTONES = 10_000
"""Revisions a tombstone is kept for. A process that missed more changes reads everything again."""

_SCHEMA = """
CREATE TABLE documents (
    revision INTEGER PRIMARY KEY,
    "table" TEXT NOT NULL,
    id INTEGER NOT NULL,
    body TEXT,
    UNIQUE ("table", id)
);
CREATE INDEX tombstones ON documents (revision) WHERE body IS NULL;
CREATE TABLE tables (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    cleared INTEGER NOT NULL,
    present INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pruned (revision INTEGER NOT NULL);
INSERT INTO pruned VALUES (0);
"""

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


@dataclass(frozen=True, slots=True)
class RowChange:
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
            self._connection = _connect(path)

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
        _create_file(path)
        super().__init__(path)
        with store_errors(path):
            _prepare(self._connection, path)
            (self.deletions,) = self._connection.execute(
                "SELECT count(*) FROM documents WHERE body IS NULL"
            ).fetchone()
            # SQLite would wait for its lock in steps of up to 100 ms.
            self._connection.execute("PRAGMA busy_timeout = 0")
        self._turnstile = Turnstile(path.parent, BUSY_SECONDS)

    def close(self) -> None:
        """Close the connection, and leave the queue."""
        super().close()
        self._turnstile.close()

    def begin(self) -> None:
        """Begin a transaction, once no other process is in one."""
        with store_errors(self._path), self._turnstile:
            _wait_while_busy(lambda: self._connection.execute("BEGIN IMMEDIATE"), POLL_SECONDS)

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


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"The store {path} can't be used: {error}. {_advice(error)}") from error


def _advice(error: sqlite3.Error) -> str:
    match _primary_code(error):
        case sqlite3.SQLITE_FULL:
            return "Nothing of this change was stored; make room on the disk and try again."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "Another program has held it for too long; end that program and try again."
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "Check that its folder exists and that you may write there."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "The file is damaged; move it away and import an export, or restore a backup."
        case None:
            return "It is closed, or was never opened."
        case _:
            return "Check the disk, and that the folder is on this machine and not on a network."


def _primary_code(error: sqlite3.Error) -> int | None:
    """Give SQLite's code without its details, or None where Python's module itself objects."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _create_file(path: Path) -> None:
    """Make the file private. SQLite gives its log and its shared memory the file's own mode."""
    try:
        # Never open a file that may be in use: closing it would drop SQLite's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    connection.text_factory = bytes
    # FULL: a commit returns once the log is on the disk. On macOS only a "full" fsync is one.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours and not newer than we are; make it, if it is new."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or objects):
        raise StoreError(f"{path} is an SQLite file, but not a store of Kasal. Choose another data folder.")
    if version > FORMAT:
        raise StoreTooNew(
            f"The store {path} was written by a newer version (its format is {version}, this version reads "
            f"{FORMAT}). Upgrade with `pip install --upgrade kasal-jupyter`, or choose another data folder "
            "with KASAL_DATA_DIR."
        )
    _switch_to_wal(connection, path)
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _switch_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait for others here, so we do: two processes may make the file at once.
    switched = _wait_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"), 0.01)
    (mode,) = switched.fetchone()
    if mode != b"wal":
        raise StoreError(
            f"The store {path} is on a file system without shared memory. "
            "Choose a folder on a local disk with KASAL_DATA_DIR."
        )


def _wait_while_busy(attempt: Callable[[], sqlite3.Cursor], pause: float) -> sqlite3.Cursor:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause)
