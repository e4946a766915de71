import json
import stat
import sys

import pytest
from tinydb import JSONStorage, TinyDB, where

from kasal_jupyter.errors import Conflict, InvalidRequest, StoreError
from kasal_jupyter.store.dump import export_json, import_json
from kasal_jupyter.store.file import Schema
from kasal_jupyter.store.store import Store


@pytest.fixture
def filled(tmp_path, new_crew, new_agent, new_execution):
    """A data folder with a crew, an agent, an execution and a table of the user's own."""
    folder = tmp_path / "filled"
    with Store.open(folder) as store:

        def work():
            store.crews.insert(new_crew(id="crew_1", name='Ä "quoted" name'))
            store.agents.insert(new_agent("crew_1"))
            store.executions.insert(new_execution(inputs={"big": 2**70, "odd": "\ud800"}))
            store.crews.insert(new_crew(id="crew_2"))
            store.crews.delete("crew_1")
            store.crews.insert(new_crew(id="crew_3"))

        store.change_now(work)
        store.db.table("my notes").insert({"text": "mine"})
    return folder


def contents(folder):
    with Store.open(folder) as store:
        return {
            name: {document.doc_id: document for document in store.db.table(name)}
            for name in store.db.tables()
        }


def test_stock_tinydb_opens_an_export(filled, tmp_path):
    counts = export_json(filled, tmp_path / "export.json")
    assert counts == {"agents": 1, "crews": 2, "executions": 1, "my notes": 1}
    with TinyDB(tmp_path / "export.json", storage=JSONStorage) as db:
        assert db.tables() == {"agents", "crews", "executions", "my notes"}
        assert db.table("crews").get(where("id") == "crew_3").doc_id == 3
        assert db.table("executions").all()[0]["inputs"] == {"big": 2**70, "odd": "\ufffd"}
        assert {name: {d.doc_id: d for d in db.table(name)} for name in db.tables()} == contents(filled)


def test_what_was_exported_comes_back(filled, tmp_path):
    export_json(filled, tmp_path / "export.json")
    assert import_json(tmp_path / "new", tmp_path / "export.json")["crews"] == 2
    assert contents(tmp_path / "new") == contents(filled)
    with Store.open(tmp_path / "new") as store:
        assert [crew.id for crew in store.crews.find(owner="ada")] == ["crew_2", "crew_3"]


def test_what_stock_tinydb_wrote_comes_in(tmp_path, new_crew):
    with TinyDB(tmp_path / "mine.json") as db:
        db.table("crews").insert(new_crew(id="crew_1").dump())
        db.table("tasks", persist_empty=True)
    assert import_json(tmp_path / "new", tmp_path / "mine.json") == {"crews": 1, "tasks": 0}


def test_an_export_is_private_and_leaves_nothing_beside_it(filled, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text("an older one")
    export_json(filled, tmp_path / "out" / "export.json")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["export.json"]
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "out" / "export.json").stat().st_mode) == 0o600


def test_a_failing_export_leaves_the_older_file(filled, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text("an older one")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        export_json(filled, tmp_path / "out" / "export.json")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["an older one"]


def test_there_must_be_something_to_export(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        export_json(tmp_path / "nowhere", tmp_path / "export.json")
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_store_is_exported_too(tmp_path):
    Store.open(tmp_path / "data").close()
    assert export_json(tmp_path / "data", tmp_path / "export.json") == {}
    with TinyDB(tmp_path / "export.json") as db:
        assert db.tables() == set()


def test_every_fault_is_named_and_nothing_changes(filled, tmp_path, new_crew):
    before = contents(filled)
    good, short = new_crew(id="crew_9").dump(), new_crew().dump()
    del short["owner"]
    short["process"] = "chaotic"
    data = {"crews": {"1": good, "2": short, "3": good, "x": good, "4": []}, "agents": []}
    (tmp_path / "bad.json").write_text(json.dumps(data))

    with pytest.raises(InvalidRequest, match=r"crews\.2\.") as caught:
        import_json(filled, tmp_path / "bad.json", replace=True)
    assert {fault.field for fault in caught.value.faults} == {
        "crews.2.owner",
        "crews.2.process",
        "crews.1.id",
        "crews.3.id",
        "crews.x",
        "crews.4",
        "agents",
    }
    assert contents(filled) == before


@pytest.mark.parametrize("text", ["", '{"crews": {"1": ', "[]", "nothing"])
def test_a_file_without_tables_is_refused(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InvalidRequest):
        import_json(tmp_path / "new", tmp_path / "bad.json")
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="can't be read"):
        import_json(tmp_path / "new", tmp_path / "nowhere.json")


def test_a_store_that_is_not_empty_is_replaced_only_if_asked(filled, tmp_path, new_crew):
    before = contents(filled)
    (tmp_path / "one.json").write_text(json.dumps({"crews": {"5": new_crew(id="crew_5").dump()}}))
    with pytest.raises(Conflict, match="not empty"):
        import_json(filled, tmp_path / "one.json")
    assert contents(filled) == before

    with Store.open(filled) as serving:
        assert serving.crews.count() == 2
        import_json(filled, tmp_path / "one.json", replace=True)
        # A server that is running has it at once.
        assert [crew.id for crew in serving.crews.find()] == ["crew_5"]
        assert serving.db.tables() == {"crews"}


@pytest.mark.parametrize("brought", [True, False])
def test_what_rooms_keep_for_themselves_is_made_of_what_was_imported(filled, tmp_path, brought):
    """At once, or by whoever opens the store next with them."""

    def named(connection):
        connection.execute("DROP TABLE IF EXISTS names_all")
        connection.execute("CREATE TABLE names_all AS SELECT body ->> 'name' AS name FROM doc_crews")

    schemas = [Schema("names", (named,))]
    with Store.open(tmp_path / "new", schemas):
        export_json(filled, tmp_path / "all.json")
        import_json(tmp_path / "new", tmp_path / "all.json", schemas if brought else ())
    with Store.open(tmp_path / "new", schemas) as store, store.read() as connection:
        assert connection.execute("SELECT count(*) FROM names_all").fetchone() == (store.crews.count(),)
