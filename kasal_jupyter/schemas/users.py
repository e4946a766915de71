"""Users: who may use the API besides whoever Jupyter itself has let in."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from kasal_jupyter.schemas.base import Document, Given, ListQuery, Model
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
    created_at: str
    updated_at: str


class UserCreate(Model):
    """The body of ``POST /users``."""

    email: Email
    password: Password = Field(repr=False)
    tier: Tier = "free"
    role: Role = "editor"


class UserUpdate(Model):
    """The body of ``PUT /users/{user_id}``: what is given changes.

    A new password ends every login of the user; so does ``disabled``, which stops their API keys as well.
    """

    email: Given[Email] = None
    password: Given[Password] = Field(None, repr=False)
    tier: Given[Tier] = None
    role: Given[Role] = None
    disabled: Given[bool] = None


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
    created_at: str
    updated_at: str
    stored: Stored = Field(description="How much they have stored now.")


class UserList(Model):
    """The answer of ``GET /users``."""

    users: list[UserDetails]
    total: int
    page: int
    per_page: int
