"""Users, besides whoever Jupyter lets in: who they are, how they log in, and keys for their programs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from kasal_jupyter.schemas.allowances import Limits
from kasal_jupyter.schemas.base import Document, Given, Listed, ListQuery, Model, Name, called
from kasal_jupyter.schemas.usage import Stored

Role = Literal["admin", "editor", "viewer"]
"""``viewer`` reads, ``editor`` changes and runs what is theirs, ``admin`` sees everybody's things."""

Tier = Literal["free", "pro", "enterprise"]
"""How many requests a user may make: the reference's *Rate Limits*."""

PASSWORD_LENGTHS = (8, 1024)
"""The fewest and most characters of a password; hashing takes as long for any of them."""

# Something, an @, something without blanks. No dot is asked for behind it: accounts of an intranet are
# ada@lab or ada@host.local, and only a letter that arrives would prove that an address is real.
_EMAIL = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"


def _checked_email(text: str) -> str:
    if not re.match(_EMAIL, text):
        raise ValueError("an e-mail address looks like user@example.com")
    return text


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, min_length=3, max_length=254),
    # Not pydantic's own pattern: its error shows the expression to people.
    AfterValidator(_checked_email),
    WithJsonSchema({"type": "string", "minLength": 3, "maxLength": 254, "pattern": _EMAIL}),
]
"""An e-mail address, in lower case: Ada@Example.com and ada@example.com are one account."""

Password = Annotated[str, StringConstraints(min_length=PASSWORD_LENGTHS[0], max_length=PASSWORD_LENGTHS[1])]
"""A password that is set; blanks belong to it."""


class User(Document):
    """A user as they are stored. Never an answer: see :class:`UserDetails`."""

    id: str
    email: str
    password_hash: str = Field(repr=False, description="Argon2id, with its parameters.")
    tier: Tier
    role: Role
    disabled: bool = False
    limits: Limits = Field(default_factory=Limits)
    created_at: str
    updated_at: str


class UserCreate(Model):
    """The body of ``POST /users``."""

    email: Email
    password: Password = Field(repr=False)
    tier: Tier = "free"
    role: Role = "editor"
    limits: Limits = Field(default_factory=Limits, description="What their runs may cost.")


class UserUpdate(Model):
    """The body of ``PUT /users/{user_id}``: what is given changes.

    A new password ends every login of the user; so does ``disabled``, which stops their API keys as well.
    """

    email: Given[Email] = None
    password: Given[Password] = Field(None, repr=False)
    tier: Given[Tier] = None
    role: Given[Role] = None
    disabled: Given[bool] = None
    limits: Given[Limits] = Field(
        None, description="What their runs may cost, in the place of both limits before; {} for any number."
    )


class UserQuery(ListQuery):
    """The query of ``GET /users``; `search` looks in e-mail addresses."""

    tier: Tier | None = None
    role: Role | None = None
    sort: Literal["created_at", "-created_at", "updated_at", "-updated_at", "email", "-email"] = "-created_at"


class UserDetails(Model):
    """A user as an answer shows them."""

    id: str
    email: str
    tier: Tier
    role: Role
    disabled: bool
    limits: Limits = Field(description="What their runs may cost.")
    created_at: str
    updated_at: str
    stored: Stored = Field(description="How much they have stored now.")


class UserList(Listed[UserDetails], alias_generator=called("users")):
    """The answer of ``GET /users``."""


# Logging in: the reference's *Authentication Endpoints*, and keys for programs.

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


class KeyList(Listed[KeySummary], alias_generator=called("keys")):
    """The answer of ``GET /auth/keys``."""
