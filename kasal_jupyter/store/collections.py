"""What the store keeps: its collections, each with its documents' type and its indexes.

To keep something new, add its collection here and a repository to
:class:`~kasal_jupyter.store.store.Store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.allowances import Allowance, Hold
from kasal_jupyter.schemas.base import Document
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
from kasal_jupyter.schemas.usage import LedgerEntry
from kasal_jupyter.schemas.users import ApiKey, Session, User
from kasal_jupyter.schemas.webhooks import HookState, SigningSecret
from kasal_jupyter.store.layout import Layout
from kasal_jupyter.store.migrations import DocumentSteps

D = TypeVar("D", bound=Document)

Order = Literal["created", "newest", "position"]
"""``created``: the oldest first. ``newest``: the newest first. ``position``: by the document's own field."""


@dataclass(frozen=True, slots=True)
class Collection(Generic[D]):
    """Documents of one type.

    Attributes
    ----------
    name
        The name of its TinyDB table.
    document
        The type; it must have an ``id``.
    indexes
        The fields, besides ``id``, that documents are looked up by. Each must hold text, a truth value
        or None.
    order
        The order in which documents are given where none is asked for.
    facets, sorted, searched, grams, counted
        As :class:`~kasal_jupyter.store.layout.Layout` has them.
    steps
        What brings documents of older versions up to date. Whoever changes a document's type so that stored
        ones would not fit, or would mean something else, adds one. One that has been in a release is never
        changed.
    """

    name: str
    document: type[D]
    indexes: tuple[str, ...]
    order: Order = "created"
    facets: tuple[str, ...] = ()
    sorted: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    grams: bool = False
    counted: str | None = None
    steps: DocumentSteps = ()

    @property
    def layout(self) -> Layout:
        """How its table lies."""
        return Layout(
            indexed=("id", *self.indexes),
            facets=self.facets,
            sorted=self.sorted,
            searched=self.searched,
            grams=self.grams,
            counted=self.counted,
            version=len(self.steps) + 1,
        )


CREWS = Collection(
    "crews",
    Crew,
    ("owner",),
    facets=("owner", "name"),
    sorted=("name", "updated_at"),
    searched=("name", "description"),
    grams=True,
    counted="owner",
)
VERSIONS = Collection(
    "crew_versions",
    CrewVersion,
    ("crew_id",),
    facets=("crew_id",),
    searched=("author", "source", "origin"),
    counted="crew_id",
)
VERSION_BODIES = Collection("crew_version_bodies", CrewVersionBody, ("crew_id",), counted="crew_id")
AGENTS = Collection(
    "agents",
    Agent,
    ("crew_id", "owner"),
    order="position",
    facets=("owner", "crew_id"),
    sorted=("name", "position"),
    searched=("name", "role", "goal"),
    grams=True,
    counted="owner",
)
TASKS = Collection(
    "tasks",
    Task,
    ("crew_id", "agent_id", "owner"),
    order="position",
    facets=("owner", "crew_id", "agent_id"),
    sorted=("description", "position"),
    searched=("name", "description", "expected_output"),
    grams=True,
    counted="owner",
)
EXECUTIONS = Collection(
    "executions",
    Execution,
    (
        *("crew_id", "owner", "status", "server", "idempotency_key", "booked", "to_resume"),
        *("batch", "schedule", "thumb"),
    ),
    facets=("owner", "crew_id", "status", "created_at", "thumb"),
    sorted=("crew_name", "duration"),
    searched=("crew_name", "result"),
    grams=True,
)
DATASETS = Collection(
    "datasets",
    Dataset,
    ("owner", "name"),
    facets=("owner", "name"),
    sorted=("name", "updated_at"),
    searched=("name",),
    counted="owner",
)
DATASET_ROWS = Collection(
    "dataset_rows",
    KeptRow,
    ("dataset_id",),
    order="position",
    counted="owner",
)
BATCHES = Collection(
    "batches",
    StoredBatch,
    ("owner", "crew_id", "status", "server", "digest"),
    facets=("owner", "crew_id", "status", "name"),
    sorted=("name",),
    searched=("name", "crew_name"),
    counted="owner",
)
BATCH_ROWS = Collection(
    "batch_rows",
    StoredRow,
    ("batch_id", "job_id"),
    # How a batch stands is read from their index alone.
    facets=(
        "batch_id",
        "status",
        "index",
        "round",
        "ended",
        "spent_cost",
        "spent_tokens",
        "recorded",
        "owner",
    ),
    counted="owner",
)
RUN_REQUESTS = Collection("run_requests", RunRequest, ("digest", "root", "parent"))
STOP_REQUESTS = Collection("stop_requests", StopRequest, ("server",))
DELIVERIES = Collection("deliveries", HookState, ("done",))
LEDGER = Collection("ledger", LedgerEntry, ("day", "owner", "crew_id"))
ALLOWANCES = Collection("allowances", Allowance, ("owner",))
HOLDS = Collection("holds", Hold, ())
SIGNING_SECRETS = Collection("signing_secrets", SigningSecret, ())
USERS = Collection(
    "users",
    User,
    ("email",),
    facets=("tier", "role"),
    sorted=("email", "updated_at"),
    searched=("email",),
    grams=True,
)
SESSIONS = Collection("sessions", Session, ("user_id",))
API_KEYS = Collection(
    "api_keys", ApiKey, ("owner", "digest"), facets=("owner",), sorted=("name",), searched=("name",)
)
TOOLS = Collection(
    "tools",
    CustomTool,
    ("owner", "name"),
    facets=("owner", "category"),
    sorted=("name", "updated_at"),
    searched=("name", "description", "endpoint"),
    counted="owner",
)
MCP_SERVERS = Collection("mcp_servers", McpServer, ("owner", "name"), counted="owner")
PROVIDERS = Collection("providers", StoredProvider, ("owner", "name"))
MEMORIES = Collection(
    "memories",
    Memory,
    ("shelf", "crew_id"),
    facets=("crew_id", "shelf"),
    sorted=("category",),
    searched=("content", "category"),
    counted="crew_id",
)
KNOWLEDGE = Collection(
    "knowledge",
    KnowledgeSource,
    ("crew_id",),
    facets=("crew_id",),
    sorted=("name",),
    searched=("name",),
    counted="crew_id",
)
PASSAGES = Collection(
    "passages",
    Passage,
    ("crew_id", "source_id"),
    order="position",
    facets=("source_id",),
    sorted=("position",),
    searched=("content",),
    counted="crew_id",
)

SETTINGS = Collection("settings", Maintenance, ())

CATALOG: tuple[Collection[Any], ...] = (
    CREWS,
    VERSIONS,
    VERSION_BODIES,
    AGENTS,
    TASKS,
    EXECUTIONS,
    DATASETS,
    DATASET_ROWS,
    BATCHES,
    BATCH_ROWS,
    RUN_REQUESTS,
    STOP_REQUESTS,
    DELIVERIES,
    LEDGER,
    ALLOWANCES,
    HOLDS,
    SIGNING_SECRETS,
    USERS,
    SESSIONS,
    API_KEYS,
    TOOLS,
    MCP_SERVERS,
    PROVIDERS,
    MEMORIES,
    KNOWLEDGE,
    PASSAGES,
    SETTINGS,
)
"""Every collection."""

LAYOUTS: dict[str, Layout] = {collection.name: collection.layout for collection in CATALOG}
"""How each collection's table lies."""

STEPS: dict[str, DocumentSteps] = {collection.name: collection.steps for collection in CATALOG}
"""What brings each collection's documents up to date."""
