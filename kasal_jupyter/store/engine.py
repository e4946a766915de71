"""Transactions: the file and the tables in memory, kept equal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.layer import Layer, Tables
from kasal_jupyter.store.memory import Indexes, Memory
from kasal_jupyter.store.session import Session, WriteSession

PRUNE_EVERY = 1_000
"""Deletions between two prunings of the tombstones."""

BACKLOG = 500
"""Rows another process may have changed for a reader to take them in itself, in a few milliseconds."""

REBUILD = 5_000
"""Rows another process may have changed to be merged; readers wait for that. More, and all is read again."""


class Engine:
    """The database under TinyDB's two seams.

    Any thread may read; what it reads is committed, and of one moment. One thread at a
    time writes; it alone sees what it has changed until that is on the disk.

    Parameters
    ----------
    path
        The SQLite file; it is created if it is not there.
    indexes
        The indexed fields of each table that has any.

    Attributes
    ----------
    on_backlog
        Called when another process has changed so much that a reader should not wait
        for it: somebody else is to open a transaction soon, which takes it in. Without
        it the reader does so itself.
    """

    def __init__(self, path: Path, indexes: Indexes | None = None) -> None:
        self.on_backlog: Callable[[], None] | None = None
        self._memory = Memory(indexes or {})
        self._writing = threading.RLock()
        self._refreshing = threading.Lock()
        self._writer_thread: int | None = None
        self._snapshot_thread: int | None = None
        self._looked_thread: int | None = None
        self._layer: Layer | None = None
        self._backlog = False
        self._closed = False
        self.path = path
        with ExitStack() as opened:
            self._write_session = opened.enter_context(closing(WriteSession(path)))
            self._read_session = opened.enter_context(closing(Session(path)))
            self._take_in(self._read_session)
            opened.pop_all()
        if self._write_session.deletions > PRUNE_EVERY:
            with self.group():
                pass
        from kasal_jupyter.memory import tables
        with self.group():
            if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name='memory_crews'").fetchone():
                tables.create_tables(self.connection)
                found = {b for (b,) in self.connection.execute("""SELECT DISTINCT json_extract(body, '$.crew_id') FROM documents WHERE "table" IN ('memories', 'passages') AND body IS NOT NULL""")}
                for crew_id in found:
                    self.connection.execute("INSERT INTO memory_crews (crew_id, state) VALUES (?, 0)", (crew_id.decode(),))

    @property
    def connection(self):
        if not self.in_transaction:
            raise RuntimeError("no transaction")
        return self._write_session._connection

    def close(self) -> None:
        """Close the file. What was acknowledged is in it already."""
        with self._writing, self._refreshing:
            if not self._closed:
                self._closed = True
                self._read_session.close()
                self._write_session.close()

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in a transaction."""
        return self._writer_thread == threading.get_ident()

    @property
    def layer(self) -> Layer:
        """What the transaction that this thread is in has changed so far."""
        assert self._layer is not None
        return self._layer

    @contextmanager
    def reading(self) -> Iterator[Tables]:
        """Give the tables as this thread sees them. Copy what is needed out of them and leave."""
        if self.in_transaction:
            assert self._layer is not None
            with self._memory.lock:
                yield self._layer
        else:
            self._refresh()
            with self._memory.lock:
                yield self._memory

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several reads of this thread see one moment. Commits wait, so be quick."""
        if self.in_transaction or self._snapshot_thread == threading.get_ident():
            yield
            return
        self._refresh()
        with self._memory.lock:
            self._snapshot_thread = threading.get_ident()
            try:
                yield
            finally:
                self._snapshot_thread = None

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Let several reads of this thread make do with one look for what other processes have committed.

        A look is a system call or two. Unlike in a snapshot nothing waits; there must be no ``await`` inside
        all the same, or others' reads would go without a look.
        """
        self._refresh()
        self._looked_thread = threading.get_ident()
        try:
            yield
        finally:
            self._looked_thread = None

    def version(self, name: str) -> int:
        """Give a number that changes when the table does, as committed."""
        self._refresh()
        with self._memory.lock:
            return self._memory.version(name)

    def versions(self, names: Iterable[str]) -> tuple[int, ...]:
        """Give the versions of several tables, all of one moment, for the price of one look at the file."""
        self._refresh()
        with self._memory.lock:
            return tuple(map(self._memory.version, names))

    @contextmanager
    def group(self) -> Iterator[None]:
        """Make what is done inside durable as one: on leaving, it is on the disk.

        It begins with what other processes have committed. An exception from inside
        undoes everything; so does a failing commit, as :class:`StoreError`.
        """
        if self._snapshot_thread == threading.get_ident():
            raise RuntimeError("a snapshot keeps commits waiting: leave it before changing anything")
        with self._writing:
            self._begin()
            try:
                yield
                self._commit()
            except BaseException as error:
                # It may be that the commit was done and an interrupt came before the merge:
                # let the next transaction compare the tables with the file.
                self._write_session.seen = None
                self._give_up(error)
                raise
            finally:
                self._layer = None
                self._writer_thread = None

    @contextmanager
    def work(self) -> Iterator[Layer]:
        """Within a group, make what is done inside atomic: an exception undoes it and nothing else."""
        group = self._layer
        assert group is not None
        self._layer = Layer(group)
        self.connection.execute("SAVEPOINT work")
        try:
            yield self._layer
            for name, overlay in self._layer:
                overlay.apply(group.writer(name))
        except BaseException:
            self.connection.execute("ROLLBACK TO work")
            raise
        finally:
            self.connection.execute("RELEASE work")
            self._layer = group

    @contextmanager
    def transaction(self) -> Iterator[Layer]:
        """Make what is done inside atomic and durable; inside another transaction, make it part of that."""
        if self.in_transaction:
            assert self._layer is not None
            yield self._layer
            return
        with self.group(), self.work() as layer:
            yield layer

    def _begin(self) -> None:
        try:
            self._write_session.begin()
            self._take_in(self._write_session)
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._backlog = False
        self._layer = Layer(self._memory)
        self._writer_thread = threading.get_ident()

    def _give_up(self, error: BaseException) -> None:
        """Undo the transaction that an error has ended; the error is what is told."""
        try:
            self._write_session.rollback()
        except StoreError as another:
            # The next transaction tries it again.
            error.add_note(f"It could not be undone either: {another.message}")

    def _commit(self) -> None:
        layer, session = self._layer, self._write_session
        assert layer is not None
        revision = session.write(layer, self._memory.revision)
        if session.deletions > PRUNE_EVERY:
            session.prune(revision)
        session.commit()
        self._memory.merge(layer, revision)

    def _refresh(self) -> None:
        """Take in what other processes have committed."""
        thread = threading.get_ident()
        if self._backlog or thread == self._snapshot_thread or thread == self._looked_thread:  # noqa: PLR1714
            return
        with self._refreshing:
            if self.on_backlog is None:
                self._take_in(self._read_session)
                return
            session = self._read_session
            if session.data_version() == session.seen:
                return
            if session.count_changes(self._memory.revision) <= BACKLOG:
                self._take_in(session)
                return
        self._backlog = True
        self.on_backlog()

    def _take_in(self, session: Session) -> None:
        version = session.data_version()
        if version == session.seen:
            return
        since = self._memory.revision
        if session.count_changes(since) > REBUILD:
            since = 0
        self._memory.take_in(session.changes(since))
        session.seen = version
