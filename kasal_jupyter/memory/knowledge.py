"""What crews were given to know, each crew its own."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import orjson

from kasal_jupyter.confined import ConfinedPool, TooMuch
from kasal_jupyter.errors import Fault, InvalidRequest, NotFound, StoreError
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import passage_record, sweep, sweep_some
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.memory import MOST_PASSAGES, KnowledgeCreate, KnowledgeSource, MediaType, Passage
from kasal_jupyter.store.store import Store

INVALID_KNOWLEDGE = "Invalid knowledge"


class Knowledge:
    """The sources of a store's crews, with their passages. A source is there whole or not at all.

    Parameters
    ----------
    store
        The opened data folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(
        self, crew_id: str, name: str, media_type: MediaType, text: str, passages: Sequence[str]
    ) -> KnowledgeSource:
        """Give a crew a source, in place of one of the same name, which keeps its id.

        Parameters
        ----------
        crew_id
            The crew.
        name
            The source's.
        media_type
            What it was.
        text
            Its readable text.
        passages
            The same in pieces.

        Raises
        ------
        InvalidRequest
            The crew would have more than :data:`MOST_PASSAGES`.
        NotFound
            There is no such crew any more.
        """
        now = utc_now()
        source = KnowledgeSource(
            id=new_id("source"),
            crew_id=crew_id,
            name=name,
            media_type=media_type,
            characters=len(text),
            passages=len(passages),
            created_at=now,
            text_id=new_id("text"),
        )
        # What is longer than a batch comes in several changes, and is seen by nobody until the last.
        *early, last = range(0, max(1, len(passages)), tables.BATCH)
        try:
            for at in early:
                await self.store.change(partial(self._bring, source, passages, at), bounded=True)
            source = await self.store.change(partial(self._come, source, passages, last), bounded=True)
        except BaseException:
            if early:
                await self.store.change(lambda: self._withdraw(source))
            raise
        finally:
            await sweep(self.store)
        return source

    def get(self, crew_id: str, source_id: str) -> KnowledgeSource:
        """Give a source of a crew.

        Raises
        ------
        NotFound
            The crew has none with this id.
        """
        source = self.store.knowledge.get(source_id)
        if source is None or source.crew_id != crew_id:
            raise NotFound(f"Crew {crew_id} has no knowledge {source_id}")
        return source

    async def delete(self, crew_id: str, source_id: str) -> None:
        """Take a source away.

        Raises
        ------
        NotFound
            The crew has none with this id.
        """
        await self.store.change(lambda: self._remove(self.get(crew_id, source_id)))
        await sweep(self.store)

    def _remove(self, source: KnowledgeSource) -> None:
        self.store.knowledge.delete(source.id)
        self._withdraw(source)

    def _withdraw(self, source: KnowledgeSource) -> None:
        tables.withdraw(self.store.connection, source.crew_id, source.held_by)
        sweep_some(self.store)

    def _bring(self, source: KnowledgeSource, contents: Sequence[str], at: int) -> None:
        """Store a batch of a source's passages, from a place on, within a change."""
        self._require_room(source)
        passages = [
            Passage(
                id=new_id("passage"),
                crew_id=source.crew_id,
                source_id=source.held_by,
                name=source.name,
                position=position,
                content=content,
                created_at=source.created_at,
            )
            for position, content in enumerate(contents[at : at + tables.BATCH], start=at)
        ]
        for passage in passages:
            self.store.passages.insert(passage)
        tables.add_texts(
            self.store.connection,
            source.crew_id,
            map(passage_record, passages),
            source=source.held_by,
            state=tables.State.COMING,
        )

    def _come(self, source: KnowledgeSource, contents: Sequence[str], at: int) -> KnowledgeSource:
        """Store a source with the last of its passages, in the place of the one before, within a change."""
        if (before := self._before(source)) is not None:
            source = source.model_copy(update={"id": before.id})
            self._remove(before)
        self._bring(source, contents, at)
        if not tables.publish(self.store.connection, source.held_by):
            raise StoreError(f"{source.name} took too long to be stored, and was given up; give it again.")
        self.store.knowledge.insert(source)
        return source

    def _before(self, source: KnowledgeSource) -> KnowledgeSource | None:
        """Give the source whose place another takes."""
        found = self.store.knowledge.find(crew_id=source.crew_id)
        return next((each for each in found if each.name == source.name), None)

    def _require_room(self, source: KnowledgeSource) -> None:
        if not self.store.crews.has(source.crew_id):
            raise NotFound(f"There is no crew {source.crew_id}")
        others = self.store.knowledge.find(crew_id=source.crew_id)
        count = source.passages + sum(each.passages for each in others if each.name != source.name)
        if count > MOST_PASSAGES:
            reason = (
                f"The crew would have {count:,} passages, and may have {MOST_PASSAGES:,}; "
                "delete a source, or give less"
            )
            raise InvalidRequest(INVALID_KNOWLEDGE, faults=[Fault("content", reason)])


# Reading what a crew is given to know: which file it is, and its passages, read in a limited process.

ENDINGS: Mapping[str, MediaType] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/json",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
}
"""What a file is, by its name's ending."""


@dataclass(frozen=True, slots=True)
class ReadSource:
    """A source as it can be stored."""

    media_type: MediaType
    text: str
    passages: list[str]


async def read_source(body: KnowledgeCreate, pool: ConfinedPool, owner: str) -> ReadSource:
    """Read what a client gives a crew to know.

    Parameters
    ----------
    body
        What is given.
    pool
        Where it is read: the parsers have no end in sight for some files.
    owner
        Whose it is.

    Raises
    ------
    InvalidRequest
        It cannot be read, or has no text.
    TooManyRequests, Unavailable
        Too much waits to be read.
    """
    if (body.text is None) == (body.content is None):
        reason = "Give text, or a file's content in base64" + ("; not both" if body.text is not None else "")
        raise _invalid("text", reason)
    field = "text" if body.text is not None else "content"
    media_type = body.media_type or _by_name(body)

    def given() -> bytes:
        text = body.text
        data = text.encode(errors="replace") if text is not None else _decoded(body.content or "")
        return media_type.encode() + b"\n" + data

    def read(answer: bytes) -> ReadSource:
        found = orjson.loads(answer)
        return ReadSource(media_type, found["text"], found["passages"])

    try:
        return await pool.call(owner, "kasal_jupyter.memory.parse:read", given, read)
    except ValueError as error:
        raise _invalid(field, str(error)) from None
    except TooMuch as error:
        raise _invalid(field, f"{error}; give less, or split it") from None


def _by_name(body: KnowledgeCreate) -> MediaType:
    known = ENDINGS.get(PurePosixPath(body.name).suffix.lower())
    if body.text is not None:
        # A text is one, whatever it is called; a PDF is none.
        return known if known is not None and known != "application/pdf" else "text/plain"
    if known is None:
        reason = (
            f"The name does not tell what the file is; give it: {', '.join(sorted(set(ENDINGS.values())))}"
        )
        raise _invalid("media_type", reason)
    return known


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("content", "It is not base64; text goes into text") from None


def _invalid(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(INVALID_KNOWLEDGE, faults=[Fault(field, reason)])
