"""The index: one file a crew, with what it remembers and knows, and the vectors to find it by.

::

    8 bytes   what it is, and in which version
    4 bytes   the length of the header
    header    JSON: what it was made from, the embedder, and where each section begins and ends
    sections  kinds     a byte a record: its place in KINDS
              digests   16 bytes a record
              offsets   8 bytes a record and one more: where its text begins
              texts     the records
              factors   4 bytes a record: a float
              vectors   a byte a dimension and record: the offline embedder's
              factors2, vectors2   the same of another embedder, where one is set; a factor of 0 is no vector
              ends      4 bytes a record: where its bag ends, the bags being one after another
              bags      of each record the numbers of its stems, 4 bytes each, and then what each counts
                        there, in 20ths, a byte each
              stems, counts   4 bytes each: in how many records a stem stands, sorted by the stem's number

It is derived from the store, and written anew, aside and renamed, when that has changed: a run that has it
open goes on with what it began with. Nothing is mapped: a search reads vectors in blocks, into one buffer,
and the texts of what it has found.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from kasal_jupyter.memory.record import Record

MAGIC = b"KASALMI1"

FILE_NAME = "index"
"""The file in a crew's folder."""

DIGEST = 16
"""Bytes of a digest."""

BAG_STEP = 5
"""Bytes of a stem in a bag."""

WEIGHT_STEP = 0.05
"""What a unit of a stem's weight is."""

_MOST_HEADER = 65_536


class IndexUnreadable(Exception):
    """A file is no index, or one of another version; it can be made again."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an index says of itself.

    Attributes
    ----------
    revision
        Of the crew's memories it was made from.
    count
        How many records it has.
    embedder
        Whose the second vectors are; empty where there are none.
    dimensions
        Theirs.
    missing
        How many records have no second vector.
    remark
        Why.
    sections
        Where each begins, from the start of the file, and how many bytes it has.
    """

    revision: str
    count: int
    embedder: str
    dimensions: int
    missing: int
    remark: str
    sections: Mapping[str, tuple[int, int]]


class Index:
    """An index that is open for reading, by any number of threads.

    Parameters
    ----------
    file
        The file, opened without a buffer.

    Raises
    ------
    IndexUnreadable
        It is none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.header = self._read_header()

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Open a crew's index; None where there is none.

        Raises
        ------
        IndexUnreadable
            It cannot be read.
        """
        try:
            file = (folder / FILE_NAME).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IndexUnreadable(str(error.strerror)) from error
        try:
            return cls(file)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def section(self, name: str) -> bytes:
        """Give a whole section."""
        _, length = self.header.sections[name]
        data = bytearray(length)
        self.read_into(name, 0, data)
        return bytes(data)

    def read_into(self, name: str, at: int, buffer: Any) -> None:
        """Fill a buffer from a place in a section.

        Raises
        ------
        IndexUnreadable
            The file ends before.
        """
        view = memoryview(buffer).cast("B")
        with self._lock:
            self._file.seek(self.header.sections[name][0] + at)
            while view:
                got = self._file.readinto(view)  # type: ignore[attr-defined]
                if not got:
                    raise IndexUnreadable("it ends too early")
                view = view[got:]

    def raw(self, row: int) -> bytes:
        """Give a record as it is stored."""
        ends = array("Q", bytes(16))
        self.read_into("offsets", 8 * row, ends)
        data = bytearray(ends[1] - ends[0])
        self.read_into("texts", ends[0], data)
        return bytes(data)

    def record(self, row: int) -> Record:
        """Give a record."""
        return Record.load(self.raw(row))

    def _read_header(self) -> Header:
        head = self._file.read(12)
        if len(head) < 12 or head[:8] != MAGIC:
            raise IndexUnreadable("it is no index of this version")
        length = int.from_bytes(head[8:], "little")
        if length > _MOST_HEADER:
            raise IndexUnreadable("its header is too long")
        try:
            fields = orjson.loads(self._file.read(length))
            size = self._file.seek(0, 2)
            sections, at = {}, 12 + length
            for name, bytes_ in fields.pop("sections"):
                sections[name] = (at, bytes_)
                at += bytes_
            header = Header(**fields, sections=sections)
        except (ValueError, TypeError) as error:
            raise IndexUnreadable("its header is broken") from error
        if at != size:
            raise IndexUnreadable("it is not whole")
        return header
