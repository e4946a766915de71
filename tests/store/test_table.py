import pytest
from tinydb import TinyDB, where
from tinydb.middlewares import CachingMiddleware
from tinydb.operations import increment
from tinydb.storages import JSONStorage
from tinydb.table import Document

from kasal_jupyter.store import rows as rows_module
from kasal_jupyter.store import storage as storage_module
from kasal_jupyter.store import table as table_module
from kasal_jupyter.store.table import Database, SqliteTable
from tests.store.lookups import count, ids


@pytest.fixture
def decoded(monkeypatch):
    """The rows that were decoded, which is what looking at a document costs."""
    bodies = []
    for module in (table_module, storage_module, rows_module):
        original = module.decode
        monkeypatch.setattr(
            module, "decode", lambda body, original=original: bodies.append(body) or original(body)
        )
    return bodies


def test_what_was_inserted_is_there_after_reopening(tmp_path):
    with Database(tmp_path / "notes.db") as db:
        first = db.insert({"text": "one"})
        db.table("other").insert({"text": "two"})
    with Database(tmp_path / "notes.db") as db:
        assert db.get(doc_id=first) == {"text": "one"}
        assert db.tables() == {"_default", "other"}


def test_one_row_is_written_for_each_document_changed(db, notes, rows_written):
    notes.insert_multiple({"owner": "ada", "n": n} for n in range(500))

    for change, rows in [
        (lambda: notes.update({"n": -1}, doc_ids=[7]), 1),
        (lambda: notes.update(increment("n"), where("n") == 8), 1),
        (lambda: notes.insert({"owner": "bob"}), 1),
        (lambda: notes.remove(doc_ids=[9, 10]), 2),
        (lambda: notes.update({"n": 3}, where("n") == 3), 0),
        (lambda: notes.update({"x": 1}, where("n") == "none"), 0),
        (lambda: notes.upsert({"n": -2}, where("n") == -1), 1),
    ]:
        before = rows_written(db)
        change()
        assert rows_written(db) - before == rows


def test_updates_by_id_and_lookups_look_at_their_documents_only(notes, decoded):
    notes.insert_multiple({"owner": "ada" if n % 100 else "bob", "topic": str(n)} for n in range(1_000))
    decoded.clear()

    assert [note["topic"] for note in notes.lookup({"owner": "bob"}, limit=3)] == ["0", "100", "200"]
    assert len(decoded) == 3
    assert count(notes, {"owner": "ada"}) == 990
    assert ids(notes, {"owner": "bob", "topic": "300"}) == [301]
    assert len(decoded) == 3
    notes.update({"topic": "new"}, doc_ids=[5])
    notes.insert({"owner": "eve"})
    notes.get(doc_id=9)
    # One for each index key and one for each document.
    assert len(decoded) <= 3 + 5


def test_pages_of_a_lookup(notes):
    notes.insert_multiple({"owner": "ada", "n": n} for n in range(10))

    def page(**part):
        return [note["n"] for note in notes.lookup({"owner": "ada"}, **part)]

    assert page() == list(range(10))
    assert page(offset=4, limit=3) == [4, 5, 6]
    assert page(offset=8, limit=5) == [8, 9]
    assert page(offset=20, limit=5) == []
    assert page(newest_first=True, limit=3) == [9, 8, 7]
    assert page(newest_first=True, offset=8, limit=3) == [1, 0]
    assert [note["n"] for note in notes.lookup({}, newest_first=True, limit=1)] == [9]


def test_the_index_follows_every_kind_of_change(notes):
    a = notes.insert({"owner": "ada"})
    b = notes.insert({"owner": "ada"})
    notes.update({"owner": "bob"}, doc_ids=[a])
    assert ids(notes, {"owner": "ada"}) == [b]
    notes.update(lambda note: note.pop("owner"), doc_ids=[b])
    assert ids(notes, {"owner": None}) == [b]
    notes.remove(doc_ids=[a])
    assert ids(notes, {"owner": "bob"}) == []
    notes.truncate()
    assert ids(notes, {"owner": None}) == []


def test_updaters_edit_nested_values_in_place(db, notes, tmp_path):
    doc_id = notes.insert({"tags": ["a"], "by": {"name": {"first": "Ada"}}})

    def edit(note):
        note["tags"].append("b")
        note["by"]["name"]["first"] = "Bob"

    notes.update(edit)
    db.close()
    with Database(tmp_path / "notes.db") as again:
        assert again.table("notes").get(doc_id=doc_id) == {
            "tags": ["a", "b"],
            "by": {"name": {"first": "Bob"}},
        }


def test_a_change_of_type_alone_is_a_change(db, notes, tmp_path):
    notes.insert({"n": 1})
    notes.update({"n": True})
    db.close()
    with Database(tmp_path / "notes.db") as again:
        assert again.table("notes").all()[0]["n"] is True


def test_a_raising_updater_leaves_memory_and_disk_as_they_were(db, notes, tmp_path):
    notes.insert_multiple([{"n": 1, "list": [1]}, {"n": 2, "list": [2]}, {"list": [3]}])
    before = notes.all()

    def edit(note):
        note["list"].append("more")
        note["n"] += 1

    with pytest.raises(KeyError):
        notes.update(edit)
    with pytest.raises(TypeError):
        notes.update({"n": object()}, where("n") == 1)
    with pytest.raises(TypeError):
        notes.insert_multiple([{"n": 4}, {"n": object()}])
    with pytest.raises(ValueError, match="already exists"):
        notes.insert_multiple([{"n": 4}, Document({"n": 5}, doc_id=1)])

    assert notes.all() == before
    db.close()
    with Database(tmp_path / "notes.db") as again:
        assert again.table("notes").all() == before


def test_documents_given_out_are_private(notes):
    notes.insert({"n": 1, "list": [1]})
    query = where("n") == 1

    for read in (
        lambda: notes.search(query)[0],
        lambda: notes.search(query)[0],  # from the query cache
        lambda: notes.get(query),
        lambda: notes.get(doc_id=1),
        lambda: notes.get(doc_ids=[1])[0],
        lambda: notes.all()[0],
        lambda: next(iter(notes)),
        lambda: notes.lookup({})[0],
    ):
        document = read()
        assert document == {"n": 1, "list": [1]}
        document["list"].append("spoilt")
        document["n"] = "spoilt"
    assert notes.search(query) == [{"n": 1, "list": [1]}]


def test_what_is_inserted_may_be_changed_afterwards(notes):
    mine = {"list": [1]}
    notes.insert(mine)
    mine["list"].append(2)
    assert notes.all() == [{"list": [1]}]


def test_a_query_that_is_repeated_looks_at_its_results_only(notes, decoded):
    notes.insert_multiple({"n": n} for n in range(100))
    assert notes.count(where("n") == 5) == 1
    decoded.clear()
    assert notes.search(where("n") == 5) == [{"n": 5}]
    assert len(decoded) == 1
    notes.insert({"n": 5})
    assert notes.count(where("n") == 5) == 2


def test_uncommitted_results_are_not_remembered(db, notes):
    notes.insert({"n": 1})
    with pytest.raises(ZeroDivisionError), db.storage.engine.transaction():  # noqa: PT012
        notes.insert({"n": 1})
        assert notes.count(where("n") == 1) == 2
        _ = 1 / 0
    assert notes.count(where("n") == 1) == 1


def test_ids_are_not_given_twice(db, notes, tmp_path):
    assert notes.insert_multiple([{}, {}, {}]) == [1, 2, 3]
    notes.remove(doc_ids=[3])
    assert notes.insert({}) == 4
    notes.remove(doc_ids=[4])
    db.close()
    with Database(tmp_path / "notes.db") as again:
        # TinyDB itself gives the id of the last document again, once its file is reopened.
        assert again.table("notes").insert({}) == 5


def test_ids_that_are_given_and_chosen_do_not_meet(notes):
    assert notes.insert_multiple([Document({}, doc_id=2), {}, {}]) == [2, 3, 4]


def test_an_updater_may_insert_into_its_own_table(notes):
    notes.insert({"n": 1})
    notes.update(lambda note: notes.insert({"copy of": note["n"]}), where("n") == 1)
    assert notes.all() == [{"n": 1}, {"copy of": 1}]


def test_only_numbers_are_ids(notes):
    with pytest.raises(TypeError, match="must be an int"):
        notes.insert(Document({}, doc_id="seven"))


def test_documents_come_in_the_order_of_their_ids(notes):
    notes.insert(Document({"n": "b"}, doc_id=20))
    notes.insert(Document({"n": "a"}, doc_id=10))
    assert [note["n"] for note in notes] == ["a", "b"]
    assert [note["n"] for note in notes.get(doc_ids=[20, 10, 20, 30])] == ["a", "b"]


def test_updates_one_after_the_other_see_each_other(notes):
    notes.insert_multiple([{"n": 1}, {"n": 2}, {"n": 9}])
    updates = [({"n": 2}, where("n") == 1), (increment("n"), where("n") == 2)]
    assert notes.update_multiple(iter(updates)) == [1, 1, 2]
    assert [note["n"] for note in notes] == [3, 3, 9]


def test_truncating_takes_the_disk_along(db, notes, tmp_path):
    notes.insert_multiple({} for _ in range(50))
    notes.truncate()
    assert notes.insert({"first": "again"}) == 1
    db.close()
    with Database(tmp_path / "notes.db") as again:
        assert again.table("notes").all() == [{"first": "again"}]


def test_dropped_tables_are_gone_after_reopening(db, notes, tmp_path):
    notes.insert({})
    db.table("kept", persist_empty=True)
    db.drop_table("notes")
    assert db.tables() == {"kept"}
    db.close()
    with Database(tmp_path / "notes.db") as again:
        assert again.tables() == {"kept"}
        assert again.table("notes").insert({}) == 1


def test_over_a_middleware_the_table_works_as_tinydb_s_own(tmp_path):
    class Cached(TinyDB):
        table_class = SqliteTable

    with Cached(tmp_path / "notes.json", storage=CachingMiddleware(JSONStorage)) as db:
        db.insert_multiple([{"n": 1}, {"n": 2}])
        db.update(increment("n"), where("n") == 2)
        db.upsert({"n": 7}, where("n") == 7)
        db.update_multiple([({"n": 0}, where("n") == 1)])
        db.remove(where("n") == 3)
        assert db.search(where("n").exists()) == [{"n": 0}, {"n": 7}]
        assert db.get(doc_ids=[1]) == [{"n": 0}]
    with TinyDB(tmp_path / "notes.json") as db:
        assert db.all() == [{"n": 0}, {"n": 7}]
