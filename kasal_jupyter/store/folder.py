"""The data folder."""

from __future__ import annotations

import os
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from kasal_jupyter.errors import StoreError

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
