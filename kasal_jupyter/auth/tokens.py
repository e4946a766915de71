"""What a caller shows: the JSON Web Tokens of a login, and the API keys of programs."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, StoreError, Unauthorized
from kasal_jupyter.schemas.base import new_id, parse_time
from kasal_jupyter.schemas.users import ACCESS_SECONDS, ApiKey, KeyCreate
from kasal_jupyter.store.folder import key_file
from kasal_jupyter.store.store import Store

ISSUER = "kasal"

REFRESH_SECONDS = 30 * 86_400
"""How long a login lasts that is not refreshed."""

MOST_CHARACTERS = 4_096
"""Longer than any token of ours: nothing that long is even decoded."""

Kind = Literal["access", "refresh"]

Clock = Callable[[], float]
"""Gives the time, in seconds since 1970."""

_ALGORITHM = "HS256"
_INVALID = "The token is invalid or was revoked; log in again"
_EXPIRED = "The token has expired; refresh it, or log in again"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says.

    Attributes
    ----------
    user_id
        Whose it is (``sub``).
    session_id
        The login it comes from (``sid``).
    jti
        Its own id.
    expires
        When it ends (``exp``), in seconds since 1970.
    """

    user_id: str
    session_id: str
    jti: str
    expires: int


def looks_like_token(text: str) -> bool:
    """Say whether a text has the form of a JSON Web Token, whoever made it."""
    # eyJ is {" in base64: how the header of every such token begins.
    return text.startswith("eyJ") and text.count(".") == 2


def invalid_token() -> Unauthorized:
    """Give the one answer to every token that is not good, and never was or no longer is."""
    return Unauthorized(_INVALID)


class TokenSigner:
    """Signs tokens, and reads those it signed.

    Parameters
    ----------
    key
        The secret; see :func:`kasal_jupyter.auth.tokens.signing_key`.
    clock
        Gives the time.
    """

    def __init__(self, key: bytes, clock: Clock = time.time) -> None:
        self._key = key
        self._clock = clock

    def access(self, user_id: str, session_id: str) -> str:
        """Make a token for requests."""
        return self._sign("access", user_id, session_id, new_id("token"), ACCESS_SECONDS)

    def refresh(self, user_id: str, session_id: str, jti: str) -> str:
        """Make a token for ``POST /auth/refresh`` with the id that its session remembers."""
        return self._sign("refresh", user_id, session_id, jti, REFRESH_SECONDS)

    def read(self, token: str, kind: Kind) -> Claims:
        """Read a token. That its session still exists is for the caller to see.

        Raises
        ------
        Unauthorized
            It was not signed here, is of another kind, or has expired.
        """
        import jwt

        if len(token) > MOST_CHARACTERS:
            raise invalid_token()
        try:
            # Times are compared here, with this object's clock.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=ISSUER,
                options={
                    "require": ["iss", "sub", "sid", "jti", "typ", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidTokenError:
            raise invalid_token() from None
        if claims["typ"] != kind:
            raise Unauthorized(
                "This is a refresh token; send it to POST /auth/refresh, and use the access token it gives"
                if claims["typ"] == "refresh"
                else _INVALID
            )
        # The library looks at the types of the others.
        if not isinstance(claims["exp"], int) or not isinstance(claims["sid"], str):
            raise invalid_token()
        if claims["exp"] <= self._clock():
            raise Unauthorized(_EXPIRED)
        return Claims(claims["sub"], claims["sid"], claims["jti"], claims["exp"])

    def _sign(self, kind: Kind, user_id: str, session_id: str, jti: str, seconds: int) -> str:
        import jwt

        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "sub": user_id,
            "sid": session_id,
            "jti": jti,
            "typ": kind,
            "iat": now,
            "exp": now + seconds,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


# The secret that tokens are signed with: one a data folder, whichever server came first.

KEY_FILE = "tokens.key"
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
    path = folder / KEY_FILE
    try:
        key = key_file(path, lambda: secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        raise StoreError(f"The secret {path} can't be read or made: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"The secret {path} is damaged. Delete it, and a new one is made; everybody has to log in again."
        )
    return key


# API keys: what a program is given instead of a password.

KEY_PREFIX = "kasal_"
"""How every key begins, so that scanners find one that was committed."""

SHOWN = len(KEY_PREFIX) + 4
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
        key = f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"
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
