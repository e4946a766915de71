"""Files that are there whole, or not at all.

What is written goes to a file beside the place, and takes its name when all of it is there: a full disk, an
exception or a `kill -9` in between leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_ANY_NEW_FILE = 0o666


@contextmanager
def whole_file(
    path: Path, *, new: bool = False, private: bool = False, durable: bool = False
) -> Iterator[IO[bytes]]:
    """Open a file to write, which takes its place when the block ends without an exception.

    Parameters
    ----------
    path
        Where it will be. Its folder must be there.
    new
        Whether nothing may be there yet; who comes second is refused, even at the same moment.
    private
        Whether it is its owner's alone (mode 600). Otherwise it keeps the mode of what was there, or gets
        that of any new file.
    durable
        Whether it is on the disk when the block has ended, its name too.

    Raises
    ------
    FileExistsError
        Something is there, and it had to be ``new``.
    OSError
        It cannot be written there. What was there before still is.
    """
    # A link stays one, and leads to the file.
    path = Path(os.path.realpath(path))
    if new and path.exists():
        raise _there_is(path)
    if path.exists() and not path.is_file():
        # A device or a pipe: nothing can take its place, and nothing should.
        with path.open("wb") as device:
            yield device
        return
    handle, beside = tempfile.mkstemp(prefix=f".{path.name[:60]}-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if not private:
            # mkstemp lets nobody but the owner read.
            os.chmod(beside, _mode_for(path))  # noqa: PTH101 - a name
        if new:
            _take(Path(beside), path)
        else:
            os.replace(beside, path)  # noqa: PTH105 - a name
    finally:
        Path(beside).unlink(missing_ok=True)
    if durable and os.name == "posix":
        # The name is in the folder, which needs an fsync of its own.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(path: Path, data: bytes, *, new: bool = False) -> None:
    """Write a file that is there whole, or not at all.

    Raises
    ------
    FileExistsError
        Something is there, and it had to be ``new``.
    OSError
        It cannot be written there. What was there before still is.
    """
    with whole_file(path, new=new) as file:
        file.write(data)


def _take(beside: Path, path: Path) -> None:
    """Give a file its name, unless something has it."""
    try:
        # A link refuses a name that is taken; a rename would write over it.
        path.hardlink_to(beside)
    except OSError:
        # Taken, or a file system without links (FAT, some network folders).
        if path.exists():
            raise _there_is(path) from None
        beside.replace(path)


def _there_is(path: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _mode_for(path: Path) -> int:
    """Give the mode of what is there, or that of a new file."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        # There is no way to read the mask without setting it.
        mask = os.umask(0)
        os.umask(mask)
        return _ANY_NEW_FILE & ~mask
