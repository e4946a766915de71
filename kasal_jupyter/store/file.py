"""The SQLite file below the store: its format, how it is made and opened.

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
from contextlib import contextmanager, suppress
from pathlib import Path

from kasal_jupyter.errors import StoreError, StoreTooNew

FORMAT = 1
"""The version of the file's format that this code writes, kept in SQLite's ``user_version``."""

APPLICATION_ID = 0x4B61736C
"""What marks the file as ours, kept in SQLite's ``application_id``: ``Kasl``."""

BUSY_SECONDS = 30.0
"""How long to wait for another process's transaction; they take milliseconds."""

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


def create_file(path: Path) -> None:
    """Make the file private. SQLite gives its log and its shared memory the file's own mode."""
    try:
        # Never open a file that may be in use: closing it would drop SQLite's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            # The log goes as the last one who has the file open closes it.
            with suppress(FileNotFoundError):
                if file.stat().st_mode & 0o077:
                    file.chmod(0o600)


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection that is durable at commit, gives text as bytes and leaves transactions to us."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
    )
    connection.text_factory = bytes
    try:
        # FULL: a commit returns once the log is on the disk. On macOS only a "full" fsync is one.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours and not newer than we are; fill it, if it is new.

    Raises
    ------
    StoreTooNew
        If a newer version has written it.
    StoreError
        If it is another program's, or its file system does not serve.
    """
    # Of one moment: another process that fills it must not be seen half-way.
    connection.execute("BEGIN")
    try:
        _check_version(connection, path)
    finally:
        connection.execute("ROLLBACK")
    _switch_to_wal(connection, path)
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have filled it meanwhile.
    if _check_version(connection, path) == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    connection.execute("COMMIT")


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
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
    return int(version)


def _switch_to_wal(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not wait for others here, so we do: two processes may make the file at once.
    switched = wait_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"), 0.01)
    (mode,) = switched.fetchone()
    if mode != b"wal":
        raise StoreError(
            f"The store {path} is on a file system without shared memory. "
            "Choose a folder on a local disk with KASAL_DATA_DIR."
        )


def wait_while_busy(attempt: Callable[[], sqlite3.Cursor], pause: float) -> sqlite3.Cursor:
    """Repeat an attempt, with pauses in seconds, until no other process is in its way."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause)
