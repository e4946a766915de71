"""The files that a run's tools can reach: its own folder, and folders that whoever runs the server allows.

No path leads out of them. Where a path really leads, links followed, is worked out first and looked at; then
it is walked once more from the top, name by name and without following any link. Whoever exchanges a folder
for a link between the two meets a refusal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from kasal_jupyter.tools.tool import ToolContext

MAX_FILE_BYTES = 10_000_000
"""Largest file that a tool writes."""

MAX_FOLDER_BYTES = 200_000_000
"""Most that the files of a run's folder may hold; no tool writes there any more."""

MAX_FILES = 2_000
"""Most files of a run's folder, likewise."""

MAX_DEPTH = 32
"""Most folders that a path which is written may have."""

LOG_NAME = "output.log"
"""What a run's process prints, in its folder: not for agents to read or to write."""

_REASONS = {
    errno.ENOENT: "There is no file or folder {path!r}.",
    errno.ENOTDIR: "There is no file or folder {path!r}.",
    errno.ELOOP: "{path!r} is outside the run's folder.",
    errno.EACCES: "{path!r} may not be used.",
    errno.EPERM: "{path!r} may not be used.",
    errno.ENAMETOOLONG: "The path is too long.",
    errno.ENOSPC: "There is no room left to write {path!r}.",
    errno.EISDIR: "{path!r} is a folder.",
}


class PathRefused(ValueError):
    """A path that no tool may use, or that leads to nothing; in words for the agent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is in a folder.

    Attributes
    ----------
    path
        From the folder that was listed, with slashes.
    kind
        ``file``, ``folder``, ``link``, or ``other``: a device, a pipe, a socket.
    size
        Bytes of a file.
    """

    path: str
    kind: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path really leads: a folder that may be used, and the names below it."""

    root: Path
    names: tuple[str, ...]


class Workspace:
    """What tools can reach.

    Parameters
    ----------
    folder
        The run's own folder; relative paths begin there.
    readable
        Folders besides it that may be read.
    """

    def __init__(self, folder: Path, readable: Sequence[str] = ()) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.readable = tuple(readable)

    @classmethod
    def of(cls, context: ToolContext) -> Workspace:
        """Give what the tools of a run can reach."""
        return cls(context.folder, context.settings.folders)

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file to read it.

        Raises
        ------
        PathRefused
            It is outside, it is not there, or it is no ordinary file.
        """
        with self._parent(self._readable(path), path) as (parent, name), _told(path):
            if name is None:
                raise PathRefused(f"{path!r} is a folder.")
            # Before it is opened: to open a device may already do something.
            _require_file(parent.look(name), path)
            file = parent.read(name)
        with file:
            about = os.fstat(file.fileno())
            _require_file(about, path)
            if self._is_log(about):
                raise PathRefused(f"{path!r} is the run's own log, which is not for agents.")
            yield file

    def is_folder(self, path: str) -> bool:
        """Say whether a path leads to a folder that may be read.

        Raises
        ------
        PathRefused
            It is outside.
        """
        place = self._readable(path)
        with _told(path):
            return place.root.joinpath(*place.names).is_dir()

    def entries(self, path: str = ".", depth: int = 1) -> Iterator[Entry]:
        """Give what is in a folder and, as many levels as are wanted, below it. No link is followed.

        Raises
        ------
        PathRefused
            It is outside, not there, or no folder.
        """
        with self._parent(self._readable(path), path) as (parent, name):
            if name is None:
                yield from self._inside(parent, "", depth)
                return
            with _told(path):
                folder = parent.subfolder(name)
            with folder:
                yield from self._inside(folder, "", depth)

    def write(self, path: str, data: bytes, *, append: bool = False) -> int:
        """Write a file of the run's folder, with the folders it needs; give its size.

        Whoever reads it sees it as it was before or as it is then. Where the file has another name too, its
        content stays there as it was.

        Raises
        ------
        PathRefused
            The path is outside of the run's folder, or there is no room for it.
        """
        place = self._place(path, (self.folder,))
        if not place.names:
            raise PathRefused(f"{path!r} is a folder.")
        if len(place.names) > MAX_DEPTH:
            raise PathRefused(f"A path may have {MAX_DEPTH} folders at the most.")
        if len(place.names) == 1 and place.names[0].casefold() == LOG_NAME:
            raise PathRefused(f"{path!r} is the run's own log, which is not for agents; use another name.")
        with _told(path):
            there = append and self.folder.joinpath(*place.names).exists()
        if there:
            with self.open(path) as file:
                data = file.read(MAX_FILE_BYTES + 1) + data
        if len(data) > MAX_FILE_BYTES:
            raise PathRefused(f"A file may have {MAX_FILE_BYTES:,} bytes at the most.")
        self._require_room(len(data))
        with self._parent(place, path, make=True) as (parent, name), _told(path):
            assert name is not None
            with contextlib.suppress(FileNotFoundError):
                _require_file(parent.look(name), path)
            parent.put(name, data)
        return len(data)

    def _readable(self, path: str) -> _Place:
        return self._place(path, (self.folder, *(Path(os.path.realpath(each)) for each in self.readable)))

    def _place(self, path: str, roots: Sequence[Path]) -> _Place:
        """Find out where a path leads, and whether it may be used."""
        if "\0" in path:
            raise PathRefused("A path has no null characters.")
        with _told(path):
            # It follows every link and every "..": what is compared is where the path really leads.
            real = Path(os.path.realpath(self.folder / path))
        for root in roots:
            if real.is_relative_to(root):
                return _Place(root, real.relative_to(root).parts)
        others = [str(root) for root in roots[1:]]
        more = f", or in {', '.join(others)}" if others else ""
        raise PathRefused(
            f"{path!r} is outside the run's folder; use a path inside it, e.g. notes.txt{more}."
        )

    @contextmanager
    def _parent(self, place: _Place, path: str, *, make: bool = False) -> Iterator[tuple[Folder, str | None]]:
        """Walk to the folder that a path's last name is in; give both. The name is None for a root itself."""
        with contextlib.ExitStack() as opened:
            with _told(path):
                folder = opened.enter_context(Folder(place.root))
                for name in place.names[:-1]:
                    folder = opened.enter_context(folder.subfolder(name, make=make))
            yield folder, place.names[-1] if place.names else None

    def _inside(self, folder: Folder, before: str, depth: int) -> Iterator[Entry]:
        for name in folder.names():
            path = f"{before}{name}"
            # What goes away, or is not ours to look at, is left out.
            with contextlib.suppress(OSError):
                about = folder.look(name)
                if stat.S_ISLNK(about.st_mode):
                    yield Entry(path, "link")
                elif stat.S_ISREG(about.st_mode):
                    if not self._is_log(about):
                        yield Entry(path, "file", about.st_size)
                elif not stat.S_ISDIR(about.st_mode):
                    yield Entry(path, "other")
                else:
                    yield Entry(path, "folder")
                    if depth > 1:
                        with folder.subfolder(name) as inner:
                            yield from self._inside(inner, f"{path}/", depth - 1)

    def _is_log(self, about: os.stat_result) -> bool:
        """Say whether a file is the run's log, by whatever name."""
        with contextlib.suppress(OSError):
            return os.path.samestat(about, (self.folder / LOG_NAME).lstat())
        return False

    def _require_room(self, more: int) -> None:
        total = more
        for count, entry in enumerate(self.entries(depth=MAX_DEPTH + 1), 1):
            total += entry.size
            if count >= MAX_FILES:
                raise PathRefused(f"The run's folder has {MAX_FILES:,} files, and may have no more.")
            if total > MAX_FOLDER_BYTES:
                raise PathRefused(f"The files of a run may have {MAX_FOLDER_BYTES:,} bytes in all.")


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Say in a sentence for the agent why the system refuses a path."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(
            error.errno or 0, "{path!r} cannot be used: " + (error.strerror or "it fails") + "."
        )
        raise PathRefused(reason.replace("{path!r}", repr(path))) from error


def _require_file(about: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise PathRefused(f"{path!r} is a folder.")
    if stat.S_ISLNK(about.st_mode):
        raise PathRefused(f"{path!r} is outside the run's folder.")
    if not stat.S_ISREG(about.st_mode):
        raise PathRefused(f"{path!r} is no ordinary file, but a device, a pipe or a socket.")


# An open folder: what is in it is reached by name alone, and no link is followed.

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# A pipe that is opened without waiting does not wait for somebody who writes to it.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

BY_HANDLE = {os.open, os.stat, os.mkdir, os.unlink, os.rename} <= os.supports_dir_fd
"""Whether the system can reach files from an open folder; Windows cannot."""


class Folder:
    """An open folder, by its handle where the system can do that; a context manager.

    Everything raises :class:`OSError` where the system refuses.

    Parameters
    ----------
    path
        Where it is; its last part must not be a link.
    handle
        Its handle, which is closed with this object; it is opened where not given.
    """

    def __init__(self, path: Path, handle: int | None = None) -> None:
        self.path = path
        if handle is None and BY_HANDLE:
            handle = os.open(path, _FOLDER)
        self._handle = handle
        if handle is None and (Path(os.path.realpath(path)) != path or not path.is_dir()):
            raise NotADirectoryError(errno.ENOTDIR, "no folder, or a link to one", str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def subfolder(self, name: str, *, make: bool = False) -> Folder:
        """Open a folder in it; make it before, where that is asked for and it is not there."""
        path = self.path / name
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._of(name), dir_fd=self._handle)
        if self._handle is None:
            return Folder(path)
        return Folder(path, os.open(name, _FOLDER, dir_fd=self._handle))

    def look(self, name: str) -> os.stat_result:
        """Say what a name stands for."""
        return os.stat(self._of(name), dir_fd=self._handle, follow_symlinks=False)

    def read(self, name: str) -> IO[bytes]:
        """Open a file in it."""
        return os.fdopen(os.open(self._of(name), _READ, dir_fd=self._handle), "rb")

    def put(self, name: str, data: bytes) -> None:
        """Write a file in it: aside, and then in the place of what was there."""
        aside = f".{secrets.token_hex(8)}.part"
        handle = os.open(self._of(aside), _NEW, 0o666, dir_fd=self._handle)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(self._of(aside), self._of(name), src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(self._of(aside), dir_fd=self._handle)
            raise

    def names(self) -> list[str]:
        """Give the names in it, sorted."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))  # noqa: PTH208 - a handle

    def _of(self, name: str) -> str | Path:
        return self.path / name if self._handle is None else name
