"""Files with a key in them, of which a data folder has one, whichever server came first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from kasal_jupyter.whole_file import whole_file


def key_file(path: Path, make: Callable[[], bytes]) -> bytes:
    """Give a key, which is made and kept where there is none; the file is its owner's alone.

    Servers that ask at the same time get the same one, and on return it is on the disk: what is encrypted
    or signed with it is durable, and worth nothing without it.

    Parameters
    ----------
    path
        The file.
    make
        Makes a key.

    Raises
    ------
    OSError
        It can't be read or made.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    with FileLock(path.with_suffix(".lock"), mode=0o600):
        if path.exists():
            return path.read_bytes()
        key = make()
        # Whole: others read without the lock.
        with whole_file(path, private=True, durable=True) as file:
            file.write(key)
        return key
