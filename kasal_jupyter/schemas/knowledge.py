"""What a crew was given to know: files and texts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.base import Document, ListQuery, Model, Name

MediaType = Literal[
    "text/plain", "text/markdown", "text/csv", "application/json", "text/html", "application/pdf"
]

MOST_PASSAGES = 10_000
"""How many passages a crew may have: some 10 MB of text."""


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


class SourceDetails(Model):
    """A source as it is shown."""

    id: str
    name: str
    media_type: MediaType
    characters: int = Field(description="Of its readable text.")
    passages: int = Field(description="How many pieces it is recalled in.")
    created_at: str


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
