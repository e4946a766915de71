"""What the store keeps: its collections, each with its documents' type and its indexes.

To keep something new, add its collection here and a repository to
:class:`~kasal_jupyter.store.store.Store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.auth import ApiKey, Session
from kasal_jupyter.schemas.base import Document
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.schemas.knowledge import KnowledgeSource, Passage
from kasal_jupyter.schemas.maintenance import Maintenance
from kasal_jupyter.schemas.mcp import McpServer
from kasal_jupyter.schemas.memory import Memory, MemoryRevision
from kasal_jupyter.schemas.providers import StoredProvider
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.schemas.tools import CustomTool
from kasal_jupyter.schemas.usage import LedgerEntry
from kasal_jupyter.schemas.users import User
from kasal_jupyter.schemas.versions import CrewVersion, CrewVersionBody
from kasal_jupyter.schemas.webhooks import SigningSecret
from kasal_jupyter.store.memory import Indexes

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
        The fields, besides ``id``, that documents are looked up by. Each must hold text or None.
    order
        The order in which documents are given where none is asked for.
    """

    name: str
    document: type[D]
    indexes: tuple[str, ...]
    order: Order = "created"


CREWS = Collection("crews", Crew, ("owner",))
VERSIONS = Collection("crew_versions", CrewVersion, ("crew_id",))
VERSION_BODIES = Collection("crew_version_bodies", CrewVersionBody, ("crew_id",))
AGENTS = Collection("agents", Agent, ("crew_id", "owner"), order="position")
TASKS = Collection("tasks", Task, ("crew_id", "agent_id", "owner"), order="position")
EXECUTIONS = Collection(
    "executions", Execution, ("crew_id", "owner", "status", "server", "idempotency_key", "booked")
)
LEDGER = Collection("ledger", LedgerEntry, ("day", "owner", "crew_id"))
SIGNING_SECRETS = Collection("signing_secrets", SigningSecret, ())
USERS = Collection("users", User, ("email",))
SESSIONS = Collection("sessions", Session, ("user_id",))
API_KEYS = Collection("api_keys", ApiKey, ("owner", "digest"))
TOOLS = Collection("tools", CustomTool, ("owner", "name"))
MCP_SERVERS = Collection("mcp_servers", McpServer, ("owner", "name"))
PROVIDERS = Collection("providers", StoredProvider, ("owner", "name"))
MEMORIES = Collection("memories", Memory, ("shelf", "crew_id"))
MEMORY_REVISIONS = Collection("memory_revisions", MemoryRevision, ())
KNOWLEDGE = Collection("knowledge", KnowledgeSource, ("crew_id",))
PASSAGES = Collection("passages", Passage, ("crew_id", "source_id"), order="position")

SETTINGS = Collection("settings", Maintenance, ())

CATALOG: tuple[Collection[Any], ...] = (
    CREWS,
    VERSIONS,
    VERSION_BODIES,
    AGENTS,
    TASKS,
    EXECUTIONS,
    LEDGER,
    SIGNING_SECRETS,
    USERS,
    SESSIONS,
    API_KEYS,
    TOOLS,
    MCP_SERVERS,
    PROVIDERS,
    MEMORIES,
    MEMORY_REVISIONS,
    KNOWLEDGE,
    PASSAGES,
    SETTINGS,
)
"""Every collection."""

INDEXES: Indexes = {collection.name: ("id", *collection.indexes) for collection in CATALOG}
"""The indexed fields of each collection's table."""
