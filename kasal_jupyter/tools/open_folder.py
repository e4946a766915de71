"""An open folder: what is in it is reached by name alone, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import IO, Self

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

    def below(self, name: str, *, make: bool = False) -> Folder:
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
