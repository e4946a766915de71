"""The rows of a batch as a request brings them: in JSON, or as a file of CSV, JSON lines or Parquet.

What is large is read in a limited process, and so is Parquet, whatever its size. Each function here is one of
bytes: what it gives has what is asked for in its first line, and a row in each line behind that.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import orjson

from kasal_jupyter.api.body import MOST_NESTING, read_body
from kasal_jupyter.errors import Fault, Faults, InvalidRequest, UnsupportedMedia
from kasal_jupyter.schemas.batches import MOST_ROWS, BatchCreate
from kasal_jupyter.wellformed import well_formed, well_formed_json

MESSAGE = "Invalid batch"

CSV, JSON_LINES, PARQUET = "text/csv", "application/x-ndjson", "application/vnd.apache.parquet"

SMALL = 1 << 20
"""Bytes that are read in a thread: to start a process takes longer."""

MOST_VALUES = 2_000_000
"""Values of all rows together, however small."""

LONGEST_CELL = 1_000_000
"""Characters of a cell of CSV."""


def json_rows(data: bytes) -> bytes:
    """Read a body of ``POST /batches``."""
    body = read_body(BatchCreate, data, MESSAGE, most=MOST_VALUES)
    if body.expected is not None and len(body.expected) != len(body.rows):
        reason = f"It has {len(body.expected)} values for {len(body.rows)} rows; give one for each"
        raise InvalidRequest(MESSAGE, faults=[Fault("expected", reason)])
    head = body.model_dump(mode="json", exclude={"rows", "expected"})
    expected = body.expected or [None] * len(body.rows)
    pairs = zip(body.rows, expected, strict=True)
    return _written(head, ({"inputs": row.inputs, "expected": value} for row, value in pairs))


def csv_rows(data: bytes) -> bytes:
    """Read CSV with a header: a column is an input, its values are texts."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid(f"It is no UTF-8 at byte {error.start}") from None
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        return _written({}, _csv_rows(csv.reader(io.StringIO(text, newline=""), strict=True)))
    finally:
        csv.field_size_limit(before)


def _csv_rows(reader: Any) -> Iterator[dict[str, Any]]:
    faults, count = Faults(), 0
    try:
        header: list[str] = next(reader, [])
        _require_header(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                reason = (
                    f"It has {len(cells)} values, in line {reader.line_num}; the header has {len(header)}"
                )
                faults.append(Fault(f"rows[{count}]", reason))
            count += 1
            yield {"inputs": dict(zip(header, cells, strict=False))}
    except csv.Error as error:
        faults.append(Fault(f"rows[{count}]", f"No CSV, in line {reader.line_num}: {error}"))
    if faults:
        raise InvalidRequest(MESSAGE, faults=faults.told())


def _require_header(header: list[str]) -> None:
    faults = Faults()
    if not header:
        raise _invalid("It is empty; its first line names the inputs")
    for place, name in enumerate(header):
        if not name.strip():
            faults.append(Fault(f"header[{place}]", "A column needs a name"))
        elif name in header[:place]:
            faults.append(Fault(f"header[{place}]", f"There are two columns {name!r}"))
    if faults:
        raise InvalidRequest(MESSAGE, faults=faults.told())


def json_lines_rows(data: bytes) -> bytes:
    """Read JSON lines: each is an object of inputs, or has them in ``inputs``, with ``expected`` beside."""

    def given() -> Iterator[dict[str, Any]]:
        faults, count = Faults(), 0
        for number, line in enumerate(data.splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(well_formed_json(line))
                if not isinstance(row, dict):
                    raise ValueError("it is no object")  # noqa: TRY004, TRY301 - told like the others
                yield _row(row)
            except ValueError as error:
                faults.append(Fault(f"rows[{count}]", f"No row of inputs, in line {number}: {error}"))
            count += 1
        if faults:
            raise InvalidRequest(MESSAGE, faults=faults.told())

    return _written({}, given())


def _row(row: dict[str, Any]) -> dict[str, Any]:
    whole = isinstance(row.get("inputs"), dict) and row.keys() <= {"inputs", "expected"}
    return row if whole else {"inputs": row}


def parquet_rows(data: bytes) -> bytes:
    """Read Parquet: a column is an input. What JSON has no word for becomes a text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        if file.metadata.num_rows > MOST_ROWS:
            raise _too_many_rows(file.metadata.num_rows)
        return _written(
            {}, ({"inputs": row} for part in file.iter_batches(1_000) for row in part.to_pylist())
        )
    except (pa.ArrowException, OSError) as error:
        raise _invalid(f"No Parquet: {str(error)[:200]}") from None


READERS: Mapping[str, Callable[[bytes], bytes]] = {
    "application/json": json_rows,
    CSV: csv_rows,
    JSON_LINES: json_lines_rows,
    "application/jsonl": json_lines_rows,
    "application/x-jsonlines": json_lines_rows,
    PARQUET: parquet_rows,
    "application/x-parquet": parquet_rows,
}
"""What reads a body, by its media type."""


def reader_of(content_type: str) -> Callable[[bytes], bytes]:
    """Give what reads a body of a type; JSON is what none is said of.

    Raises
    ------
    UnsupportedMedia
        Nothing does, or not here.
    """
    kind = content_type.partition(";")[0].strip().lower() or "application/json"
    reader = READERS.get(kind)
    if reader is None:
        raise UnsupportedMedia(f"A batch is no {kind[:100]}; send JSON, {CSV}, {JSON_LINES} or {PARQUET}")
    if reader is parquet_rows and find_spec("pyarrow") is None:
        raise UnsupportedMedia(
            f"This server reads no Parquet: pyarrow is not installed there; send {CSV} or {JSON_LINES}"
        )
    return reader


def is_small(reader: Callable[[bytes], bytes], data: bytes) -> bool:
    """Say whether something is read in a thread, and not in a process of its own."""
    return len(data) <= SMALL and reader is not parquet_rows


def _written(head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write what was read."""
    out, values = io.BytesIO(), 0
    out.write(orjson.dumps(head) + b"\n")
    for count, row in enumerate(rows, 1):
        values += len(row["inputs"])
        if count > MOST_ROWS:
            raise _too_many_rows(count)
        if values > MOST_VALUES:
            raise _invalid(f"It has more than {MOST_VALUES:,} values; send less at a time")
        if len(row["inputs"]) > 1_000:
            raise InvalidRequest(
                MESSAGE, faults=[Fault(f"rows[{count - 1}]", "It has more than 1,000 inputs")]
            )
        out.write(_line(row, count - 1) + b"\n")
    return out.getvalue()


def _line(row: Mapping[str, Any], index: int) -> bytes:
    try:
        return orjson.dumps(row, default=_text)
    except orjson.JSONEncodeError:
        pass
    try:
        return orjson.dumps(well_formed(dict(row)), default=_text)
    except orjson.JSONEncodeError as error:
        reason = f"It cannot be written as JSON: {error}; at most {MOST_NESTING} levels, and 64 bits a number"
        raise InvalidRequest(MESSAGE, faults=[Fault(f"rows[{index}]", reason)]) from None


def _text(value: object) -> str:
    """Write what JSON has no word for: a decimal, a span of time."""
    if isinstance(value, bytes):
        raise TypeError("bytes are no input")
    return str(value)


def _too_many_rows(count: int) -> InvalidRequest:
    return _invalid(
        f"It has {count:,} rows or more, and may have {MOST_ROWS:,}; make several batches of them"
    )


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(MESSAGE, faults=[Fault("body", reason)])
