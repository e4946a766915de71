"""The secret that tokens are signed with: one a data folder, whichever server came first."""

from __future__ import annotations

import secrets
from pathlib import Path

from kasal_jupyter.errors import StoreError
from kasal_jupyter.store.key_file import key_file

FILE_NAME = "tokens.key"
"""The secret's file in the data folder. Without it every login has to be made again."""

KEY_BYTES = 32
"""As long as what HS256 makes of it, as RFC 7518 (section 3.2) asks."""


def signing_key(folder: Path) -> bytes:
    """Give the data folder's secret, which is made where there is none.

    Several servers that start on an empty folder at the same time get the same one.

    Raises
    ------
    StoreError
        It can't be read or made, or is damaged.
    """
    path = folder / FILE_NAME
    try:
        key = key_file(path, lambda: secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        raise StoreError(f"The secret {path} can't be read or made: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"The secret {path} is damaged. Delete it, and a new one is made; everybody has to log in again."
        )
    return key
