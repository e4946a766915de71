"""What a crew remembers: the reference's *Memory Management*."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from kasal_jupyter.schemas.base import Document, Model, Name, Query, Text

MemoryType = Literal["short_term", "long_term"]
"""``short_term``: what was said and found. ``long_term``: what was learnt from it, by category."""


class Memory(Document):
    """One thing that a crew remembers, as it is stored."""

    id: str
    crew_id: str
    type: MemoryType
    shelf: str = Field(description="The crew and the type in one: what memories are looked up by.")
    content: Text
    category: Name | None = Field(description="A long-term memory's.")
    created_at: str


class MemoryQuery(Query):
    """The query of ``GET /memory/{crew_id}``."""

    limit: int = Field(100, ge=1, le=1_000, description="Most memories of each type; the newest come first.")


class ShortTermMemory(Model):
    """A short-term memory as it is shown."""

    timestamp: str
    content: str


class LongTermMemory(Model):
    """The long-term memories of one category."""

    category: str
    insights: list[str]


class CrewMemory(Model):
    """The answer of ``GET /memory/{crew_id}``."""

    short_term: list[ShortTermMemory]
    long_term: list[LongTermMemory]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "short_term": [
                        {
                            "timestamp": "2024-01-15T10:00:00Z",
                            "content": "Customer prefers email communication",
                        }
                    ],
                    "long_term": [
                        {"category": "preferences", "insights": ["Email preferred", "Weekly reports"]}
                    ],
                }
            ]
        }
    )


class MemoryClear(Model):
    """The body of ``POST /memory/{crew_id}/clear``."""

    type: Literal["short_term", "long_term", "all"]

    model_config = ConfigDict(json_schema_extra={"examples": [{"type": "short_term"}]})
