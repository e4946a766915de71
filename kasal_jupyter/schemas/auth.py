"""Logging in: the reference's *Authentication Endpoints*, and keys for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from kasal_jupyter.schemas.base import Document, ListQuery, Model, Name
from kasal_jupyter.schemas.users import PASSWORD_LENGTHS, Password, Role, Tier

ACCESS_SECONDS = 86_400
"""How long an access token is good for: the reference's ``expires_in``."""

_TOKEN = "eyJ0eXAi..."  # noqa: S105  # the reference's own example


def _in_utc(text: str) -> str:
    """Write a time as every other one is."""
    try:
        time = datetime.fromisoformat(text.upper())
        if time.tzinfo is None:
            raise ValueError("a time needs its zone: 2030-01-15T10:30:00Z")
        # Not by strftime, which leaves the noughts of the year 971 out.
        return f"{time.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"
    except OverflowError:
        raise ValueError("this time is out of range") from None


# A text: bodies are read strictly, and JSON has no times.
Time = Annotated[str, AfterValidator(_in_utc), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A moment in ISO 8601, with a time zone."""


class Session(Document):
    """A login, and every token that came of it. Tokens are good as long as their session is stored."""

    id: str
    user_id: str
    refresh_jti: str = Field(description="The id of the one refresh token that has not been used.")
    created_at: str
    refreshed_at: str
    expires_at: str


class LoginRequest(Model):
    """The body of ``POST /auth/login``."""

    # Not held to the rules for new ones: what no account has is answered as a wrong password is.
    email: Annotated[
        str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1, max_length=254)
    ]
    password: Annotated[str, StringConstraints(min_length=1, max_length=PASSWORD_LENGTHS[1])] = Field(
        repr=False
    )


class RefreshRequest(Model):
    """The body of ``POST /auth/refresh``."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(repr=False)


class Tokens(Model):
    """The answer of ``POST /auth/login`` and ``POST /auth/refresh``."""

    access_token: str = Field(repr=False)
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # the reference's word, no secret
    expires_in: int = Field(ACCESS_SECONDS, description="Seconds the access token is good for.")
    refresh_token: str = Field(repr=False, description="Good for one refresh, which gives the next.")


class Me(Model):
    """The answer of ``GET /auth/me``: who the caller is to this server."""

    id: str | None = Field(description="The user's id; null for whoever Jupyter let in, and for the sandbox.")
    name: str
    email: str | None
    role: Role
    tier: Tier
    owner: str = Field(description="Whose resources the caller makes: the ``owner`` that they carry.")
    sandbox: bool


class PasswordChange(Model):
    """The body of ``PUT /auth/me``. Every login of the user ends with it, this one too."""

    current_password: Annotated[str, StringConstraints(min_length=1, max_length=PASSWORD_LENGTHS[1])] = Field(
        repr=False
    )
    password: Password = Field(repr=False)


class ApiKey(Document):
    """An API key as it is stored: what it is made of can't be had back from here."""

    id: str
    owner: str = Field(description="A user's id, or the server's owner.")
    name: str
    digest: str = Field(repr=False, description="SHA-256 of the key, in hexadecimal.")
    start: str = Field(description="How the key begins, to tell it from others.")
    created_at: str
    expires_at: str | None = None

    def summary(self) -> KeySummary:
        """Give what may be shown of the key."""
        return KeySummary.model_validate(self.model_dump(include=set(KeySummary.model_fields)))


class KeyCreate(Model):
    """The body of ``POST /auth/keys``."""

    name: Name
    expires_at: Time | None = Field(
        None, description="When it stops working, with its time zone; null: never."
    )


class KeyQuery(ListQuery):
    """The query of ``GET /auth/keys``; `search` looks in names."""

    sort: Literal["created_at", "-created_at", "name", "-name"] = "-created_at"


class KeySummary(Model):
    """An API key as a list shows it."""

    id: str
    name: str
    start: str
    created_at: str
    expires_at: str | None


class KeyCreated(KeySummary):
    """The answer of ``POST /auth/keys``, and the only one that ever shows the key."""

    key: str = Field(repr=False, description="Send it as a token: ``Authorization: Bearer kasal_…``.")


class KeyList(Model):
    """The answer of ``GET /auth/keys``."""

    keys: list[KeySummary]
    total: int
    page: int
    per_page: int
