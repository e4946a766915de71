import pytest
from tinydb import TinyDB, where

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.storage import SqliteStorage


@pytest.fixture
def stock(tmp_path):
    """TinyDB with its own table class, and only our storage."""
    with TinyDB(tmp_path / "deep" / "stock.db", create_dirs=True, storage=SqliteStorage) as db:
        yield db


def test_it_serves_tinydb_s_own_table(stock, tmp_path):
    stock.insert_multiple({"n": n} for n in range(5))
    stock.update({"n": 10}, where("n") == 0)
    stock.remove(where("n") == 1)
    stock.table("other").insert({})
    stock.drop_table("other")
    stock.close()
    with TinyDB(tmp_path / "deep" / "stock.db", storage=SqliteStorage) as again:
        assert [document["n"] for document in again] == [10, 2, 3, 4]
        assert again.tables() == {"_default"}


def test_only_the_documents_that_differ_are_written(stock, rows_written):
    stock.insert_multiple({"n": n} for n in range(500))
    before = rows_written(stock)
    stock.update({"n": -1}, doc_ids=[7])
    assert rows_written(stock) - before == 1


def test_an_empty_storage_reads_as_none(tmp_path):
    storage = SqliteStorage(tmp_path / "new.db")
    assert storage.read() is None
    storage.close()


def test_a_change_by_somebody_else_is_not_overwritten(stock, tmp_path):
    stock.insert({"n": 1})
    mine = stock.storage.read()
    with TinyDB(tmp_path / "deep" / "stock.db", storage=SqliteStorage) as theirs:
        theirs.insert({"n": 2})
    mine["_default"] = {"1": {"n": 3}}

    with pytest.raises(StoreError, match="changed by somebody else"):
        stock.storage.write(mine)
    assert [document["n"] for document in stock] == [1, 2]


def test_a_table_that_came_after_reading_is_not_dropped(stock, tmp_path):
    stock.insert({"n": 1})
    stock.table("gone").insert({})
    mine = stock.storage.read()
    with TinyDB(tmp_path / "deep" / "stock.db", storage=SqliteStorage) as theirs:
        theirs.table("new").insert({})
    del mine["gone"]
    stock.storage.write(mine)
    assert stock.tables() == {"_default", "new"}


@pytest.mark.parametrize("data", [{"table": [1]}, {"table": {"1": "text"}}, {"table": {"one": {}}}])
def test_what_is_no_table_is_refused(stock, data):
    stock.insert({"n": 1})
    with pytest.raises(TypeError, match="'table'"):
        stock.storage.write({"_default": {"1": {"n": 2}}, **data})
    assert stock.all() == [{"n": 1}]


def test_after_closing_it_says_so(stock):
    stock.close()
    with pytest.raises(StoreError, match="closed"):
        stock.insert({})
