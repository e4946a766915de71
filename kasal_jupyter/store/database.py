"""TinyDB with our storage and our table."""

from __future__ import annotations

from tinydb import TinyDB

from kasal_jupyter.store.file import Schema
from kasal_jupyter.store.storage import SqliteStorage
from kasal_jupyter.store.table import SqliteTable

__all__ = ["Database", "Schema"]


class Database(TinyDB):
    """A TinyDB that is durable, fast at any size, and safe between processes.

    ``Database("notes.db").insert({"text": "…"})`` returns once the document is on the disk.
    """

    table_class = SqliteTable
    default_storage_class = SqliteStorage  # type: ignore[assignment]  # declared as a JSONStorage
