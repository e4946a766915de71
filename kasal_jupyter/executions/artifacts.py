"""Artifacts: the files that a run has written in its folder.

What a run writes is other people's: an agent may leave a link there that leads to the server's own keys. No
link is followed, at no place of a path and not in between two looks (see
:mod:`kasal_jupyter.tools.workspace`).
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from mimetypes import guess_type
from pathlib import Path
from typing import BinaryIO

from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.executions.files import RUN_LOGS
from kasal_jupyter.schemas.executions import ArtifactInfo
from kasal_jupyter.tools.workspace import Folder
from kasal_jupyter.wellformed import well_formed

INTERNAL = frozenset(RUN_LOGS)
"""What stands in a run's folder and is nothing that its agents have made."""

MAX_FILES = 10_000
"""Files that are looked at; what a run writes beyond is not listed."""

MAX_DEPTH = 32
"""Folders within folders that are looked into."""

MAX_ZIP_BYTES = 1 << 30
"""Most bytes that are packed into one archive."""

CHUNK = 1 << 18
"""Bytes that are read at once."""

_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part")
"""What a file is called while a tool writes it."""


@dataclass(slots=True)
class OpenArtifact:
    """A file that is being read.

    Attributes
    ----------
    info
        What it is; its size is that of the moment when it was opened.
    file
        The file.
    """

    info: ArtifactInfo
    file: BinaryIO

    def chunks(self) -> Iterator[bytes]:
        """Give the content, and close the file: as many bytes as it had, though the run goes on writing."""
        left = self.info.size
        with self.file:
            while left and (data := self.file.read(min(CHUNK, left))):
                left -= len(data)
                yield data


def list_artifacts(folder: Path) -> list[ArtifactInfo]:
    """Give a run's files, by name; none where it has no folder (any more)."""
    with suppress(OSError), Folder(folder) as opened:
        files = islice(_walk(opened, "", 0), MAX_FILES)
        return [_info(name, about) for name, about in files if name not in INTERNAL]
    return []


def open_artifact(folder: Path, name: str) -> OpenArtifact:
    """Open one of a run's files.

    Parameters
    ----------
    folder
        The run's.
    name
        Its path below the folder, with slashes.

    Raises
    ------
    NotFound
        There is no such file: it is none, it is not the agents', or a link is on the way.
    """
    *folders, last = name.split("/")
    missing = NotFound(f"The run has written no file {name!r}")
    if name in INTERNAL or not all(map(is_plain, [*folders, last])):
        raise missing
    with suppress(OSError), ExitStack() as opened:
        below = opened.enter_context(Folder(folder))
        for part in folders:
            below = opened.enter_context(below.subfolder(part))
        # Looked at before as well: to open a device may already do something.
        if _is_file(below.look(last)):
            file = opened.enter_context(below.read(last))
            about = os.fstat(file.fileno())
            if _is_file(about):
                # It stays open; the folders on the way do not.
                return OpenArtifact(_info(name, about), os.fdopen(os.dup(file.fileno()), "rb"))
    raise missing


def zip_artifacts(folder: Path) -> Iterator[bytes]:
    """Give a run's files as a ZIP archive, piece by piece; nothing of it is held in memory.

    Raises
    ------
    Conflict
        They are too large for one archive.
    """
    infos = list_artifacts(folder)
    if sum(info.size for info in infos) > MAX_ZIP_BYTES:
        raise Conflict(f"The files have more than {MAX_ZIP_BYTES >> 20} MiB; get them one by one")
    return zipped((info.name, info.modified, artifact_pieces(folder, info.name)) for info in infos)


def artifact_pieces(folder: Path, name: str) -> Iterator[bytes]:
    """Give a file's content; nothing where the run has deleted it meanwhile."""
    with suppress(NotFound):
        yield from open_artifact(folder, name).chunks()


def zipped(entries: Iterable[tuple[str, str, Iterator[bytes]]]) -> Iterator[bytes]:
    """Give a ZIP archive, piece by piece, of names, times and contents."""
    out = _Pieces()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, modified, pieces in entries:
            about = zipfile.ZipInfo(name, _zip_time(modified))
            about.compress_type = zipfile.ZIP_DEFLATED
            about.external_attr = 0o600 << 16
            with archive.open(about, "w") as packed:
                for data in pieces:
                    packed.write(data)
                    yield from out.taken()
    yield from out.taken()


class _Pieces:
    """A file that keeps what is written until it is taken; it cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is nothing behind it."""

    def close(self) -> None:
        """Do nothing, likewise."""

    def taken(self) -> Iterator[bytes]:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            yield b"".join(pieces)


def _walk(folder: Folder, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Give the names of the regular files in and below a folder, with what they are."""
    for name in folder.names():
        # What goes away meanwhile is left out.
        with suppress(OSError):
            about = folder.look(name)
            if not is_plain(name) or _UNFINISHED.fullmatch(name):
                continue
            if _is_file(about):
                yield f"{prefix}{name}", about
            elif stat.S_ISDIR(about.st_mode) and depth < MAX_DEPTH:
                with folder.subfolder(name) as below:
                    yield from _walk(below, f"{prefix}{name}/", depth + 1)


def is_plain(part: str) -> bool:
    """Say whether a part of a path is a name, and nothing that leads elsewhere."""
    return part not in {"", ".", ".."} and not any(char in part for char in "\0/\\") and _is_text(part)


def _is_text(name: str) -> bool:
    # A name in no encoding cannot be told in JSON, and not be asked for.
    return well_formed(name) == name


def _is_file(about: os.stat_result) -> bool:
    # A second name of a file, a hard link, may be one of something outside.
    return stat.S_ISREG(about.st_mode) and about.st_nlink <= 1


def _info(name: str, about: os.stat_result) -> ArtifactInfo:
    modified = datetime.fromtimestamp(int(about.st_mtime), UTC)
    return ArtifactInfo(
        name=name,
        size=about.st_size,
        media_type=guess_type(name)[0] or "application/octet-stream",
        modified=modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _zip_time(modified: str) -> tuple[int, int, int, int, int, int]:
    moment = datetime.fromisoformat(modified)
    # The format knows no time before.
    return max(moment.timetuple()[:6], (1980, 1, 1, 0, 0, 0))
