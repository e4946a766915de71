"""Logging in: the reference's *Authentication Endpoints*, and keys for programs."""

from __future__ import annotations

from pydantic import Field

from kasal_jupyter.schemas.base import Document


class Session(Document):
    """A login, and every token that came of it. Tokens are good as long as their session is stored."""

    id: str
    user_id: str
    refresh_jti: str = Field(description="The id of the one refresh token that has not been used.")
    created_at: str
    refreshed_at: str
    expires_at: str


class ApiKey(Document):
    """An API key as it is stored: what it is made of can't be had back from here."""

    id: str
    owner: str = Field(description="A user's id, or the server's owner.")
    name: str
    digest: str = Field(repr=False, description="SHA-256 of the key, in hexadecimal.")
    start: str = Field(description="How the key begins, to tell it from others.")
    created_at: str
    expires_at: str | None = None
