"""Export and import: the whole store as one JSON file, which stock TinyDB opens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tinydb.table import Document

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, StoreError
from kasal_jupyter.store.collections import CATALOG
from kasal_jupyter.store.file import Schema
from kasal_jupyter.store.folder import FILE_NAME
from kasal_jupyter.store.rows import Row, decoded
from kasal_jupyter.store.storage import SqliteStorage
from kasal_jupyter.store.store import Store
from kasal_jupyter.whole_file import whole_file

Tables = dict[str, dict[int, dict[str, Any]]]


def export_json(folder: Path, file: Path) -> dict[str, int]:
    """Write everything in a data folder into a file that ``TinyDB(file)`` opens.

    The file is there whole or not at all, and readable by its owner alone. Servers may
    go on working meanwhile; the export is of one moment.

    Returns
    -------
    dict
        How many documents were written, by table.

    Raises
    ------
    StoreError
        If there is no store in the folder, or it can't be read, or the file can't be written.
    """
    if not (folder / FILE_NAME).is_file():
        raise StoreError(f"There is no store in {folder}.")
    with Store.open(folder) as store:
        storage = store.db.storage
        assert isinstance(storage, SqliteStorage)
        with store.snapshot():
            tables = {
                name: _readable(view.source.rows()) for name, view in sorted((storage.read() or {}).items())
            }
    try:
        # Its owner's alone: it holds what users have entrusted, sealed or not.
        with whole_file(file, private=True, durable=True) as out:
            out.writelines(_json_of(tables))
    except OSError as error:
        raise StoreError(f"{file} can't be written: {error.strerror}.") from error
    return {name: len(rows) for name, rows in tables.items()}


def import_json(
    folder: Path, file: Path, schemas: Sequence[Schema] = (), *, replace: bool = False
) -> dict[str, int]:
    """Take a file that :func:`export_json` or TinyDB wrote into a data folder.

    Every document of Kasal's own collections must be valid; tables of other names are
    taken as they are. Nothing changes if anything is wrong.

    Parameters
    ----------
    folder
        The data folder; it is created if it is not there.
    file
        The JSON file.
    schemas
        See :meth:`Store.open`.
    replace
        Whether everything that the store holds is to go.

    Returns
    -------
    dict
        How many documents were taken in, by table.

    Raises
    ------
    InvalidRequest
        If something in the file is wrong; it names every table, document and field.
    Conflict
        If the store is not empty, and is not to be replaced.
    StoreError
        If the store can't be opened or written.
    """
    tables = _checked(_read(file))
    with Store.open(folder, schemas) as store:

        def fill() -> None:
            if any(len(store.db.table(name)) for name in store.db.tables()):
                if not replace:
                    raise Conflict(
                        f"The store in {folder} is not empty. Export it first, then replace what it holds "
                        "with --replace."
                    )
                store.db.drop_tables()
            for name, documents in tables.items():
                store.db.table(name).insert_multiple(
                    Document(document, doc_id) for doc_id, document in sorted(documents.items())
                )
            store.remake()

        store.change_now(fill)
    return {name: len(documents) for name, documents in tables.items()}


def _readable(rows: list[Row]) -> list[Row]:
    """Leave out what is no JSON, which would spoil all of the file."""
    known = {doc_id for doc_id, _ in decoded(rows)}
    return [row for row in rows if row[0] in known]


def _json_of(tables: Mapping[str, list[Row]]) -> Iterator[bytes]:
    """Give the file piece by piece. The documents are JSON already."""
    yield b"{"
    for number, (name, rows) in enumerate(tables.items()):
        yield b",\n" if number else b"\n"
        yield json.dumps(name).encode() + b": {"
        yield b",".join(b'\n"%d": %s' % row for row in rows)
        yield b"}"
    yield b"}\n"


def _read(file: Path) -> Any:
    try:
        # Not orjson: it would round integers beyond 64 bits.
        return json.loads(file.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{file} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidRequest(f"{file} is not a JSON file: {error}.") from error


def _checked(data: Any) -> Tables:
    """Give the file's tables, or raise with all that is wrong with them."""
    if not isinstance(data, dict):
        raise InvalidRequest("The file holds no tables: it is not a JSON object.")
    types = {collection.name: collection.document for collection in CATALOG}
    faults: list[Fault] = []
    tables: Tables = {}
    for name, documents in data.items():
        tables[name] = {}
        if not isinstance(documents, dict):
            faults.append(Fault(name, "A table must be an object of documents by their numbers."))
            continue
        for number, document in documents.items():
            where = f"{name}.{number}"
            if not (number.isascii() and number.isdecimal()) or not isinstance(document, dict):
                faults.append(Fault(where, "A document must be an object, and its key a number."))
                continue
            try:
                known = types[name].model_validate(document).dump() if name in types else {}
            except ValidationError as error:
                faults += [
                    Fault(".".join([where, *map(str, fault["loc"])]), f"{fault['msg']}.")
                    for fault in error.errors()
                ]
                continue
            # What another version keeps beside the known fields is kept.
            tables[name][int(number)] = {**document, **known}
        if name in types:
            faults += _doubles(name, tables[name])
    if faults:
        first = faults[0]
        more = f" There are {len(faults) - 1} more faults." if len(faults) > 1 else ""
        raise InvalidRequest(
            f"The file can't be imported: {first.field}: {first.reason}{more}", faults=faults
        )
    return tables


def _doubles(name: str, documents: Mapping[int, Mapping[str, Any]]) -> list[Fault]:
    counts = Counter(document["id"] for document in documents.values())
    return [
        Fault(f"{name}.{number}.id", f"Another document has the id {document['id']!r}, too.")
        for number, document in documents.items()
        if counts[document["id"]] > 1
    ]
