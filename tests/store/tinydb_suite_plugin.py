"""A pytest plugin that puts our storage and our table in place of TinyDB's, for TinyDB's own tests.

It is loaded before those tests are imported, so wherever they say ``JSONStorage``,
``MemoryStorage`` or ``TinyDB(path)`` they get a durable SQLite file.
"""

import os
import tempfile
from pathlib import Path

import pytest
import tinydb
import tinydb.database
import tinydb.storages

from kasal_jupyter.store.storage import SqliteStorage
from kasal_jupyter.store.table import SqliteTable

_opened = []


class JSONStorage(SqliteStorage):
    """Takes what TinyDB's storage takes, and passes over what is about JSON files."""

    def __init__(self, path, create_dirs=False, **about_json):  # noqa: ARG002
        super().__init__(path, create_dirs)
        _opened.append(self)


class MemoryStorage(SqliteStorage):
    """A file of its own each."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        super().__init__(Path(self._folder.name, "memory.db"))
        _opened.append(self)

    def close(self):
        super().close()
        self._folder.cleanup()


def pytest_configure():
    for module in (tinydb, tinydb.database, tinydb.storages):
        module.JSONStorage = JSONStorage
    tinydb.storages.MemoryStorage = MemoryStorage
    tinydb.TinyDB.default_storage_class = JSONStorage
    if os.environ["TINYDB_SUITE_TABLE"] == "SqliteTable":
        tinydb.TinyDB.table_class = SqliteTable


def pytest_collection_modifyitems(config, items):
    """Leave out what ``TINYDB_SUITE_NOT_OURS`` names; ``--deselect`` would take prefixes."""
    names = os.environ["TINYDB_SUITE_NOT_OURS"].split()
    left_out = [item for item in items if f"{item.path.name}::{item.originalname}" in names]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def close_storages():
    """Close what a test has opened: TinyDB's tests leave that to the garbage collector."""
    yield
    for storage in _opened:
        storage.close()
    _opened.clear()
