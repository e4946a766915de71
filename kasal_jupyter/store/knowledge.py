"""What crews were given to know, each crew its own."""

from __future__ import annotations

from collections.abc import Sequence

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.knowledge import MOST_PASSAGES, KnowledgeSource, MediaType, Passage
from kasal_jupyter.store.memories import note_change
from kasal_jupyter.store.store import Store

INVALID_KNOWLEDGE = "Invalid knowledge"


class Knowledge:
    """The sources of a store's crews, with their passages. Every change is one transaction.

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

        def change() -> KnowledgeSource:
            if not self.store.crews.has(crew_id):
                raise NotFound(f"There is no crew {crew_id}")
            same = (each for each in self.store.knowledge.find(crew_id=crew_id) if each.name == name)
            before = next(same, None)
            source_id = before.id if before is not None else new_id("source")
            if before is not None:
                self._remove(before)
            count = self.store.passages.count(crew_id=crew_id) + len(passages)
            if count > MOST_PASSAGES:
                reason = (
                    f"The crew would have {count:,} passages, and may have {MOST_PASSAGES:,}; "
                    "delete a source, or give less"
                )
                raise InvalidRequest(INVALID_KNOWLEDGE, faults=[Fault("content", reason)])
            now = utc_now()
            source = KnowledgeSource(
                id=source_id,
                crew_id=crew_id,
                name=name,
                media_type=media_type,
                characters=len(text),
                passages=len(passages),
                created_at=now,
            )
            self.store.knowledge.insert(source)
            for position, content in enumerate(passages):
                self.store.passages.insert(
                    Passage(
                        id=new_id("passage"),
                        crew_id=crew_id,
                        source_id=source_id,
                        name=name,
                        position=position,
                        content=content,
                        created_at=now,
                    )
                )
            note_change(self.store, crew_id)
            return source

        return await self.store.change(change, bounded=True)

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

        def change() -> None:
            self._remove(self.get(crew_id, source_id))
            note_change(self.store, crew_id)

        await self.store.change(change)

    def _remove(self, source: KnowledgeSource) -> None:
        self.store.passages.delete_where(source_id=source.id)
        self.store.knowledge.delete(source.id)
