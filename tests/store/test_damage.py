"""One stored document that can't be read: in every table, damaged in every way, it is in nobody's way."""

import json
import sqlite3
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from kasal_jupyter.errors import DocumentDamaged
from kasal_jupyter.store.collections import CATALOG
from kasal_jupyter.store.layout import sql_name
from kasal_jupyter.store.repository import Selection
from kasal_jupyter.store.store import Store

GIVEN = {
    "endpoint": "https://example.com/",
    "shelf": "crew_1/short_term",
    "crew_id": "crew_1",
    "owner": "ada",
}


def value_of(name, annotation):
    """Give a value that fits a field."""
    if name in GIVEN:
        return GIVEN[name]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return value_of(name, parts[0])
    if origin is Literal:
        return parts[0]
    if origin in {Union, UnionType}:
        return None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return required_of(annotation)
    return {str: "x", int: 0, float: 0.0, bool: False, dict: {}, list: []}[origin or annotation]


def required_of(model):
    """Give a value for each field of a model that must have one."""
    fields = model.model_fields
    return {name: value_of(name, field.annotation) for name, field in fields.items() if field.is_required()}


def sample(collection, document_id):
    given = required_of(collection.document)
    if collection.name == "mcp_servers":
        given |= {"command": "x", "args": []}
    return collection.document.model_validate({**given, "id": document_id})


def lacking(row):
    return {name: value for name, value in row.items() if name != "created_at"}


def required(collection):
    """Give the last required field besides those that documents are looked up by."""
    return [
        name
        for name, field in collection.document.model_fields.items()
        if field.is_required() and name not in {"id", "owner", "crew_id"}
    ][-1]


def text_of(damage, collection, row):
    """Give what lies in the file instead of a document."""
    name = required(collection)
    match damage:
        case "missing field":
            return json.dumps({key: value for key, value in row.items() if key != name})
        case "wrong type":
            return json.dumps({**row, name: {"no": ["such"]}})
        case "not an object":
            return json.dumps([row])
        case "unparsable":
            return json.dumps(row)[:-5]
        case "zeros":
            return "\0" * 200
        case "a number":
            return 5
        case "bytes":
            return b"\xff\xfe\x00" * 20


READABLE = ("missing field", "wrong type")
"""Damages after which a document says still which it is."""

LOST = ("not an object", "unparsable", "zeros", "a number", "bytes")


@pytest.fixture
def damaged(tmp_path):
    """Open a store with three documents in a collection, the middle one damaged."""
    opened = []

    def open_it(collection, damage):
        with Store.open(tmp_path) as store:
            repository = store.repository(collection)
            ids = [f"{collection.name}_{n}" for n in range(3)]
            store.change_now(lambda: [repository.insert(sample(collection, each)) for each in ids])
        connection = sqlite3.connect(tmp_path / "kasal.db")
        table = sql_name(collection.name)
        (text,) = connection.execute(f"SELECT body FROM {table} WHERE doc_id = 2").fetchone()
        row = json.loads(text)
        body = text_of(damage, collection, row)
        connection.execute(f"UPDATE {table} SET body = ? WHERE doc_id = 2", (body,))
        connection.commit()
        connection.close()
        store = Store.open(tmp_path)
        opened.append(store)
        return store, store.repository(collection), ids

    yield open_it
    for store in opened:
        store.close()


@pytest.mark.parametrize("damage", [*READABLE, *LOST])
@pytest.mark.parametrize("collection", CATALOG, ids=lambda collection: collection.name)
def test_lists_leave_it_out_and_say_so_once(damaged, caplog, collection, damage):
    store, repository, ids = damaged(collection, damage)
    left = [ids[0], ids[2]]
    for _ in range(2):
        assert [each.id for each in repository.find()] == left
        assert [each.id for each in repository.find(order="created")] == left
        page = repository.page(order="newest")
        assert [each.id for each in page.documents] == left[::-1]
        assert page.total == repository.count() == 2
        for sort in ("created_at", "id", *collection.sorted):
            search = "" if collection.searched else None
            found = repository.select(
                Selection(sort=sort, limit=10, search=search, searched=collection.searched)
            )
            assert (sorted(each.id for each in found.documents), found.total) == (left, 2)
        bodies, total = repository.bodies(lambda body: collection.document.model_validate_json(body).id)
        assert (bodies, total) == (left, 2)
        assert repository.readable(ids[1]) is None
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert (ids[1] if damage in READABLE else "document 2") in told[0].getMessage()
    store.change_now(lambda: repository.insert(sample(collection, "another")))
    assert repository.count() == 3


@pytest.mark.parametrize("damage", READABLE)
@pytest.mark.parametrize("collection", CATALOG, ids=lambda collection: collection.name)
def test_who_asks_for_it_is_told_and_it_can_be_deleted(damaged, collection, damage):
    store, repository, ids = damaged(collection, damage)
    for read in (lambda: repository.get(ids[1]), repository.complete):
        with pytest.raises(DocumentDamaged, match=ids[1]) as told:
            read()
        assert (told.value.collection, told.value.document_id) == (collection.name, ids[1])
    assert repository.has(ids[1])
    with pytest.raises(DocumentDamaged):
        store.change_now(lambda: repository.update(ids[1], {}))
    store.change_now(lambda: store.discard(told.value))
    assert not repository.has(ids[1])
    assert (repository.count(), len(repository.complete())) == (2, 2)


@pytest.mark.parametrize("collection", CATALOG, ids=lambda collection: collection.name)
def test_what_is_put_right_is_there_again(damaged, collection):
    _store, repository, ids = damaged(collection, "wrong type")
    assert repository.count() == 3
    assert repository.page(limit=1, offset=1, order="created").total == 2
    _store.change_now(lambda: repository.replace(sample(collection, ids[1])))
    assert repository.count() == 3
    assert [each.id for each in repository.find(order="created")] == ids
