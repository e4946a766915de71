"""The data folder, and the files with a key of which it has one each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from jupyter_core.paths import jupyter_data_dir

from kasal_jupyter.errors import StoreError
from kasal_jupyter.whole_file import whole_file

FILE_NAME = "kasal.db"
"""The store's file in the data folder."""


def default_data_folder() -> Path:
    """Give the folder for everything that is kept: ``KASAL_DATA_DIR``, or ``kasal`` in Jupyter's own."""
    chosen = os.environ.get("KASAL_DATA_DIR")
    return Path(chosen).expanduser() if chosen else Path(jupyter_data_dir(), "kasal")


def make_private_folder(folder: Path) -> None:
    """Create a folder for its owner alone, if there is none.

    Raises
    ------
    StoreError
        If it can't be created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        if not folder.is_dir():
            raise StoreError(f"The data folder {folder} can't be used: it is a file.") from error
    except OSError as error:
        raise StoreError(f"The data folder {folder} can't be created: {error.strerror}.") from error


# Files with a key in them, of which a data folder has one, whichever server came first.


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
