"""The files that a crew comes in: one text, several, a zip file, a folder. All bounded, none executed."""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.schemas.exchange import MOST_FILES

MESSAGE = "The crew cannot be imported"

MOST_BYTES = 1_000_000
"""Of one file."""

MOST_BYTES_IN_ALL = 8_000_000
"""Of all files that are read."""

MOST_ENTRIES = 20_000
"""Entries of a zip file, or of a folder, those included that are passed over."""

READ = (".yaml", ".yml", ".json", ".jsonc", ".py", ".toml")
"""Endings of files that may say something about a crew."""

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError),
    # A damaged bzip2 is an OSError; of names, sizes and versions come the rest.
    *(OSError, RuntimeError, ValueError, OverflowError, LookupError),
)
"""What reading a zip file may raise, by the way its entries are packed."""

_PASSED_OVER = frozenset({"node_modules", "__pycache__", "venv", "site-packages", "__MACOSX"})
"""Folders that hold other people's files."""


def refused(file: str, reason: str) -> InvalidRequest:
    """Make the error for files that cannot be taken at all."""
    return InvalidRequest(f"{MESSAGE}: {file}: {reason}", faults=[Fault(file, reason)])


def files_of_mapping(files: Mapping[str, str]) -> dict[str, str]:
    """Take files that were given by their paths.

    Raises
    ------
    InvalidRequest
        A path leads out of the folder, or there is too much.
    """
    found = _Files()
    for path, text in files.items():
        _within(path)
        found.add(path, text)
    return found.texts


def files_of_zip(data: bytes) -> dict[str, str]:
    """Read what may say something about a crew from a zip file, in memory.

    Raises
    ------
    InvalidRequest
        It is no zip file, it is locked, a path leads out of it, or there is too much in it.
    """
    found = _Files()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES:
                raise refused("archive", f"it has more than {MOST_ENTRIES:,} entries; leave some out")
            for entry in entries:
                _within(entry.filename)
                if entry.is_dir() or not _wanted(PurePosixPath(_slashed(entry.filename))):
                    continue
                if entry.flag_bits & 1:
                    raise refused(entry.filename, "it is encrypted; pack it without a password")
                with archive.open(entry) as file:
                    # What the entry says of its own size is not believed.
                    content = file.read(MOST_BYTES + 1)
                found.add(entry.filename, _text(entry.filename, content))
    except _DAMAGED as error:
        raise refused("archive", f"it is no zip file that can be read: {error}") from None
    return found.texts


def files_of_folder(folder: Path) -> dict[str, str]:
    """Read what may say something about a crew from a folder; links are not followed.

    Raises
    ------
    InvalidRequest
        There is too much in it, or something cannot be read.
    """
    found = _Files()
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(names):
            seen += 1
            if seen > MOST_ENTRIES:
                raise refused(str(folder), f"it has more than {MOST_ENTRIES:,} files; name the project's own")
            path = Path(root, name)
            shown = path.relative_to(folder).as_posix()
            if path.is_symlink() or not _wanted(PurePosixPath(shown)):
                continue
            try:
                with path.open("rb") as file:
                    content = file.read(MOST_BYTES + 1)
            except OSError as error:
                raise refused(shown, f"it cannot be read: {error.strerror}") from None
            found.add(shown, _text(shown, content))
    return found.texts


def files_of(path: Path) -> dict[str, str]:
    """Read a folder, a zip file or one file of this machine.

    Raises
    ------
    InvalidRequest
        It is not there, cannot be read, or is too large; of one file without faults, the message has it all.
    """
    if path.is_dir():
        # A project without a name of its own has its folder's.
        root = path.resolve().name or "crew"
        return {f"{root}/{name}": text for name, text in files_of_folder(path).items()}
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES_IN_ALL + 1)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from None
    if content.startswith(b"PK"):
        if len(content) > MOST_BYTES_IN_ALL:
            raise refused(path.name, f"it is larger than {MOST_BYTES_IN_ALL:,} bytes")
        return files_of_zip(content)
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"{path} is larger than {MOST_BYTES:,} bytes, which no crew is")
    try:
        return {path.name: content.decode("utf-8-sig")}
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is no text in UTF-8") from None


def _wanted(path: PurePosixPath) -> bool:
    return path.suffix.lower() in READ and not any(_hidden(part) for part in path.parts)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def _slashed(path: str) -> str:
    """Give a path with slashes: Windows writes it with backslashes, also into its zip files."""
    return path.replace("\\", "/")


def _within(path: str) -> None:
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or ".." in parts or "\0" in path or parts[0].endswith(":"):
        raise refused(path, "its path leads out of the project; pack the files with paths inside of it")


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        if len(content) > MOST_BYTES:
            raise _too_large(path) from None
        raise refused(path, "it is no text in UTF-8") from None


@dataclass(slots=True)
class _Files:
    """Files as they are read, and what they have in all."""

    texts: dict[str, str] = field(default_factory=dict)
    characters: int = 0

    def add(self, path: str, text: str) -> None:
        path = _slashed(path)
        if path in self.texts:
            raise refused(path, "it is there twice; leave one out")
        self.texts[path] = _checked(path, text)
        self.characters += len(text)
        if len(self.texts) > MOST_FILES:
            raise refused(path, f"there are more than {MOST_FILES} files; leave out what is not the crew's")
        if self.characters > MOST_BYTES_IN_ALL:
            raise refused(path, f"the files have more than {MOST_BYTES_IN_ALL:,} bytes in all")


def _checked(path: str, text: str) -> str:
    if len(text) > MOST_BYTES:
        raise _too_large(path)
    return text


def _too_large(path: str) -> InvalidRequest:
    return refused(path, f"it is larger than {MOST_BYTES:,} bytes")
