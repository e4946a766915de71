import threading

import pytest

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.engine import IDLE_READERS, REMEMBERED, Turnstile
from kasal_jupyter.store.table import Database, SqliteTable
from tests.store.lookups import count, ids


@pytest.fixture
def engine(db):
    return db.storage.engine


@pytest.fixture
def other(db, tmp_path):
    with Database(tmp_path / "notes.db", layouts={"notes": ("owner", "topic")}) as opened:
        yield opened


def in_a_thread(function):
    """Call a function in another thread, and give what it gives."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def fill_the_disk(engine):
    """Let the file not grow any more; what SQLite then says is what it says when the disk is full."""
    connection = engine.writing_connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")


def empty_the_disk(engine):
    engine.writing_connection.execute("PRAGMA max_page_count = 1000000")


def test_a_transaction_is_seen_by_its_own_thread_until_it_is_committed(db, engine):
    with engine.transaction():
        db.insert({"n": 1})
        db.insert({"n": 2})
        assert len(db) == 2
        assert in_a_thread(lambda: len(db)) == 0
    assert in_a_thread(lambda: len(db)) == 2


def test_a_transaction_that_raises_never_was(db, engine, other):
    db.insert({"n": 0})
    with pytest.raises(ZeroDivisionError), engine.transaction():  # noqa: PT012
        db.insert({"n": 1})
        db.update({"n": 5}, doc_ids=[1])
        db.table("new").insert({})
        _ = 1 / 0
    for database in (db, other):
        assert database.all() == [{"n": 0}]
        assert database.tables() == {"_default"}


def test_within_a_group_each_work_is_atomic_by_itself(db, engine, other):
    with engine.group():
        with engine.work():
            db.insert({"n": 1})
        with pytest.raises(ZeroDivisionError), engine.work():  # noqa: PT012
            db.insert({"n": 2})
            db.remove(doc_ids=[1])
            _ = 1 / 0
        with engine.work():
            assert [document["n"] for document in db] == [1]
            db.insert({"n": 3})
    assert [document["n"] for document in db] == [1, 3]
    assert [document["n"] for document in other] == [1, 3]


def test_a_full_disk_leaves_memory_equal_to_the_disk(db, engine, other):
    db.insert({"n": 1})
    fill_the_disk(engine)
    with pytest.raises(StoreError, match=r"full.*make room"):
        db.insert_multiple({"text": "x" * 1_000} for _ in range(100))
    assert db.all() == other.all() == [{"n": 1}]

    empty_the_disk(engine)
    db.insert({"n": 2})
    assert [document["n"] for document in other] == [1, 2]


def test_a_document_that_sqlite_refuses_leaves_the_store_usable(db):
    db.insert({"n": 1})
    too_large = db.table("_default").document_class({"n": 2}, 2**70)
    with pytest.raises(OverflowError):
        db.insert(too_large)
    assert db.insert({"n": 3}) == 2


def test_what_another_process_commits_is_seen(db, other):
    db.insert({"n": 1})
    assert other.all() == [{"n": 1}]
    other.update({"n": 2})
    other.table("notes").insert({"owner": "ada"})
    assert db.all() == [{"n": 2}]
    assert db.tables() == {"_default", "notes"}
    assert ids(db.table("notes"), {"owner": "ada"}) == [1]
    other.remove(doc_ids=[1])
    other.drop_table("notes")
    assert len(db) == 0
    assert db.tables() == {"_default"}


def test_a_cached_query_result_is_void_once_another_process_has_written(db, other):
    from tinydb import where

    db.insert({"n": 1})
    assert db.count(where("n") == 1) == 1
    other.insert({"n": 1})
    assert db.count(where("n") == 1) == 2


def test_writes_of_two_processes_build_on_each_other(db, other):
    db.insert({"n": 0})
    for _ in range(5):
        for database in (db, other):
            database.update(lambda document: document.update(n=document["n"] + 1), doc_ids=[1])
            database.insert({})
    assert db.get(doc_id=1) == other.get(doc_id=1) == {"n": 10}
    assert len(db) == len(other) == 11


def test_two_processes_inserting_at_once_do_not_choose_the_same_id(db, other, monkeypatch):
    threads = []

    class Overtaken(SqliteTable):
        def _get_next_id(self):
            chosen = super()._get_next_id()
            threads.append(threading.Thread(target=lambda: other.table("notes").insert({"by": "other"})))
            threads[-1].start()
            # Long enough for the other to insert, if it is not kept waiting.
            threads[-1].join(timeout=0.2)
            return chosen

    monkeypatch.setattr(db, "table_class", Overtaken)
    assert db.table("notes").insert({"by": "this"}) == 1
    threads[0].join()
    assert [note["by"] for note in db.table("notes")] == ["this", "other"]


def test_a_table_cleared_elsewhere_is_cleared_here(db, other):
    db.insert_multiple({"n": n} for n in range(5))
    assert len(other) == 5
    db.truncate()
    db.insert({"n": "new"})
    assert other.all() == [{"n": "new"}]


def test_a_snapshot_is_of_one_moment(db, engine, other):
    db.insert({"n": 1})
    with engine.snapshot():
        assert len(db) == 1
        other.insert({"n": 2})
        writing = threading.Thread(target=lambda: db.insert({"n": 3}))
        writing.start()
        assert len(db) == 1
        with pytest.raises(RuntimeError, match="leave it"):
            db.insert({})
    writing.join()
    assert len(db) == 3


def test_readers_never_see_half_of_a_transaction(db, notes, engine):
    """One thread moves a document from topic to topic; others must always find it in exactly one."""
    notes.insert_multiple([{"topic": "a"}, {"topic": "b"}])
    done = threading.Event()
    sums = set()

    def read():
        while not done.is_set():
            with engine.snapshot():
                sums.add(count(notes, {"topic": "a"}) + count(notes, {"topic": "b"}))
                sums.add(len(notes.lookup({"topic": "a"})) + len(notes.lookup({"topic": "b"})))
            sums.add(len(notes.all()))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for n in range(200):
        topic = "ab"[n % 2]
        with engine.transaction():
            notes.remove(doc_ids=ids(notes, {})[:1])
            notes.insert({"topic": topic})
    done.set()
    for reader in readers:
        reader.join()
    assert sums == {2}


def test_an_interrupt_after_a_commit_loses_nothing(db, engine, monkeypatch):
    commit = engine.commit

    def interrupted():
        commit()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(engine, "commit", interrupted)
        db.insert({"n": 1})
    assert db.insert({"n": 2}) == 2
    assert [document["n"] for document in db] == [1, 2]


def looks_of(engine):
    """Collect what is asked to see whether something has changed."""
    asked = []
    engine._looking_connection.set_trace_callback(asked.append)
    return asked


def test_to_see_that_nothing_has_changed_takes_one_look(notes, engine, other):
    notes.insert({"owner": "ada"})
    assert count(notes, {"owner": "ada"}) == 1
    asked = looks_of(engine)
    assert count(notes, {"owner": "ada"}) == 1
    assert asked == ["PRAGMA data_version"]
    other.table("notes").insert({"owner": "ada"})
    assert count(notes, {"owner": "ada"}) == 2


def test_several_reads_make_do_with_one_look(engine, other):
    asked = looks_of(engine)
    with engine.one_look():
        before = engine.version("notes")
        engine.versions(["notes", "others"])
        assert in_a_thread(lambda: engine.version("notes")) == before
    assert asked.count("PRAGMA data_version") == 1 + 1
    # Behind it, every read looks again and sees what others have written.
    other.table("notes").insert({"owner": "ada"})
    assert engine.version("notes") != before


def test_what_one_look_has_seen_is_good_enough_for_more_reads_where_that_is_said(engine, other):
    with engine.one_look() as seen:
        before = engine.version("notes")
    asked = looks_of(engine)
    other.table("notes").insert({"owner": "ada"})
    with engine.one_look(seen):
        assert engine.version("notes") == before
    assert not asked
    assert engine.version("notes") != before


def test_what_is_remembered_is_bounded_and_void_once_the_table_changes(notes, engine):
    made = []

    def make(n):
        made.append(n)
        return n

    for n in range(2 * REMEMBERED):
        assert engine.remembered("notes", n, lambda n=n: make(n)) == n
    assert len(engine._remembered) == REMEMBERED
    assert engine.remembered("notes", n, lambda: make("again")) == n
    notes.insert({})
    assert engine.remembered("notes", n, lambda: make("again")) == "again"
    with engine.transaction():
        assert engine.remembered("notes", n, lambda: make("within")) == "within"
    assert engine.remembered("notes", n, lambda: make("last")) == "again"


def test_readers_connections_are_given_back_and_few_are_kept(db, engine):
    db.insert({"n": 1})
    together = threading.Barrier(8)

    def read():
        with engine.snapshot():
            together.wait()
            return len(db)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engine._idle) == IDLE_READERS
    assert len(db) == 1


def test_an_error_that_undoes_the_whole_transaction_fails_its_whole_group(db, engine, other):
    db.insert({"n": 0})

    def lose():
        # As SQLite does by itself after some errors.
        engine.writing_connection.execute("ROLLBACK")
        raise ZeroDivisionError

    with pytest.raises(StoreError, match="undone others"), engine.group():  # noqa: PT012
        with engine.work():
            db.insert({"n": 1})
        with pytest.raises(ZeroDivisionError), engine.work():
            lose()
        with pytest.raises(StoreError, match="undone others"), engine.work():
            db.insert({"n": 2})
    assert [document["n"] for document in db] == [document["n"] for document in other] == [0]


def test_one_stands_in_at_a_time(tmp_path):
    first, second = Turnstile(tmp_path, patience=60), Turnstile(tmp_path, patience=60)
    order = []

    def follow():
        with second:
            order.append("second")

    with first:
        following = threading.Thread(target=follow)
        following.start()
        order.append("first")
    following.join()
    assert order == ["first", "second"]
    first.close()
    second.close()


def test_nobody_waits_for_ever_behind_one_that_does_not_move(tmp_path):
    first, second = Turnstile(tmp_path, patience=60), Turnstile(tmp_path, patience=0)
    with first, second:
        pass
    first.close()
    second.close()
