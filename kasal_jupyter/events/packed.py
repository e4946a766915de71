"""Journals that are compressed: gzip files that can be read from many places.

``zcat`` reads such a file. Each of its members has the same number of lines, and tells in its head how long
it is, so that a line is found by hopping from head to head, and unpacked from its member's beginning.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, BinaryIO, cast

_HEAD = struct.Struct("<4sIBBH2sHQ")
"""A member's head, with one extra field: how long the member is."""

_TAIL = struct.Struct("<II")

_START, _FIELD = b"\x1f\x8b\x08\x04", b"KJ"

_NO_TIME, _NO_REMARK, _ANY_SYSTEM = 0, 0, 255

_LEVEL = 6


def packed_path(path: Path) -> Path:
    """Give where a journal is when it is compressed."""
    return path.with_name(f"{path.name}.gz")


def has_journal(path: Path) -> bool:
    """Say whether a journal is there, compressed or not."""
    return path.exists() or packed_path(path).exists()


def pack(lines: Iterable[bytes], out: IO[bytes], stride: int) -> None:
    """Write lines compressed, so many a member; ``out`` can seek."""
    rest = iter(lines)
    for first in rest:
        _write_member(out, chain([first], islice(rest, stride - 1)))


def members(path: Path) -> list[int]:
    """Give at which byte of a compressed journal each member begins.

    Raises
    ------
    OSError
        It cannot be read, or is none.
    """
    begins, at = [], 0
    with packed_path(path).open("rb") as file:
        while head := file.read(_HEAD.size):
            start, *_, field, _length, size = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"",) * 8
            if start != _START or field != _FIELD or size <= _HEAD.size:
                raise gzip.BadGzipFile("it is damaged")
            begins.append(at)
            at += size
            file.seek(at)
    return begins


@contextmanager
def unpacking(path: Path, begin: int = 0) -> Iterator[BinaryIO]:
    """Read a compressed journal from where a member begins.

    Raises
    ------
    FileNotFoundError
        It is not there.
    OSError
        It cannot be read, or is damaged.
    """
    try:
        with packed_path(path).open("rb") as file:
            file.seek(begin)
            with gzip.GzipFile(fileobj=file, mode="rb") as lines:
                yield cast("BinaryIO", lines)
    except (EOFError, zlib.error) as error:
        raise gzip.BadGzipFile(f"it is damaged: {error}") from error


def open_plain(path: Path) -> BinaryIO:
    """Open a journal to be read at any place; of one that is compressed, a copy that nobody else sees.

    Raises
    ------
    OSError
        It cannot be read.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        with ExitStack() as undo, unpacking(path) as lines:
            # Where journals have room, so has this; it is gone with whoever reads it.
            plain = undo.enter_context(tempfile.TemporaryFile(dir=path.parent))
            shutil.copyfileobj(lines, plain, 1 << 18)
            plain.seek(0)
            undo.pop_all()
            return cast("BinaryIO", plain)


def _write_member(out: IO[bytes], lines: Iterable[bytes]) -> None:
    begin = out.tell()
    out.write(_head(0))
    packer, checksum, size = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS), 0, 0
    for line in lines:
        checksum, size = zlib.crc32(line, checksum), size + len(line)
        out.write(packer.compress(line))
    out.write(packer.flush())
    out.write(_TAIL.pack(checksum, size & 0xFFFFFFFF))
    end = out.tell()
    out.seek(begin)
    out.write(_head(end - begin))
    out.seek(end)


def _head(size: int) -> bytes:
    field = struct.calcsize("<2sHQ")
    return _HEAD.pack(_START, _NO_TIME, _NO_REMARK, _ANY_SYSTEM, field, _FIELD, struct.calcsize("<Q"), size)
