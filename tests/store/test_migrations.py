"""Data folders of earlier versions open, once brought up to date, and those of newer ones are refused."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from kasal_jupyter.errors import StoreError, StoreTooNew
from kasal_jupyter.executions.files import take_in_files
from kasal_jupyter.executions.recovery import forget_requests
from kasal_jupyter.store.collections import CATALOG, TOOLS
from kasal_jupyter.store.file import FORMAT, Schema
from kasal_jupyter.store.layout import Layout
from kasal_jupyter.store.quota import used_bytes
from kasal_jupyter.store.repository import Selection
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.table import Database
from tests.store.lookups import ids

LANDED = Path(__file__).parent / "landed"
"""A folder of format 1: a document of each collection, other tables, deleted and damaged documents."""

NEW = {
    *("stop_requests", "deliveries", "run_requests", "batches", "batch_rows"),
    *("datasets", "dataset_rows", "allowances", "holds", "schedules", "slots"),
}
"""Collections that format 1 had not."""


@pytest.fixture
def landed(tmp_path):
    return shutil.copytree(LANDED, tmp_path / "data")


def format_of(folder):
    connection = sqlite3.connect(folder / "kasal.db")
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def test_an_old_folder_opens_with_everything_in_it(landed, caplog):
    assert format_of(landed) == 1
    # It is brought up to date once; whoever opens it then finds it so.
    for _ in range(2):
        with Store.open(landed) as store:
            for collection in CATALOG:
                ids = [each.id for each in store.repository(collection).find(order="created")]
                lost = collection.name in NEW or collection is TOOLS
                assert (f"{collection.name}_0" in ids) is not lost
                assert f"{collection.name}_1" not in ids
            whole = store.crews.find(owner="ada")[0]
            assert [agent.name for agent in store.agents.find(crew_id=whole.id)] == ["Editor"]
            assert store.crew_versions.count(crew_id=whole.id) == 1
            assert store.memories.count(crew_id=whole.id) == 2
            found = store.crews.select(Selection(sort="name", search="äRGER", searched=("name",)))
            assert [crew.id for crew in found.documents] == [whole.id]
            assert used_bytes(store, "ada") > len(whole.model_dump_json())
    assert format_of(landed) == FORMAT
    assert "'tools' is damaged at document 1" in caplog.text


def test_tables_of_other_names_are_kept_and_no_id_is_given_twice(landed):
    with Store.open(landed) as store:
        assert store.db.tables() >= {"Notes", "notes", "crews"}
        assert store.db.table("Notes").all() == [{"n": 2**70}, {"text": "ä"}]
        assert store.db.table("notes").all() == [{"lower": "case"}]
        # The third was deleted.
        assert store.change_now(lambda: store.db.table("Notes").insert({})) == 4


def test_a_damaged_document_of_an_old_folder_is_kept_and_in_nobodys_way(landed):
    with Store.open(landed) as store:
        assert store.tools.find() == []
    connection = sqlite3.connect(landed / "kasal.db")
    assert connection.execute("SELECT body FROM doc_tools").fetchone() == ('{"id": "tools_0"',)
    connection.close()


def test_a_migration_that_fails_leaves_the_folder_as_it_was(landed):
    before = (landed / "kasal.db").read_bytes()

    def step(connection):
        assert connection.execute("SELECT count(*) FROM doc_crews").fetchone()[0] == 2
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(StoreError, match="disk I/O error"):
        Store.open(landed, [Schema("words", (step,))])
    assert (landed / "kasal.db").read_bytes() == before
    with Store.open(landed) as store:
        assert store.crews.count() == 2


def test_files_of_earlier_versions_are_read_once(landed, new_execution, caplog):
    runs = landed / "runs"
    with Store.open(landed) as store:
        for job_id in ("job_pending", "job_done", "job_damaged"):
            execution = new_execution(id=job_id)
            store.change_now(lambda each=execution: store.executions.insert(each))
        take_in_files(store, runs)
        assert list(runs.iterdir()) == []
        assert store.deliveries.get("job_pending").deliveries[0].status == 204
        assert store.deliveries.get("job_done").done
        # What is known to be damaged is made anew by whoever delivers it.
        assert store.deliveries.ids(done=False) == ["job_pending", "job_damaged"]
        assert store.deliveries.readable("job_damaged") is None
        assert store.stop_requests.ids() == ["executions_0"]
        assert "job_damaged.hook can't be read" in caplog.text
        take_in_files(store, runs)
        store.change_now(lambda: store.executions.update("executions_0", {"status": "stopped"}))
        store.change_now(lambda: forget_requests(store))
        assert store.stop_requests.ids() == []


# -- documents, and tables of rooms --------------------------------------------------------------------


def raised(document):
    return {**document, "n": document["n"] + 1}


def named(document):
    return {**document, "name": f"Number {document['n']}"}


def opened(folder, *steps, layout=("name",)):
    layouts = {"notes": Layout(indexed=layout, version=len(steps) + 1)}
    return Database(folder / "notes.db", layouts=layouts, steps={"notes": steps})


def versions(folder):
    connection = sqlite3.connect(folder / "notes.db")
    try:
        return [
            each for (each,) in connection.execute("SELECT schema_version FROM doc_notes ORDER BY doc_id")
        ]
    finally:
        connection.close()


def test_documents_take_the_steps_that_they_have_not_had(tmp_path, caplog):
    with opened(tmp_path) as db:
        db.table("notes").insert_multiple([{"n": 1}, {"no": "n"}])
    with opened(tmp_path, raised) as db:
        db.table("notes").insert({"n": 10})
        assert [note.get("n") for note in db.table("notes")] == [2, None, 10]
    # One that can't take a step stays as it is, and can take it when it is put right.
    assert versions(tmp_path) == [2, 1, 2]
    assert "'notes' is damaged at document 2" in caplog.text
    with opened(tmp_path, raised, named) as db:
        notes = db.table("notes")
        assert notes.lookup({"name": "Number 2"}) == [{"n": 2, "name": "Number 2"}]
        assert [note.get("name") for note in notes] == ["Number 2", None, "Number 10"]


def test_documents_of_a_newer_version_are_refused(tmp_path):
    opened(tmp_path, raised, named).close()
    with pytest.raises(StoreTooNew, match=r"documents in 'notes' is 3, this version reads 2\).*pip install"):
        opened(tmp_path, raised)


def test_another_index_finds_what_is_stored(tmp_path):
    with opened(tmp_path) as db:
        db.table("notes").insert_multiple({"n": str(n), "name": "a"} for n in range(3))
    with opened(tmp_path, layout=("n", "name")) as db:
        assert ids(db.table("notes"), {"n": "1", "name": "a"}) == [2]
        db.table("notes").update({"n": "7"}, doc_ids=[2])
        assert ids(db.table("notes"), {"n": "7"}) == [2]


def test_rooms_have_tables_of_their_own_in_steps(tmp_path):
    def first(connection):
        connection.execute("CREATE TABLE words_all (word TEXT)")

    def second(connection):
        connection.execute("INSERT INTO words_all VALUES ('tea')")

    for steps, words in [((first,), 0), ((first, second), 1), ((first, second), 1)]:
        with Database(tmp_path / "notes.db", schemas=[Schema("words", steps)]) as db:
            assert db.storage.engine.rows("SELECT count(*) FROM words_all") == [(words,)]
    with pytest.raises(StoreTooNew, match=r"tables of 'words' is 2, this version reads 1"):
        Database(tmp_path / "notes.db", schemas=[Schema("words", (first,))])


def test_a_change_of_a_rooms_tables_is_one_with_that_of_documents(store, new_crew):
    def note(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS words_all (word TEXT)")
        connection.execute("INSERT INTO words_all VALUES ('tea')")

    def fail():
        store.crews.insert(new_crew())
        note(store.connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change_now(fail)
    with store.read() as connection:
        assert connection.execute("SELECT count(*) FROM doc_crews").fetchone() == (0,)

    def work():
        store.crews.insert(new_crew())
        note(store.connection)
        with store.read() as connection:
            assert connection.execute("SELECT word FROM words_all").fetchall() == [(b"tea",)]

    store.change_now(work)
    with store.read() as connection:
        assert connection.execute("SELECT word FROM words_all").fetchall() == [(b"tea",)]
    with pytest.raises(RuntimeError, match=r"Store\.change"):
        _ = store.connection
    uri = f"{store.path.as_uri()}?mode=ro"
    reader = sqlite3.connect(uri, uri=True)
    assert reader.execute("SELECT owner FROM doc_crews").fetchall() == [("ada",)]
    reader.close()
