"""What a crew remembers and knows: the reference's *Memory Management*, files and texts that it was given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from kasal_jupyter.schemas.base import Document, Given, Listed, ListQuery, Model, Name, Query, Text, called

MemoryType = Literal["short_term", "long_term"]
"""``short_term``: what happened in the crew's latest runs. ``long_term``: what was learnt, by category."""

MemoryText = Annotated[str, StringConstraints(min_length=1, max_length=10_000, pattern=r"\S")]
"""What a client has a crew remember: it is shown to models, and one that is longer is knowledge."""


class Memory(Document):
    """One thing that a crew remembers, as it is stored."""

    id: str
    crew_id: str
    type: MemoryType
    shelf: str = Field(description="The crew and the type in one: what memories are looked up by.")
    content: Text
    category: Name | None = Field(description="A long-term memory's.")
    job_id: str | None = Field(None, description="The execution that it is from; null: somebody wrote it.")
    created_at: str
    updated_at: str | None = None

    def details(self) -> MemoryDetails:
        """Give it as it is shown."""
        return MemoryDetails(
            id=self.id,
            type=self.type,
            content=self.content,
            category=self.category,
            job_id=self.job_id,
            created_at=self.created_at,
            updated_at=self.updated_at or self.created_at,
        )


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


class MemoryClear(Model):
    """The body of ``POST /memory/{crew_id}/clear``."""

    type: Literal["short_term", "long_term", "all"]


class MemoryCreate(Model):
    """The body of ``POST /memory/{crew_id}``."""

    type: MemoryType = "long_term"
    content: MemoryText
    category: Name | None = Field(None, description="What a long-term memory is about.")


class MemoryUpdate(Model):
    """The body of ``PUT /memory/{crew_id}/{memory_id}``."""

    content: Given[MemoryText] = None
    category: Given[Name] = None


class MemoryDetails(Model):
    """A single memory as it is shown."""

    id: str
    type: MemoryType
    content: str
    category: str | None
    job_id: str | None
    created_at: str
    updated_at: str


class MemoryListQuery(ListQuery):
    """The query of ``GET /memory/{crew_id}/entries``."""

    type: MemoryType | None = None
    sort: Literal["created_at", "-created_at", "category", "-category"] = "-created_at"


class MemoryList(Listed[MemoryDetails], alias_generator=called("memories")):
    """The answer of ``GET /memory/{crew_id}/entries``."""


class MemorySearchQuery(Query):
    """The query of ``GET /memory/{crew_id}/search``."""

    query: str = Field(
        min_length=1,
        max_length=6_000,
        pattern=r"\S",
        description="What is looked for, in any words.",
        examples=["how the customer likes to be written to"],
    )
    type: Literal["short_term", "long_term", "knowledge"] | None = None
    limit: int = Field(10, ge=1, le=50, description="Most hits among memories, and most among knowledge.")


class MemoryHit(Model):
    """Something that a search has found."""

    id: str
    type: Literal["short_term", "long_term", "knowledge"]
    content: str
    category: str | None = Field(description="The source's name, for knowledge.")
    created_at: str
    score: float = Field(description="How near it is, 0 to 1.")


class MemoryHits(Model):
    """The answer of ``GET /memory/{crew_id}/search``."""

    hits: list[MemoryHit]
    remark: str | None = Field(
        description="What to know of the search, e.g. that the embedder gave no answer."
    )


# What a crew was given to know: files and texts.

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


class SourceList(Listed[SourceDetails], alias_generator=called("sources")):
    """The answer of ``GET /crews/{crew_id}/knowledge``."""


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
