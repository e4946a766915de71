"""The doors: what is let in before it is known who asks, and who may stay."""

from __future__ import annotations

from dataclasses import dataclass

from kasal_jupyter.auth.rates import Senders
from kasal_jupyter.auth.standing import Watch

SMALL_BODY = 8_192
"""Bytes of a body that is taken in of somebody who is not known: a login."""


@dataclass(frozen=True, slots=True)
class Doors:
    """What is under way at once, and of whom.

    Attributes
    ----------
    strangers
        Connections of those who are not known, by address: bodies on their way, and WebSockets.
    bodies
        Bytes of bodies that are on their way or being worked on, by owner.
    stranger_seconds
        How long somebody who is not known may take: for a body, or to say on a WebSocket who they are.
    body_seconds
        How long a known caller's body may take.
    watch
        Who stays, and is looked at again.
    """

    strangers: Senders
    bodies: Senders
    stranger_seconds: float
    body_seconds: float
    watch: Watch
