"""The results of a batch, written as JSON lines, CSV or Parquet: in the order of the input, at any moment.

In JSON lines a row is as it is told of. In CSV and Parquet each input is a column, and so is each field of an
output that is an object; where two would have one name, the later is called after where it is from.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from kasal_jupyter.confined import OUTPUT, TooMuch, confined
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.executions.batches.rows import every_row
from kasal_jupyter.schemas.batches import BatchRow, StoredBatch
from kasal_jupyter.store.store import Store

PIECE = 1 << 18
"""About how many bytes are given at a time."""

PARQUET_SECONDS = 120.0

_OWN = ("status", "error", "tokens", "cost", "duration", "job_id", "attempts", "recorded", "index", "key")
"""Columns of every row, behind its inputs and its output."""

_MOST_COLUMNS = 5_000

Column = tuple[str, Callable[[BatchRow], Any]]
"""A column's name, and what a row has in it."""


def json_lines(store: Store, batch: StoredBatch) -> Iterator[bytes]:
    """Write the rows as JSON lines, a piece at a time."""
    return _pieces(row.model_dump_json().encode() + b"\n" for row in every_row(store, batch))


def csv_text(store: Store, batch: StoredBatch) -> Iterator[bytes]:
    """Write the rows as CSV, a piece at a time; what is no plain value is written as JSON."""
    columns = _columns(store, batch)

    def lines() -> Iterator[bytes]:
        yield _csv_line(name for name, _ in columns)
        for row in every_row(store, batch):
            yield _csv_line(_plain(value_of(row)) for _, value_of in columns)

    return _pieces(lines())


def parquet_file(store: Store, batch: StoredBatch) -> bytes:
    """Write the rows as Parquet; it blocks, and takes a process, since what writes it is large.

    Raises
    ------
    InvalidRequest
        There is too much of them.
    """
    columns = _columns(store, batch)
    lines = io.BytesIO()
    lines.write(orjson.dumps([name for name, _ in columns]) + b"\n")
    for row in every_row(store, batch):
        lines.write(orjson.dumps([_plain(value_of(row)) for _, value_of in columns]) + b"\n")
        if lines.tell() > OUTPUT:
            raise InvalidRequest("The results are too much for one Parquet file; take format=jsonl or csv")
    try:
        return confined(f"{__name__}:parquet_of", lines.getvalue(), seconds=PARQUET_SECONDS)
    except TooMuch as error:
        raise InvalidRequest(f"No Parquet could be made of the results: {error}; take format=jsonl") from None


def parquet_of(data: bytes) -> bytes:
    """Make Parquet of lines of JSON, the first of which has the columns' names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = data.splitlines()
    names, rows = orjson.loads(lines[0]), [orjson.loads(line) for line in lines[1:]]
    columns = {name: _alike([row[place] for row in rows]) for place, name in enumerate(names)}
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _alike(values: list[Any]) -> list[Any]:
    """Give a column's values as they are, where they are of one kind; else all as texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        whole = all(-(2**63) <= value < 2**63 for value in values if value is not None)
        return (
            [None if value is None else float(value) for value in values]
            if len(kinds) > 1 or not whole
            else values
        )
    if len(kinds) == 1:
        return values
    return [
        value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values
    ]


def _columns(store: Store, batch: StoredBatch) -> list[Column]:
    """Give the columns of a batch's results; all rows are looked at for them."""
    inputs: dict[str, None] = {}
    fields: dict[str, None] = {}
    for row in every_row(store, batch):
        inputs |= dict.fromkeys(row.inputs)
        if isinstance(row.structured, Mapping):
            fields |= dict.fromkeys(map(str, row.structured))
        if len(inputs) + len(fields) > _MOST_COLUMNS:
            raise InvalidRequest(f"The results have more than {_MOST_COLUMNS:,} columns; take format=jsonl")
    taken = {"output", "expected", *_OWN}
    columns = [_column(taken, "inputs", name, _input(name)) for name in inputs]
    columns.append(("output", lambda row: row.output))
    columns += [_column(taken, "output", name, _field(name)) for name in fields]
    columns.append(("expected", lambda row: row.expected))
    columns += [(name, _own(name)) for name in _OWN]
    return columns


def _column(taken: set[str], part: str, name: str, value_of: Callable[[BatchRow], Any]) -> Column:
    called = name
    while called in taken:
        called = f"{part}.{called}"
    taken.add(called)
    return called, value_of


def _input(name: str) -> Callable[[BatchRow], Any]:
    return lambda row: row.inputs.get(name)


def _field(name: str) -> Callable[[BatchRow], Any]:
    return lambda row: row.structured.get(name) if isinstance(row.structured, Mapping) else None


def _own(name: str) -> Callable[[BatchRow], Any]:
    if name == "error":
        return lambda row: row.failure
    return lambda row: getattr(row, name)


def _plain(value: Any) -> Any:
    return (
        value
        if value is None or isinstance(value, str | int | float | bool)
        else orjson.dumps(value).decode()
    )


def _csv_line(values: Iterable[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(list(values))
    return line.getvalue().encode()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to pieces that are worth sending."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
