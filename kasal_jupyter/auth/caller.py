"""Who is asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from jupyter_server.auth import User

from kasal_jupyter.schemas.users import Role, Tier

SERVER_OWNER = "jupyter"
"""Whose things are what anybody let in by Jupyter makes.

Not the user's name: with a token and no cookie, Jupyter makes up a new name at every request.
"""

RANK: Mapping[Role, int] = {"viewer": 1, "editor": 2, "admin": 3}
"""How much a role may, by its place."""


class Owned(Protocol):
    """What belongs to somebody."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request.

    Attributes
    ----------
    owner
        Whose resources the caller sees and makes: :data:`SERVER_OWNER`, or the id of a Kasal user.
    name
        For people to read.
    role
        What the caller may do.
    tier
        How often the caller may ask.
    user_id
        The Kasal user; None for whoever Jupyter let in, and for the sandbox.
    session_id
        The login that the caller's token comes from; None where it is no such token.
    sandbox
        Whether the caller works in the sandbox, apart from everything else.
    """

    owner: str
    name: str
    role: Role = "editor"
    tier: Tier = "free"
    user_id: str | None = None
    session_id: str | None = None
    sandbox: bool = False

    @property
    def author(self) -> str:
        """Who it is for whoever reads it later: Jupyter makes up a name for each who comes with its token."""
        return self.owner if self.user_id is None and self.name.startswith("Anonymous ") else self.name

    @property
    def only(self) -> str | None:
        """Whose documents the caller's lists show; None for everybody's, which an admin's do."""
        return None if self.role == "admin" else self.owner

    @property
    def scope(self) -> dict[str, str]:
        """The criteria of the documents that the caller's lists show."""
        return {} if self.only is None else {"owner": self.owner}

    def sees(self, document: Owned) -> bool:
        """Say whether the caller may see something at all."""
        return self.role == "admin" or document.owner == self.owner


def caller_of(user: User) -> Caller:
    """Give the caller that a Jupyter user is: whoever Jupyter let in owns the server."""
    return Caller(
        owner=SERVER_OWNER, name=user.display_name or user.username, role="admin", tier="enterprise"
    )
