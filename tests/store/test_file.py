import os
import sqlite3
import stat

import pytest

from kasal_jupyter.errors import StoreError, StoreTooNew
from kasal_jupyter.store.file import FORMAT
from kasal_jupyter.store.store import Store
from kasal_jupyter.store.table import Database

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@posix
def test_folder_and_files_are_the_owner_s_alone(tmp_path):
    old = os.umask(0)
    try:
        with Store.open(tmp_path / "a" / "data") as store:
            store.change_now(lambda: store.db.table("notes").insert({}))
            assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700
            files = ["kasal.db", "kasal.db-shm", "kasal.db-wal"]
            assert modes(tmp_path / "a" / "data") == dict.fromkeys(files, 0o600)
    finally:
        os.umask(old)


@posix
def test_a_file_that_others_could_read_is_made_private(tmp_path):
    Store.open(tmp_path).close()
    (tmp_path / "kasal.db").chmod(0o644)
    with Store.open(tmp_path):
        assert set(modes(tmp_path).values()) == {0o600}


def test_documents_are_rows_that_any_sqlite_program_reads(tmp_path):
    with Database(tmp_path / "notes.db") as db:
        db.insert({"text": "ä"})
    connection = sqlite3.connect(tmp_path / "notes.db")
    rows = connection.execute("SELECT doc_id, typeof(body), body ->> '$.text' FROM doc__default").fetchall()
    connection.close()
    assert rows == [(1, "text", "ä")]


def test_a_commit_is_an_fsync(tmp_path):
    with Database(tmp_path / "notes.db") as db:
        connection = db.storage.engine.writing_connection
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == (b"wal",)


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    Store.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "kasal.db")
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    before = (tmp_path / "kasal.db").read_bytes()

    with pytest.raises(StoreTooNew, match=r"newer version .*pip install --upgrade kasal-jupyter"):
        Store.open(tmp_path)
    assert (tmp_path / "kasal.db").read_bytes() == before


def test_another_program_s_database_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "kasal.db")
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StoreError, match="not a store of Kasal"):
        Store.open(tmp_path)


def test_what_is_no_database_is_refused(tmp_path):
    (tmp_path / "kasal.db").write_text('{"crews": {}}' * 1_000)
    with pytest.raises(StoreError, match=r"not a database.*import an export"):
        Store.open(tmp_path)


def test_a_damaged_file_is_refused(tmp_path, new_crew):
    with Store.open(tmp_path) as store:
        store.change_now(lambda: [store.crews.insert(new_crew()) for _ in range(200)])
    data = bytearray((tmp_path / "kasal.db").read_bytes())
    data[4096:-1] = b"\xff" * len(data[4096:-1])
    (tmp_path / "kasal.db").write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(tmp_path)


def test_a_document_that_is_no_json_is_left_out_and_named(tmp_path, new_crew, caplog):
    with Store.open(tmp_path) as store:
        store.change_now(lambda: store.crews.insert(new_crew()))
    connection = sqlite3.connect(tmp_path / "kasal.db")
    connection.execute("UPDATE doc_crews SET body = '{'")
    connection.commit()
    connection.close()
    with Store.open(tmp_path) as store:
        assert store.crews.find() == []
        store.change_now(lambda: store.crews.insert(new_crew()))
        assert store.crews.count() == 1
    assert "table 'crews' is damaged at document 1" in caplog.text


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="it is a file"):
        Store.open(tmp_path / "data")
