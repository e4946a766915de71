"""What webhooks are signed with: *Standard Webhooks*, https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta

from kasal_jupyter.errors import Conflict
from kasal_jupyter.schemas.base import parse_time, utc_now
from kasal_jupyter.schemas.webhooks import SigningSecret, WebhookSecret
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox, SecretLost

PREFIX = "whsec_"

KEY_BYTES = 32
"""Random bytes of a secret; the standard asks for 24 to 64."""

OVERLAP = timedelta(hours=24)
"""How long the secret before signs as well, so that receivers can change theirs meanwhile."""


class SigningSecrets:
    """The owners' secrets, each made at its first use and sealed where it is stored.

    Parameters
    ----------
    store
        Where they are kept.
    box
        What seals them.
    """

    def __init__(self, store: Store, box: SecretBox) -> None:
        self._store = store
        self._box = box

    async def of(self, owner: str) -> WebhookSecret:
        """Give an owner's secret.

        Raises
        ------
        Conflict
            It cannot be read any more: the store was brought here without its key.
        """
        return self._shown(await self._stored(owner))

    async def rotate(self, owner: str) -> WebhookSecret:
        """Give an owner a new secret; the one before signs as well for a day."""

        def change() -> SigningSecret:
            known = self._store.signing_secrets.readable(owner)
            fresh = self._fresh(owner)
            if known is None:
                # One that can't be read any more signs nothing.
                self._store.signing_secrets.delete(owner)
                self._store.signing_secrets.insert(fresh)
                return fresh
            until = (datetime.now(UTC) + OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")
            fresh = fresh.model_copy(update={"previous": known.sealed, "previous_until": until})
            self._store.signing_secrets.replace(fresh)
            return fresh

        return self._shown(await self._store.change(change))

    async def keys(self, owner: str) -> list[str]:
        """Give the secrets that sign now, the newest first.

        Raises
        ------
        Conflict
            They cannot be read any more.
        """
        stored = await self._stored(owner)
        sealed = [stored.sealed, *([stored.previous] if stored.previous and _signs_still(stored) else [])]
        return [self._opened(each) for each in sealed]

    async def _stored(self, owner: str) -> SigningSecret:
        if (known := self._store.signing_secrets.get(owner)) is not None:
            return known

        def make() -> SigningSecret:
            # Somebody else may have made it meanwhile.
            known = self._store.signing_secrets.get(owner)
            if known is None:
                known = self._fresh(owner)
                self._store.signing_secrets.insert(known)
            return known

        return await self._store.change(make)

    def _fresh(self, owner: str) -> SigningSecret:
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        return SigningSecret(id=owner, sealed=self._box.seal(f"{PREFIX}{key}"))

    def _shown(self, stored: SigningSecret) -> WebhookSecret:
        return WebhookSecret(
            secret=self._opened(stored.sealed),
            previous_until=stored.previous_until if _signs_still(stored) else None,
        )

    def _opened(self, sealed: str) -> str:
        try:
            return self._box.open(sealed)
        except SecretLost:
            raise Conflict(
                "The secret was sealed with another data folder's key; "
                "POST /webhooks/secret/rotate makes a new one"
            ) from None


def signature(keys: list[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message with each of some secrets, as the header ``webhook-signature`` has it."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(_digest(key, signed)).decode()}" for key in keys)


def _digest(key: str, signed: bytes) -> bytes:
    return hmac.new(base64.b64decode(key.removeprefix(PREFIX)), signed, hashlib.sha256).digest()


def _signs_still(stored: SigningSecret) -> bool:
    until = stored.previous_until
    return until is not None and parse_time(utc_now()) < parse_time(until)
