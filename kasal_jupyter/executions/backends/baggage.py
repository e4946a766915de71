"""What a run on another machine needs sent along, and takes instead of this machine's files.

A run's spec names files of the server: its own record and folder where it was put away, the journals of runs
that it takes its answers from, with the files that those have written, and what its crew remembers. They are
sent in pieces, and the run is told where they are there.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kasal_jupyter.events.packed import open_plain
from kasal_jupyter.executions.artifacts import list_artifacts, open_artifact
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.recall import reading
from kasal_jupyter.schemas.base import clock_anchor
from kasal_jupyter.schemas.spec import RunSource, RunSpec

PIECE = 1 << 20
"""Bytes that are sent at once."""

FOLDER = "folder"
"""The run's own folder, in what it has on its host."""

_MEMORY = "memory.db"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file.

    Attributes
    ----------
    name
        The file's path in what the run has there, with slashes.
    data
        What comes next of it.
    """

    name: str
    data: bytes


def packed(spec: RunSpec) -> Iterator[Piece]:
    """Give what a run needs, file after file, each from its beginning. It blocks."""
    if spec.own is not None:
        with open_plain(Path(spec.own.journal)) as file:
            yield from _lines(_own_journal(spec), islice(file, spec.own.until))
        yield from _files(FOLDER, Path(spec.folder))
    for at, source in enumerate(_sources(spec.source)):
        journal = Path(source.journal)
        with open_plain(journal) as file:
            yield from _pieces(f"{at}/{journal.name}", iter(lambda: file.read(PIECE), b""))
        theirs = journal.with_suffix("")
        if spec.own is None and str(theirs) != spec.folder and theirs.is_dir():
            yield from _files(f"{at}/{theirs.name}", theirs)
    if spec.memory is not None:
        yield from _memory(Path(spec.memory.file), spec.crew.id)


def settled(spec: RunSpec, room: Path, *, skew: float) -> RunSpec:
    """Give a run's spec as it holds on its host.

    Parameters
    ----------
    spec
        As the server has it.
    room
        Where what was sent along is.
    skew
        Seconds that the server's clock is ahead of this machine's.
    """
    own, memory = spec.own, spec.memory
    if own is not None:
        own = own.model_copy(update={"journal": str(room / _own_journal(spec))})
    if memory is not None:
        memory = memory.model_copy(update={"file": str(room / _MEMORY)})
    source: RunSource | None = None
    for at, each in reversed(list(enumerate(_sources(spec.source)))):
        journal = str(room / str(at) / Path(each.journal).name)
        source = each.model_copy(update={"journal": journal, "before": source})
    there = {
        "folder": str(room / FOLDER),
        "own": own,
        "memory": memory,
        "source": source,
        "clock": clock_anchor() + skew,
    }
    return spec.model_copy(update=there)


def unpack(piece: Piece, room: Path, *, first: bool = False) -> None:
    """Put a piece at the end of its file; the ``first`` in the place of what was there. It blocks.

    Raises
    ------
    ValueError
        It names no place there.
    """
    parts = piece.name.split("/")
    if not all(part not in {"", ".", ".."} and "\\" not in part and "\0" not in part for part in parts):
        raise ValueError(f"{piece.name!r} is no file's name")
    path = room.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags | (os.O_TRUNC if first else 0), 0o600)
    with os.fdopen(handle, "ab") as file:
        file.write(piece.data)


def _own_journal(spec: RunSpec) -> str:
    assert spec.own is not None
    return f"own/{Path(spec.own.journal).name}"


def _sources(source: RunSource | None) -> Iterator[RunSource]:
    while source is not None:
        yield source
        source = source.before


def _files(name: str, folder: Path) -> Iterator[Piece]:
    for info in list_artifacts(folder):
        yield from _pieces(f"{name}/{info.name}", open_artifact(folder, info.name).chunks())


def _lines(name: str, lines: Iterator[bytes]) -> Iterator[Piece]:
    while some := b"".join(islice(lines, 256)):
        yield Piece(name, some)


def _pieces(name: str, chunks: Iterator[bytes]) -> Iterator[Piece]:
    yield Piece(name, b"")  # An empty file is one as well.
    for data in chunks:
        yield Piece(name, data)


def _memory(store: Path, crew_id: str) -> Iterator[Piece]:
    """Give a file of what one crew remembers, and nobody else does."""
    with tempfile.TemporaryDirectory(prefix="kasal-memory-") as folder:
        path = Path(folder) / _MEMORY
        with closing(sqlite3.connect(path)) as copy, copy, reading(store)() as source:
            tables.create_tables(copy)
            tables.copy_crew(source, copy, crew_id)
        with path.open("rb") as file:
            yield from _pieces(_MEMORY, iter(lambda: file.read(PIECE), b""))
