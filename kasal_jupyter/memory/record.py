"""What is remembered, as it is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import orjson

Kind = Literal["short_term", "long_term", "knowledge"]
"""Memories of two types, and the passages of what a crew was given to know."""

KINDS: tuple[Kind, ...] = ("short_term", "long_term", "knowledge")


@dataclass(frozen=True, slots=True)
class Record:
    """A memory, or a passage of a crew's knowledge.

    Attributes
    ----------
    category
        A long-term memory's; the source's name for knowledge.
    time
        When it was stored, see :func:`kasal_jupyter.schemas.base.utc_now`.
    """

    id: str
    kind: Kind
    content: str
    category: str | None
    time: str

    @property
    def text(self) -> str:
        """What it is found by."""
        return f"{self.category}: {self.content}" if self.category else self.content

    def dump(self) -> bytes:
        """Give it as JSON."""
        return orjson.dumps([self.id, self.kind, self.content, self.category, self.time])

    @classmethod
    def load(cls, data: bytes) -> Self:
        """Read what :meth:`dump` gave.

        Raises
        ------
        ValueError
            It is something else.
        """
        return cls(*orjson.loads(data))
