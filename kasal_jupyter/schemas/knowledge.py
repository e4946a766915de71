"""What a crew was given to know: files and texts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kasal_jupyter.schemas.base import Document, ListQuery, Model, Name

MediaType = Literal[
    "text/plain", "text/markdown", "text/csv", "application/json", "text/html", "application/pdf"
]

MOST_PASSAGES = 10_000
"""How many passages a crew may have: some 10 MB of text."""

_EXAMPLE: dict[str, Any] = {
    "id": "source_4t9k2m0x7q1z",
    "name": "returns.md",
    "media_type": "text/markdown",
    "characters": 5230,
    "passages": 6,
    "created_at": "2024-01-15T10:00:00Z",
}


class KnowledgeSource(Document):
    """A file or a text that a crew was given, as it is stored; its text is in its passages."""

    id: str
    crew_id: str
    name: Name
    media_type: MediaType
    characters: int
    passages: int
    created_at: str
    text_id: str | None = Field(
        None, description="By what its passages are looked up; the source's own id, where there is none."
    )

    @property
    def held_by(self) -> str:
        """What its passages have as ``source_id``: another value, where a source of the same name came."""
        return self.text_id or self.id


class Passage(Document):
    """A piece of a source, as it is recalled.

    Attributes
    ----------
    source_id
        See :attr:`KnowledgeSource.held_by`.
    name
        Its source's.
    position
        Its place there, from 0.
    """

    id: str
    crew_id: str
    source_id: str
    name: str
    position: int
    content: str
    created_at: str


class KnowledgeCreate(Model):
    """The body of ``POST /crews/{crew_id}/knowledge``: a text, or a file's content."""

    name: Name = Field(description="What the source is called; one of the same name is replaced.")
    text: str | None = Field(None, min_length=1, pattern=r"\S", description="A text as it is.")
    content: str | None = Field(None, min_length=1, description="A file's bytes in base64.")
    media_type: MediaType | None = Field(
        None, description="What the file is; by its name's ending, where it is left out."
    )

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "returns.md", "text": "Returns are free for 30 days."}]}
    )


class SourceDetails(Model):
    """A source as it is shown."""

    id: str
    name: str
    media_type: MediaType
    characters: int = Field(description="Of its readable text.")
    passages: int = Field(description="How many pieces it is recalled in.")
    created_at: str

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})


class PassageDetails(Model):
    """A piece of a source as it is shown."""

    id: str
    content: str


class SourceQuery(ListQuery):
    """The query of ``GET /crews/{crew_id}/knowledge``."""

    sort: Literal["created_at", "-created_at", "name", "-name"] = "created_at"


class SourceList(Model):
    """The answer of ``GET /crews/{crew_id}/knowledge``."""

    sources: list[SourceDetails]
    total: int
    page: int
    per_page: int

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"sources": [_EXAMPLE], "total": 1, "page": 1, "per_page": 100}]}
    )


class PassageQuery(ListQuery):
    """The query of ``GET /crews/{crew_id}/knowledge/{source_id}``."""

    sort: Literal["position", "-position"] = "position"


class WholeSource(Model):
    """The answer of ``GET /crews/{crew_id}/knowledge/{source_id}``: a source with its text in pieces."""

    id: str
    name: str
    media_type: MediaType
    characters: int
    created_at: str
    passages: list[PassageDetails] = Field(description="Those of the page.")
    total: int
    page: int
    per_page: int

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_EXAMPLE,
                    "passages": [{"id": "passage_9x2c4v6b8n0m", "content": "Returns are free for 30 days."}],
                    "total": 6,
                    "page": 1,
                    "per_page": 100,
                }
            ]
        }
    )
