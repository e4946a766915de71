"""Secrets that users entrust to the store: encrypted, with a key that lies beside it and is not exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError, StoreError
from kasal_jupyter.store.folder import key_file

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_FILE = "secrets.key"
"""The key's file in the data folder, for its owner alone."""


class SecretLost(KasalError):
    """A secret was encrypted with another key: the store was imported, or the key's file is gone."""


class SecretBox:
    """Encrypts and decrypts with the data folder's own key, which is made at the first use.

    Parameters
    ----------
    folder
        The data folder. Servers that share it share the key.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEY_FILE
        self._fernet: Fernet | None = None

    def seal(self, secret: str) -> str:
        """Encrypt a secret.

        Raises
        ------
        StoreError
            The key can't be read or made.
        """
        return self._key().encrypt(secret.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises
        ------
        SecretLost
            It was sealed with another key.
        StoreError
            The key can't be read or made.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._key().decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SecretLost("The secret was encrypted with a key that is not this data folder's") from None

    def _key(self) -> Fernet:
        if self._fernet is None:
            # Imported here, since most servers hold no secret.
            from cryptography.fernet import Fernet

            try:
                self._fernet = Fernet(key_file(self._path, Fernet.generate_key))
            except (OSError, ValueError) as error:
                raise StoreError(f"The key {self._path} can't be used: {error}") from error
        return self._fernet
