"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_server.auth import User

SERVER_OWNER = "jupyter"
"""Whose things are what anybody let in by Jupyter makes.

Not the user's name: with a token and no cookie, Jupyter makes up a new name at every request.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request.

    Attributes
    ----------
    owner
        Whose resources the caller sees and makes.
    name
        For people to read.
    """

    owner: str
    name: str


def caller_of(user: User) -> Caller:
    """Give the caller that a Jupyter user is: whoever Jupyter let in owns the server."""
    return Caller(owner=SERVER_OWNER, name=user.display_name or user.username)
