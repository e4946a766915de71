import pytest

from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.table import Database

TIMES = {"created_at": "2024-01-15T10:30:00Z", "updated_at": "2024-01-15T10:30:00Z"}


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "data", SCHEMAS) as opened:
        yield opened


@pytest.fixture
def other(store, tmp_path):
    """The same folder, opened once more: what another server does."""
    with Store.open(tmp_path / "data", SCHEMAS) as opened:
        yield opened


@pytest.fixture
def db(tmp_path):
    with Database(tmp_path / "notes.db", layouts={"notes": ("owner", "topic")}) as opened:
        yield opened


@pytest.fixture
def notes(db):
    return db.table("notes")


@pytest.fixture
def new_crew():
    def make(**fields):
        return Crew(**{"id": new_id("crew"), "owner": "ada", "name": "Writers", **TIMES, **fields})

    return make


@pytest.fixture
def new_agent():
    def make(crew_id, position=0, **fields):
        given = {"id": new_id("agent"), "owner": "ada", "name": "Editor", "role": "Editor", "goal": "Edit"}
        return Agent(**{**given, "crew_id": crew_id, "position": position, **TIMES, **fields})

    return make


@pytest.fixture
def new_execution():
    def make(**fields):
        given = {
            "id": new_id("job"),
            "crew_id": "crew_1",
            "crew_name": "Writers",
            "owner": "ada",
            "server": "s1",
        }
        rest = {"status": "queued", "progress": 0, "inputs": {}, "created_at": "2024-01-15T10:30:00Z"}
        return Execution(**{**given, **rest, **fields})

    return make


@pytest.fixture
def rows_written():
    """Count the documents that a TinyDB has written to its file."""
    counted = {}

    def count(database):
        connection = database.storage.engine.writing_connection
        if connection not in counted:
            counted[connection] = 0

            def changed(sql):
                # Expanded: with its parameters in it.
                counted[connection] += sql.startswith(('INSERT INTO "doc_', 'UPDATE "doc_'))
                if sql.startswith('DELETE FROM "doc_'):
                    counted[connection] += sql.count(",") + 1

            connection.set_trace_callback(changed)
        return counted[connection]

    return count
