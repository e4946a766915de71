"""What crews were given to know, each crew its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound, StoreError
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import passage_record, sweep, sweep_some
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.memory import MOST_PASSAGES, KnowledgeSource, MediaType, Passage
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
