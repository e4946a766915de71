"""The SQLite file below the store: its format, how it is made, opened and brought up to date.

A collection is a table, which :mod:`kasal_jupyter.store.layout` draws. Beside them::

    collections   name  version  present  layout  documents
                  version grows with every change; documents is the version that they are written in
    schemas       name  version           the tables that rooms keep for themselves
    stored_bytes  field  value  bytes     how much an owner, or a crew, has stored
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kasal_jupyter.errors import StoreError, StoreTooNew

FORMAT = 2
"""The version of the file's format that this code writes, kept in SQLite's ``user_version``.

A release that changes a layout raises it as well: one before it would make the tables fit its own again.
"""

APPLICATION_ID = 0x4B61736C
"""What marks the file as ours, kept in SQLite's ``application_id``: ``Kasl``."""

BUSY_SECONDS = 30.0
"""How long to wait for another process's transaction; they take milliseconds."""

OLDEST_SQLITE = (3, 34, 0)
"""The first with trigrams; some systems' Pythons have this one."""

SCHEMA = (
    """
    CREATE TABLE collections (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL DEFAULT 0,
        present INTEGER NOT NULL DEFAULT 0,
        layout TEXT NOT NULL,
        documents INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE TABLE schemas (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE stored_bytes (
        field TEXT NOT NULL, value TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (field, value)
    ) WITHOUT ROWID
    """,
)
"""What every file has, whatever it keeps."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables that a room keeps for itself, in the same file.

    Attributes
    ----------
    name
        The room's; its tables' names begin so.
    steps
        Step *n* takes the tables from version *n* to the next, in a transaction. The first makes them of the
        documents that are there, anew where they are there already. One that has been in a release is never
        changed: another is added.
    """

    name: str
    steps: tuple[Callable[[sqlite3.Connection], None], ...]


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with what to do about them."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(path, error) from error


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """Give what an error of SQLite is for those who use the store."""
    return StoreError(f"The store {path} can't be used: {error}. {_advice(error)}")


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


def connect(path: Path, *, reads: bool = False) -> sqlite3.Connection:
    """Open a connection that is durable at commit, gives text as bytes and leaves transactions to us.

    Parameters
    ----------
    path
        The file.
    reads
        Whether it does nothing else.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.text_factory = bytes
    try:
        # FULL: a commit returns once the log is on the disk. On macOS only a "full" fsync is one.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")
        # No file besides the database's: there may be no descriptor left, and no room.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA query_only = {reads:d}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(
    connection: sqlite3.Connection,
    path: Path,
    is_current: Callable[[sqlite3.Connection], bool],
    bring_up_to_date: Callable[[sqlite3.Connection, int], None],
) -> None:
    """Check that the file is ours and not newer than we are; make it what we know, if it is not.

    Parameters
    ----------
    connection
        The connection that writes.
    path
        The file.
    is_current
        Says whether a file of our format has all that it is to have.
    bring_up_to_date
        Makes it so, within a transaction; it is told the file's format, 0 for an empty one.

    Raises
    ------
    StoreTooNew
        If a newer version has written it.
    StoreError
        If it is another program's, or its file system does not serve.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; Python needs one from {wanted} on.")
    # Of one moment: another process that fills it must not be seen half-way.
    connection.execute("BEGIN")
    try:
        done = _check_format(connection, path) == FORMAT and is_current(connection)
    finally:
        connection.execute("ROLLBACK")
    _switch_to_wal(connection, path)
    if done:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it meanwhile.
        found = _check_format(connection, path)
        if found == 0:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if found != FORMAT or not is_current(connection):
            bring_up_to_date(connection, found)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _check_format(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or objects):
        raise StoreError(f"{path} is an SQLite file, but not a store of Kasal. Choose another data folder.")
    if version > FORMAT:
        raise too_new(path, "its format", version, FORMAT)
    return int(version)


def too_new(path: Path, what: str, version: int, known: int) -> StoreTooNew:
    """Say that a newer version of the product has written a file."""
    return StoreTooNew(
        f"The store {path} was written by a newer version ({what} is {version}, this version reads "
        f"{known}). Upgrade with `pip install --upgrade kasal-jupyter`, or choose another data folder "
        "with KASAL_DATA_DIR."
    )


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
