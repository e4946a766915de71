"""Connections and transactions: who reads, who writes, and what has changed."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.file import (
    BUSY_SECONDS,
    Schema,
    connect,
    create_file,
    prepare,
    store_error,
    store_errors,
    wait_while_busy,
)
from kasal_jupyter.store.layout import Layout
from kasal_jupyter.store.migrations import DocumentSteps, Migration

IDLE_READERS = 4
"""Readers' connections that are kept open while nobody reads."""

REMEMBERED = 256
"""Answers that are remembered until their collection changes."""

T = TypeVar("T")

_FORGET = "DELETE FROM stored_bytes WHERE field = ? AND value = ? AND bytes <= 0"

_TOUCH = "UPDATE collections SET version = version + 1, present = ? WHERE name = ?"

_COUNT = """
INSERT INTO stored_bytes VALUES (?, ?, ?)
ON CONFLICT (field, value) DO UPDATE SET bytes = bytes + excluded.bytes
"""


@dataclass(slots=True)
class Job:
    """A change while it is carried out.

    Attributes
    ----------
    connection
        The connection that writes.
    bytes, documents
        How many more are stored, by table and the value that stored bytes are counted by.
    written
        The same tables and values: whose documents were written.
    """

    connection: sqlite3.Connection
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    written: set[tuple[str, str]] = field(default_factory=set)
    touched: dict[str, bool] = field(default_factory=dict)


Seen = Mapping[str, int]
"""The versions of all tables, as one look has seen them."""


class _OfThread(threading.local):
    """What a thread has under way: the connection of its snapshot, and the look that all its reads go by."""

    reader: sqlite3.Connection | None = None
    seen: Seen | None = None


class _OneLook:
    """See :meth:`Engine.one_look`."""

    __slots__ = ("_engine", "_seen")

    def __init__(self, engine: Engine, seen: Seen | None) -> None:
        self._engine = engine
        self._seen = seen

    def __enter__(self) -> Seen:
        seen = self._seen or self._engine.look()
        self._engine.of_thread.seen = seen
        return seen

    def __exit__(self, *_: object) -> None:
        self._engine.of_thread.seen = None


class Engine:
    """The database under TinyDB's two seams.

    Any thread may read; what it reads is committed, and each statement is of one moment. One thread at a
    time writes; it alone sees what it has changed until that is on the disk. Who reads never waits for who
    writes.

    Parameters
    ----------
    path
        The SQLite file; it is created if it is not there.
    layouts
        How tables lie; those that are not named have their documents alone.
    steps
        What brings the documents of older versions up to date, by table.
    schemas
        Tables that rooms keep for themselves.
    """

    def __init__(
        self,
        path: Path,
        layouts: Mapping[str, Layout] | None = None,
        *,
        steps: Mapping[str, DocumentSteps] | None = None,
        schemas: Sequence[Schema] = (),
    ) -> None:
        self.path = path
        self.layouts = dict(layouts or {})
        self._writing = threading.RLock()
        self._writer_thread: int | None = None
        self._job: Job | None = None
        self._broken: BaseException | None = None
        self.of_thread = _OfThread()
        self._idle: deque[sqlite3.Connection] = deque()
        self._looking = threading.Lock()
        self._data_version: int | None = None
        self._versions: Seen = {}
        self._remembered: OrderedDict[Any, tuple[int, Any]] = OrderedDict()
        self._closed = False
        create_file(path)
        with store_errors(path):
            self.writing_connection = connect(path)
            try:
                self.migration = Migration(path, self.layouts, steps or {}, schemas)
                prepare(self.writing_connection, path, self.migration.is_current, self.migration.run)
                # SQLite would wait for its lock in steps of up to 100 ms.
                self.writing_connection.execute("PRAGMA busy_timeout = 0")
                self._looking_connection = connect(path, reads=True)
                # One that is there when no more can be had.
                self._idle.append(connect(path, reads=True))
            except BaseException:
                self.writing_connection.close()
                raise
        self._turnstile = Turnstile(path.parent, BUSY_SECONDS)

    def close(self) -> None:
        """Close the file. What was acknowledged is in it already."""
        with self._writing, self._looking:
            if self._closed:
                return
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            self._looking_connection.close()
            self.writing_connection.close()
            self._turnstile.close()

    # -- reading -------------------------------------------------------------------------------------

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Give what a statement finds: within a change what it has made, else what is committed."""
        held = self.of_thread.reader
        if self.in_transaction:
            held = self.writing_connection
        try:
            if held is not None:
                return held.execute(sql, parameters).fetchall()
            connection = self._take()
            try:
                return connection.execute(sql, parameters).fetchall()
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Let several reads of this thread see one moment. Nobody waits for it."""
        held = self.of_thread.reader
        if self.in_transaction:
            held = self.writing_connection
        if held is not None:
            yield held
            return
        with store_errors(self.path):
            connection = self._take()
        try:
            with store_errors(self.path):
                connection.execute("BEGIN")
                # The moment is that of the first look.
                connection.execute("SELECT 1 FROM schemas").fetchone()
            self.of_thread.reader = connection
            yield connection
        finally:
            self.of_thread.reader = None
            try:
                connection.rollback()
            finally:
                self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            if self._closed:
                raise StoreError(f"The store {self.path} is closed.") from None
            return connect(self.path, reads=True)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed or len(self._idle) >= IDLE_READERS:
            connection.close()
        else:
            self._idle.append(connection)

    # -- what has changed ----------------------------------------------------------------------------

    def one_look(self, seen: Seen | None = None) -> AbstractContextManager[Seen]:
        """Let several looks of this thread for what has changed be one; no ``await`` inside.

        A look is a system call or two.

        Parameters
        ----------
        seen
            What a look has seen that is good enough: what was changed since may not be noticed.
        """
        return _OneLook(self, seen)

    def version(self, name: str) -> int:
        """Give a number that grows whenever the table changes, by whichever process."""
        return self.versions((name,))[0]

    def versions(self, names: Sequence[str]) -> tuple[int, ...]:
        """Give the versions of several tables, for the price of one look."""
        if self.in_transaction:
            known = dict(self.rows("SELECT name, version FROM collections"))
            return tuple(known.get(name.encode(), 0) for name in names)
        seen = self.of_thread.seen or self.look()
        return tuple([seen.get(name, 0) for name in names])

    def remembered(self, name: str, key: Any, make: Callable[[], T]) -> T:
        """Give what is made of a table, remembered until the table changes.

        The one memory of what was read. What is not committed, or of another moment, is never remembered.
        """
        if self.in_transaction or self.of_thread.reader is not None:
            return make()
        # Taken before anything is read: what is remembered may be newer than it says, never older.
        version, key = self.version(name), (name, key)
        found = self._remembered.get(key)
        if found is not None and found[0] == version:
            value: T = found[1]
            return value
        value = make()
        self._remembered[key] = (version, value)
        while len(self._remembered) > REMEMBERED:
            try:
                self._remembered.popitem(last=False)
            except KeyError:
                break
        return value

    def look(self) -> Seen:
        """Give the versions of all tables as they are now."""
        # The version is taken before the rows, as above.
        try:
            with self._looking:
                connection = self._looking_connection
                (data_version,) = connection.execute("PRAGMA data_version").fetchone()
                if data_version != self._data_version:
                    rows = connection.execute("SELECT name, version FROM collections").fetchall()
                    self._versions = {name.decode(): version for name, version in rows}
                    self._data_version = data_version
                return self._versions
        except sqlite3.Error as error:
            raise store_error(self.path, error) from error

    # -- writing -------------------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction."""
        return self._writer_thread == threading.get_ident()

    @property
    def job(self) -> Job:
        """The change that this thread carries out."""
        if not self.in_transaction or self._job is None:
            raise RuntimeError("documents are changed by the work given to Store.change or Store.change_now")
        return self._job

    def touch(self, name: str, *, present: bool = True) -> None:
        """Note that the change at hand changes a table, which then is there, or no more."""
        job = self.job
        if job.touched.get(name) is not present:
            job.connection.execute(_TOUCH, (present, name))
            job.touched[name] = present

    @contextmanager
    def group(self) -> Iterator[None]:
        """Make what is done inside durable as one: on leaving, it is on the disk.

        An exception from inside undoes everything; so does a failing commit, as :class:`StoreError`.
        """
        if self.of_thread.reader is not None:
            raise RuntimeError("what a snapshot shows may be old: leave it before changing anything")
        with self._writing:
            try:
                self._begin()
                self._writer_thread = threading.get_ident()
                yield
                self._commit()
            except BaseException as error:
                self._give_up(error)
                raise
            finally:
                self._writer_thread = self._broken = None

    @contextmanager
    def work(self) -> Iterator[Job]:
        """Within a group, make what is done inside atomic: an exception undoes it and nothing else."""
        connection = self.writing_connection
        with store_errors(self.path):
            self._require_group()
            connection.execute("SAVEPOINT job")
            self._job = job = Job(connection)
            try:
                yield job
                self._count(job)
                connection.execute("RELEASE job")
            except BaseException:
                self._undo_job()
                raise
            finally:
                self._job = None

    @contextmanager
    def transaction(self) -> Iterator[Job]:
        """Make what is done inside atomic and durable; inside another transaction, make it part of that."""
        if self.in_transaction:
            yield self.job
            return
        with self.group(), self.work() as job:
            yield job

    def _count(self, job: Job) -> None:
        for (table, value), more in job.bytes.items():
            counted = self.layouts[table].counted
            if more:
                job.connection.execute(_COUNT, (counted, value, more))
            if more < 0:
                job.connection.execute(_FORGET, (counted, value))

    def _undo_job(self) -> None:
        # After some errors SQLite has undone the whole transaction; then, or where even this fails, the
        # group is lost: what others had done of it would be committed by halves.
        connection = self.writing_connection
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
                return
            self._broken = StoreError(f"The store {self.path} can't be used: a change has undone others.")
        except sqlite3.Error as error:
            self._broken = store_error(self.path, error)

    def _require_group(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _begin(self) -> None:
        connection = self.writing_connection
        with store_errors(self.path), self._turnstile:
            if connection.in_transaction:
                # One whose end failed as well, on a disk that answers with errors.
                connection.rollback()
            wait_while_busy(lambda: connection.execute("BEGIN IMMEDIATE"), POLL_SECONDS)

    def _commit(self) -> None:
        self._require_group()
        self.commit()

    def commit(self) -> None:
        """End the transaction: when this returns, it is on the disk."""
        with store_errors(self.path):
            self.writing_connection.execute("COMMIT")

    def _give_up(self, error: BaseException) -> None:
        """Undo the transaction that an error has ended; the error is what is told."""
        try:
            with store_errors(self.path):
                self.writing_connection.rollback()
        except StoreError as another:
            # The next transaction tries it again.
            error.add_note(f"It could not be undone either: {another.message}")


# Whose turn it is to write, among processes.

if sys.platform != "win32":
    import fcntl

POLL_SECONDS = 0.000_2
"""How long to wait between two looks; a commit takes about as long."""


class Turnstile:
    """Lets one process after the other ask for SQLite's write lock.

    SQLite has no queue: a process that writes without a pause takes its lock again
    before one that waits has looked, which then waited for two seconds. Whoever wants
    to write stands in here first, and leaves when the lock is theirs; the one who just
    had it finds the place taken, and so is the next but one.

    It is about turns only: where it does not work (on Windows, or if the one in front is
    suspended), nothing is less safe.

    Parameters
    ----------
    folder
        The folder of the file to write; processes stand in line at the folder itself.
    patience
        Seconds after which not to wait any more, and to ask for the lock all the same.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self._patience = patience
        if sys.platform != "win32":
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> None:
        if sys.platform != "win32":
            deadline = time.monotonic() + self._patience
            while not self._try() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def _try(self) -> bool:
        if sys.platform != "win32":
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                # No more locks, say.
                return True
        return True

    def close(self) -> None:
        """Leave for good."""
        if sys.platform != "win32":
            os.close(self._folder)
