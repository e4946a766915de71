"""Making a crew's index: what is new gets its vectors, the rest is taken over from the index before."""

from __future__ import annotations

import os
import secrets
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.memory.embedder import BATCH, SECONDS, EmbedderFailed, RemoteEmbedder
from kasal_jupyter.memory.index import (
    BAG_STEP,
    DIGEST,
    FILE_NAME,
    MAGIC,
    WEIGHT_STEP,
    Index,
    IndexUnreadable,
)
from kasal_jupyter.memory.record import KINDS, Record, digest_of
from kasal_jupyter.memory.vectors import DIMENSIONS, Packed, embed_offline, pack
from kasal_jupyter.memory.words import number_of, stems_of

_NOTHING = Packed(b"", 0.0)


@dataclass(slots=True)
class _Row:
    record: Record
    raw: bytes
    digest: bytes
    bag: bytes = b""
    words: Packed = _NOTHING
    vector: Packed = _NOTHING


@dataclass(slots=True)
class _Before:
    """What the index before has, by the digests of its records."""

    rows: dict[bytes, int] = field(default_factory=dict)
    ends: array[int] = field(default_factory=lambda: array("I"))
    bags: bytes = b""
    factors: array[float] = field(default_factory=lambda: array("f"))
    vectors: bytes = b""
    factors2: array[float] = field(default_factory=lambda: array("f"))
    vectors2: bytes = b""
    dimensions: int = 0
    counts: Counter[int] = field(default_factory=Counter)

    def bag(self, row: int) -> bytes:
        return self.bags[BAG_STEP * (self.ends[row - 1] if row else 0) : BAG_STEP * self.ends[row]]

    def words(self, row: int) -> Packed:
        return Packed(self.vectors[row * DIMENSIONS : (row + 1) * DIMENSIONS], self.factors[row])

    def vector(self, row: int) -> Packed:
        if not self.dimensions or not self.factors2[row]:
            return _NOTHING
        return Packed(self.vectors2[row * self.dimensions : (row + 1) * self.dimensions], self.factors2[row])


def build_index(
    folder: Path,
    records: Iterable[Record],
    revision: str,
    embedder: RemoteEmbedder | None,
    *,
    seconds: float,
) -> None:
    """Write a crew's index, and put it in the place of the one before.

    Parameters
    ----------
    folder
        The crew's folder, which is made where there is none.
    records
        All that the crew remembers and knows.
    revision
        Of what the records were read from.
    embedder
        What makes the second vectors; None for the offline embedder alone.
    seconds
        How long another embedder may take in all; what has no vector by then gets it the next time.

    Raises
    ------
    OSError
        It could not be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = [_Row(record, raw := record.dump(), digest_of(raw)) for record in records]
    try:
        with _opened(folder) as index:
            before = _before(index, embedder)
        _forget_gone(before, {row.digest for row in rows})
    except _NoneBefore:
        before = _Before()
    for row in rows:
        if (known := before.rows.get(row.digest)) is not None:
            row.words, row.vector = before.words(known), before.vector(known)
            row.bag = before.bag(known)
        else:
            stems = stems_of(row.record.text)
            row.words = embed_offline(stems)
            numbers = array("I", map(number_of, stems))
            weights = bytes(min(255, max(1, round(weight / WEIGHT_STEP))) for weight in stems.values())
            row.bag = numbers.tobytes() + weights
            before.counts.update(set(numbers))
    dimensions, remark = _embed(rows, embedder, before.dimensions, seconds) if embedder else (0, "")
    _write(
        folder,
        rows,
        before.counts,
        revision=revision,
        embedder=embedder.name if embedder else "",
        dimensions=dimensions,
        remark=remark,
    )


class _NoneBefore(Exception):
    """There is no index yet, or none that can be read."""


def _opened(folder: Path) -> Index:
    try:
        index = Index.open(folder)
    except IndexUnreadable as error:
        raise _NoneBefore from error
    if index is None:
        raise _NoneBefore
    return index


def _before(index: Index, embedder: RemoteEmbedder | None) -> _Before:
    header = index.header
    try:
        digests = index.section("digests")
        before = _Before(
            rows={digests[DIGEST * row : DIGEST * (row + 1)]: row for row in range(header.count)},
            ends=_whole_numbers(index.section("ends")),
            bags=index.section("bags"),
            factors=_floats(index.section("factors")),
            vectors=index.section("vectors"),
        )
        if embedder is not None and embedder.name == header.embedder:
            before.factors2 = _floats(index.section("factors2"))
            before.vectors2 = index.section("vectors2")
            before.dimensions = header.dimensions
        stems, counts = _whole_numbers(index.section("stems")), _whole_numbers(index.section("counts"))
    except (IndexUnreadable, KeyError, ValueError) as error:
        raise _NoneBefore from error
    before.counts = Counter(dict(zip(stems, counts, strict=True)))
    return before


def _forget_gone(before: _Before, kept: set[bytes]) -> None:
    """Take the words of what is not remembered any more out of the counts."""
    for digest, row in before.rows.items():
        if digest not in kept:
            bag = before.bag(row)
            before.counts.subtract(set(_whole_numbers(bag[: 4 * (len(bag) // BAG_STEP)])))


def _embed(
    rows: Sequence[_Row], embedder: RemoteEmbedder, dimensions: int, seconds: float
) -> tuple[int, str]:
    """Ask for the vectors that are missing; give their dimensions, and why some are still missing."""
    missing = [row for row in rows if not row.vector.data]
    until = time.monotonic() + seconds
    for at in range(0, len(missing), BATCH):
        some = missing[at : at + BATCH]
        left = until - time.monotonic()
        if left <= 0:
            return dimensions, f"{embedder.name} is still at work"
        try:
            vectors = embedder.embed([row.record.text for row in some], seconds=min(left, SECONDS))
            packed = [pack(vector) for vector in vectors]
        except (EmbedderFailed, ValueError) as error:
            return dimensions, str(error)
        if dimensions and len(vectors[0]) != dimensions:
            # Another model answers under the same name: what the one before has made is no use.
            for row in rows:
                row.vector = _NOTHING
            return _embed(rows, embedder, 0, left)
        dimensions = len(vectors[0])
        for row, vector in zip(some, packed, strict=True):
            row.vector = vector
    return dimensions, ""


def _write(folder: Path, rows: Sequence[_Row], counts: Counter[int], **header: Any) -> None:
    offsets = array("Q", [0])
    for row in rows:
        offsets.append(offsets[-1] + len(row.raw))
    ends = array("I", accumulate(len(row.bag) // BAG_STEP for row in rows))
    stems = sorted(number for number, count in counts.items() if count > 0)
    sections: list[tuple[str, bytes]] = [
        ("kinds", bytes(KINDS.index(row.record.kind) for row in rows)),
        ("digests", b"".join(row.digest for row in rows)),
        ("offsets", offsets.tobytes()),
        ("texts", b"".join(row.raw for row in rows)),
        ("factors", array("f", (row.words.factor for row in rows)).tobytes()),
        ("vectors", b"".join(row.words.data for row in rows)),
        ("ends", ends.tobytes()),
        ("bags", b"".join(row.bag for row in rows)),
        ("stems", array("I", stems).tobytes()),
        ("counts", array("I", (counts[number] for number in stems)).tobytes()),
    ]
    if header["embedder"]:
        empty = bytes(header["dimensions"])
        sections += [
            ("factors2", array("f", (row.vector.factor for row in rows)).tobytes()),
            ("vectors2", b"".join(row.vector.data or empty for row in rows)),
        ]
    head = orjson.dumps(
        {
            **header,
            "count": len(rows),
            "missing": sum(not row.vector.data for row in rows) if header["embedder"] else 0,
            "sections": [(name, len(data)) for name, data in sections],
        }
    )
    aside = folder / f"{FILE_NAME}.{secrets.token_hex(8)}"
    try:
        with open(aside, "xb", opener=_private) as file:
            file.write(MAGIC + len(head).to_bytes(4, "little") + head)
            file.writelines(data for _, data in sections)
        aside.replace(folder / FILE_NAME)
    finally:
        aside.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _floats(data: bytes) -> array[float]:
    floats = array("f")
    floats.frombytes(data)
    return floats


def _whole_numbers(data: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(data)
    return numbers
