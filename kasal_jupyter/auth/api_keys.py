"""API keys: what a program is given instead of a password."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime

from kasal_jupyter.auth.tokens import Clock
from kasal_jupyter.errors import Conflict, Fault, InvalidRequest
from kasal_jupyter.schemas.auth import ApiKey, KeyCreate
from kasal_jupyter.schemas.base import new_id, parse_time
from kasal_jupyter.store.store import Store

PREFIX = "kasal_"
"""How every key begins, so that scanners find one that was committed."""

SHOWN = len(PREFIX) + 4
"""Characters of a key that are stored as they are."""

MOST_KEYS = 100
"""Keys of one owner."""


class ApiKeys:
    """The API keys of a store. Of each, only what proves it is stored.

    Parameters
    ----------
    store
        The opened data folder.
    clock
        Gives the time.
    """

    def __init__(self, store: Store, clock: Clock = time.time) -> None:
        self._store = store
        self._clock = clock

    async def create(self, owner: str, body: KeyCreate) -> tuple[ApiKey, str]:
        """Make a key.

        Returns
        -------
        document
            What is stored of it.
        key
            The key itself, which is nowhere else.

        Raises
        ------
        InvalidRequest
            It would have expired already.
        Conflict
            The owner has too many.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        if body.expires_at is not None and parse_time(body.expires_at) <= now:
            raise InvalidRequest(
                "Invalid API key", faults=[Fault("expires_at", "This is past; choose a time to come")]
            )
        key = f"{PREFIX}{secrets.token_urlsafe(32)}"
        document = ApiKey(
            id=new_id("key"),
            owner=owner,
            name=body.name,
            digest=digest(key),
            start=key[:SHOWN],
            created_at=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            expires_at=body.expires_at,
        )

        def insert() -> None:
            if self._store.api_keys.count(owner=owner) >= MOST_KEYS:
                raise Conflict(f"You have {MOST_KEYS} API keys already; revoke one that is not used")
            self._store.api_keys.insert(document)

        await self._store.change(insert)
        return document, key

    def get(self, key_id: str) -> ApiKey | None:
        """Give what is stored of a key, or None."""
        return self._store.api_keys.get(key_id)

    async def revoke(self, key_id: str) -> None:
        """Delete a key; it is refused from the next request on."""
        await self._store.change(lambda: self._store.api_keys.delete(key_id))


def digest(key: str) -> str:
    """Give what a key is found by. SHA-256 is enough: nobody guesses 256 random bits, however fast."""
    return hashlib.sha256(key.encode()).hexdigest()
