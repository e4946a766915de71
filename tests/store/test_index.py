import pytest

from kasal_jupyter.store.index import Index, has_id
from kasal_jupyter.store.rows import Rows, keys_of, select


def test_ids_of_a_value_are_ascending():
    index = Index()
    for doc_id in (5, 1, 9, 3):
        index.add("ada", doc_id)
    index.add("bob", 4)

    assert list(index.ids("ada")) == [1, 3, 5, 9]
    assert list(index.ids("bob")) == [4]
    assert list(index.ids("eve")) == []


def test_a_discarded_id_is_gone():
    index = Index()
    for doc_id in (1, 2, 3):
        index.add("ada", doc_id)
    index.discard("ada", 2)
    assert list(index.ids("ada")) == [1, 3]
    index.discard("ada", 1)
    index.discard("ada", 3)
    assert list(index.ids("ada")) == []


def test_has_id():
    assert has_id([1, 3, 5], 3)
    assert not has_id([1, 3, 5], 4)
    assert not has_id([1, 3, 5], 6)
    assert not has_id([], 1)


def put(rows, doc_id, **document):
    rows.put(doc_id, b"{}", keys_of(document, rows.fields))


def test_rows_follow_changed_values():
    rows = Rows(("owner", "topic"))
    put(rows, 1, owner="ada", topic="a")
    put(rows, 2, owner="ada", topic="b")
    put(rows, 1, owner="bob", topic="a")

    assert list(select(rows, {"owner": "ada"})) == [2]
    assert list(select(rows, {"owner": "bob", "topic": "a"})) == [1]
    assert list(select(rows, {"owner": "bob", "topic": "b"})) == []
    assert list(select(rows, {})) == [1, 2]

    rows.remove(1)
    assert list(select(rows, {"topic": "a"})) == []
    assert len(rows) == 1


def test_an_id_stays_used_until_the_table_is_cleared():
    rows = Rows()
    put(rows, 7)
    rows.remove(7)
    assert rows.last_id == 7
    rows.clear()
    assert rows.last_id == 0


def test_equal_values_of_other_types_are_other_keys():
    rows = Rows(("flag",))
    put(rows, 1, flag=1)
    put(rows, 2, flag=True)
    put(rows, 3, flag=[1])
    put(rows, 4)

    found = [list(select(rows, {"flag": value})) for value in (1, True, [1], None)]
    assert found == [[1], [2], [3], [4]]


def test_a_field_without_an_index_is_not_looked_up():
    with pytest.raises(LookupError, match="no index on 'colour'; the indexed fields are: owner"):
        select(Rows(("owner",)), {"colour": "red"})
