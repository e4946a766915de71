"""Files with what crews remember, for tests."""

import sqlite3
from contextlib import closing

import pytest

from kasal_jupyter.memory import tables
from kasal_jupyter.memory.recall import Recall, reading
from kasal_jupyter.memory.tables import Record
from kasal_jupyter.schemas.spec import RunEmbedder
from tests.store.conftest import new_crew, other, store  # noqa: F401

TIME = "2024-01-15T10:00:00Z"


def records(*texts, kind="long_term", category=None):
    """Make records of texts; their ids are their places."""
    return [Record(str(place), kind, text, category, TIME) for place, text in enumerate(texts)]


class Known:
    """A file with the tables, and a crew that is changed and searched where no other is named."""

    def __init__(self, file):
        self.file = file
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        with self:
            tables.create_tables(self.connection)

    def __enter__(self):
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind, error, trace):
        self.connection.execute("COMMIT" if kind is None else "ROLLBACK")

    def add(self, some, crew="crew_a", **how):
        with self:
            tables.add_texts(self.connection, crew, some, **how)

    def remove(self, *ids):
        with self:
            tables.remove_texts(self.connection, ids)

    def search(self, text, context="", crew="crew_a", embedder=None, **how):
        return Recall(reading(self.file), crew, embedder or RunEmbedder()).search(text, context, **how)

    def contents(self, text, **how):
        return [hit.record.content for hit in self.search(text, **how).hits]


@pytest.fixture
def known(tmp_path):
    """A file in which nothing is known yet."""
    made = Known(tmp_path / "known.db")
    with closing(made.connection):
        yield made


@pytest.fixture
def found(known):
    """Has a crew know records, and searches them."""

    def search(some, text, context="", **how):
        known.add(some)
        return known.search(text, context, **how)

    return search
