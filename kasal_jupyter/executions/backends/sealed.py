"""What only a server and one run's host can read, whoever passes it on between them.

A host makes a pair of keys for each run, and tells the public one. With the pair of the server's data folder
that gives both ends the same key, which is nowhere else: neither in a task's graph nor in the scheduler's
memory, and in nobody's logs. A server that comes back, or another one on the folder, makes it again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.errors import StoreError, WorkerLost
from kasal_jupyter.store.folder import key_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_FILE = "cluster.key"
"""The folder's own key, for its owner alone."""

_NONCE = 12


class Channel:
    """Seals and opens messages between a server and a run's host.

    Parameters
    ----------
    ours
        The own pair of keys.
    theirs
        The other end's public key.
    place
        Which run it is: a message for another one is refused.
    """

    def __init__(self, ours: X25519PrivateKey, theirs: bytes, place: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        shared = ours.exchange(X25519PublicKey.from_public_bytes(theirs))
        about = f"kasal run {place}".encode()
        self._cipher = ChaCha20Poly1305(HKDF(SHA256(), 32, salt=None, info=about).derive(shared))

    def seal(self, data: bytes, kind: str) -> bytes:
        """Encrypt a message of a kind."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, data, kind.encode())

    def open(self, sealed: bytes, kind: str) -> bytes:
        """Decrypt a message of a kind.

        Raises
        ------
        WorkerLost
            It was sealed for somebody else, or changed on its way.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], kind.encode())
        except InvalidTag:
            raise WorkerLost("A message between the server and the cluster cannot be opened.") from None


def new_pair() -> X25519PrivateKey:
    """Make a pair of keys."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate()


def public_half(pair: X25519PrivateKey) -> bytes:
    """Give what the other end is told of a pair."""
    return pair.public_key().public_bytes_raw()


def folders_pair(folder: Path) -> X25519PrivateKey:
    """Give a data folder's pair, which is made at the first use.

    Raises
    ------
    StoreError
        It can't be read or made.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    try:
        return X25519PrivateKey.from_private_bytes(
            bytes.fromhex(
                key_file(folder / KEY_FILE, lambda: new_pair().private_bytes_raw().hex().encode()).decode()
            )
        )
    except (OSError, ValueError) as error:
        raise StoreError(f"The key {folder / KEY_FILE} can't be used: {error}") from error
