"""The store: every collection, and the ways to change them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tinydb import TinyDB

from kasal_jupyter.errors import DocumentDamaged, StoreError
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.allowances import Allowance, Hold
from kasal_jupyter.schemas.batches import StoredBatch, StoredRow
from kasal_jupyter.schemas.crews import Crew, CrewVersion, CrewVersionBody
from kasal_jupyter.schemas.datasets import Dataset, KeptRow
from kasal_jupyter.schemas.executions import Execution, StopRequest
from kasal_jupyter.schemas.mcp import McpServer
from kasal_jupyter.schemas.memory import KnowledgeSource, Memory, Passage
from kasal_jupyter.schemas.models import StoredProvider
from kasal_jupyter.schemas.server import Maintenance
from kasal_jupyter.schemas.spec import RunRequest
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import CustomTool
from kasal_jupyter.schemas.usage import LedgerEntry, Stored
from kasal_jupyter.schemas.users import ApiKey, Session, User
from kasal_jupyter.schemas.webhooks import HookState, SigningSecret
from kasal_jupyter.store.collections import (
    AGENTS,
    ALLOWANCES,
    API_KEYS,
    BATCH_ROWS,
    BATCHES,
    CATALOG,
    CREWS,
    DATASET_ROWS,
    DATASETS,
    DELIVERIES,
    EXECUTIONS,
    HOLDS,
    KNOWLEDGE,
    LAYOUTS,
    LEDGER,
    MCP_SERVERS,
    MEMORIES,
    PASSAGES,
    PROVIDERS,
    RUN_REQUESTS,
    SESSIONS,
    SETTINGS,
    SIGNING_SECRETS,
    STEPS,
    STOP_REQUESTS,
    TASKS,
    TOOLS,
    USERS,
    VERSION_BODIES,
    VERSIONS,
    Collection,
    D,
)
from kasal_jupyter.store.engine import Seen
from kasal_jupyter.store.file import Schema, store_errors
from kasal_jupyter.store.folder import FILE_NAME, make_private_folder
from kasal_jupyter.store.quota import Quota
from kasal_jupyter.store.repository import Repository
from kasal_jupyter.store.storage import SqliteStorage
from kasal_jupyter.store.table import Database
from kasal_jupyter.store.writer import Writer

T = TypeVar("T")


class Store:
    """Crews, agents, tasks and executions, kept in a folder that several servers may share.

    ::

        store = Store.open(folder)
        crew = store.crews.get("crew_4t9k2m0x7q1z")
        await store.change(lambda: store.crews.update(crew.id, {"name": "Writers"}))

    Reading takes microseconds and waits for nobody. To change is to hand over a function
    that calls the repositories; what it does is atomic, and on the disk when `change`
    returns.

    Attributes
    ----------
    db
        The TinyDB itself, with all of its API.
    quota
        How much users may have stored.
    crews, crew_versions, crew_version_bodies, agents, tasks, executions, datasets, dataset_rows, batches,
    batch_rows, run_requests, stop_requests, deliveries, ledger, allowances, holds, signing_secrets, users,
    sessions, api_keys, tools, mcp_servers, providers, memories, knowledge, passages, settings
        The collections.
    """

    def __init__(self, database: Database) -> None:
        storage = database.storage
        assert isinstance(storage, SqliteStorage)
        self._engine = storage.engine
        self._writer = Writer(self._engine)
        self.quota = Quota()
        self.db: TinyDB = database
        self.crews: Repository[Crew] = self.repository(CREWS)
        self.crew_versions: Repository[CrewVersion] = self.repository(VERSIONS)
        self.crew_version_bodies: Repository[CrewVersionBody] = self.repository(VERSION_BODIES)
        self.agents: Repository[Agent] = self.repository(AGENTS)
        self.tasks: Repository[Task] = self.repository(TASKS)
        self.executions: Repository[Execution] = self.repository(EXECUTIONS)
        self.datasets: Repository[Dataset] = self.repository(DATASETS)
        self.dataset_rows: Repository[KeptRow] = self.repository(DATASET_ROWS)
        self.batches: Repository[StoredBatch] = self.repository(BATCHES)
        self.batch_rows: Repository[StoredRow] = self.repository(BATCH_ROWS)
        self.run_requests: Repository[RunRequest] = self.repository(RUN_REQUESTS)
        self.stop_requests: Repository[StopRequest] = self.repository(STOP_REQUESTS)
        self.deliveries: Repository[HookState] = self.repository(DELIVERIES)
        self.ledger: Repository[LedgerEntry] = self.repository(LEDGER)
        self.allowances: Repository[Allowance] = self.repository(ALLOWANCES)
        self.holds: Repository[Hold] = self.repository(HOLDS)
        self.signing_secrets: Repository[SigningSecret] = self.repository(SIGNING_SECRETS)
        self.users: Repository[User] = self.repository(USERS)
        self.sessions: Repository[Session] = self.repository(SESSIONS)
        self.api_keys: Repository[ApiKey] = self.repository(API_KEYS)
        self.tools: Repository[CustomTool] = self.repository(TOOLS)
        self.mcp_servers: Repository[McpServer] = self.repository(MCP_SERVERS)
        self.providers: Repository[StoredProvider] = self.repository(PROVIDERS)
        self.memories: Repository[Memory] = self.repository(MEMORIES)
        self.knowledge: Repository[KnowledgeSource] = self.repository(KNOWLEDGE)
        self.passages: Repository[Passage] = self.repository(PASSAGES)
        self.settings: Repository[Maintenance] = self.repository(SETTINGS)

    @classmethod
    def open(cls, folder: Path, schemas: Sequence[Schema] = ()) -> Self:
        """Open the store in a data folder, both of which are created if they are not there.

        Parameters
        ----------
        folder
            The data folder.
        schemas
            Tables that rooms keep for themselves in the same file. Whoever changes what they are made of has
            to bring them.

        Raises
        ------
        StoreTooNew
            If a newer version of the product has written it.
        StoreError
            If it can't be read.
        """
        make_private_folder(folder)
        path = folder / FILE_NAME
        try:
            return cls(Database(path, layouts=LAYOUTS, steps=STEPS, schemas=schemas))
        except OSError as error:
            raise StoreError(f"The store {path} can't be opened: {error.strerror}.") from error

    def repository(self, collection: Collection[D]) -> Repository[D]:
        """Give the repository of a collection of the catalog."""
        return Repository(self._engine, collection)

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._engine.path

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that reads one moment, for rooms with tables of their own; no ``await`` inside.

        Within a change it is the change's own. Text comes as bytes.
        """
        with store_errors(self.path), self._engine.snapshot() as connection:
            yield connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of the change that this thread carries out."""
        return self._engine.job.connection

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a change of tables that a room keeps for itself, as :meth:`change` does."""
        return await self.change(lambda: job(self.connection))

    def remake(self) -> None:
        """Make the tables that rooms keep for themselves anew, of what there is; within a change."""
        self._engine.migration.remake(self.connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let several reads see one moment: a crew and its agents, say.

        There must be no ``await`` inside.
        """
        with self._engine.snapshot():
            yield

    def one_look(self, seen: Seen | None = None) -> AbstractContextManager[Seen]:
        """Let several reads make do with one look for what others have changed; no ``await`` inside.

        Parameters
        ----------
        seen
            What another look of this store has seen, where that is good enough.
        """
        return self._engine.one_look(seen)

    def versions(self, names: Sequence[str]) -> tuple[int, ...]:
        """Give a number for each collection that is another one whenever it has changed, by whomever."""
        return self._engine.versions(names)

    def stored_by(self, owner: str) -> Stored:
        """Say how much an owner has stored, and may have."""
        return self.quota.stored(self, owner)

    async def change(self, work: Callable[[], T], *, bounded: bool = False) -> T:
        """Carry out a change in the writer's thread; on return it is durable.

        If `work` raises, nothing of it happened, and the exception comes out here.

        Parameters
        ----------
        work
            Calls the repositories, and gives what the caller is to get. It should be
            quick, since other changes wait, other processes' too.
        bounded
            Whether :attr:`quota` holds: for what users ask for.

        Raises
        ------
        StoreError
            If it could not be written; then nothing of it happened.
        QuotaExceeded
            If somebody would have too much stored by it.
        """
        if bounded:
            work = partial(self.quota.within, self, lambda: self._engine.job, work)
        return await self._writer.change(work)

    def discard(self, damaged: DocumentDamaged) -> None:
        """Delete a document that can't be read, with what hangs on it alone; within a change."""
        by_name = {collection.name: collection for collection in CATALOG}
        self.repository(by_name[damaged.collection]).delete(damaged.document_id)

    def change_now(self, work: Callable[[], T]) -> T:
        """Carry out a change like :meth:`change`, in this thread: for programs without an event loop."""
        with self._engine.transaction():
            return work()

    def close(self) -> None:
        """Carry out the changes that are queued, and close the file."""
        self._writer.close()
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
