"""Users: who may use the API besides whoever Jupyter itself has let in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from kasal_jupyter.schemas.base import Document

Role = Literal["admin", "editor", "viewer"]
"""``viewer`` reads, ``editor`` changes and runs what is theirs, ``admin`` sees everybody's things."""

Tier = Literal["free", "pro", "enterprise"]
"""How many requests a user may make: the reference's *Rate Limits*."""

PASSWORD_LENGTHS = (8, 1024)
"""The fewest and most characters of a password; hashing takes as long for any of them."""

# Something, an @, something without blanks. No dot is asked for behind it: accounts of an intranet are
# ada@lab or ada@host.local, and only a letter that arrives would prove that an address is real.
Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        min_length=3,
        max_length=254,
        pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$",
    ),
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
