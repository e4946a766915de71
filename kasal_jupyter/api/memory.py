"""``/memory``, the reference's *Memory Management*, and ``/knowledge``, what a crew was given to know."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.memory.knowledge import INVALID_KNOWLEDGE, read_source
from kasal_jupyter.memory.memories import INVALID_MEMORY, MEMORY_TYPES, shelf
from kasal_jupyter.memory.tables import KINDS
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.memory import (
    CrewMemory,
    KnowledgeCreate,
    KnowledgeSource,
    MemoryClear,
    MemoryCreate,
    MemoryDetails,
    MemoryHit,
    MemoryHits,
    MemoryList,
    MemoryListQuery,
    MemoryQuery,
    MemorySearchQuery,
    MemoryUpdate,
    PassageDetails,
    PassageQuery,
    SourceDetails,
    SourceList,
    SourceQuery,
    WholeSource,
)


class MemoryResource(ApiHandler):
    """What the resources of a crew's memory share."""

    tag = "Memory Management"
    message = INVALID_MEMORY

    async def settled(self, crew_id: str) -> Crew:
        """Give the crew that is meant, once it remembers all of its runs that have ended."""
        await self.parts.runs.put_away(crew_id, remembered=True)
        return self.crew(crew_id)


class MemoryHandler(MemoryResource):
    """``GET`` and ``POST /memory/{crew_id}``."""

    @operation(
        "Get crew memory", access="viewer", query=MemoryQuery, answers={200: CrewMemory}, errors=(404,)
    )
    async def get(self, crew_id: str) -> None:
        """Give what a crew remembers, the newest first: at most `limit` memories of each type."""
        query = self.query(MemoryQuery)
        await self.settled(crew_id)
        self.answer(self.parts.memories.of(crew_id, query.limit))

    @operation(
        "Add a memory", access="editor", body=MemoryCreate, answers={201: MemoryDetails}, errors=(404,)
    )
    async def post(self, crew_id: str) -> None:
        """Have a crew remember something: its next run recalls it where it is near to a task."""
        body = self.body(MemoryCreate)
        await self.settled(crew_id)
        memory = await self.parts.memories.add(crew_id, body)
        self.answer(memory.details(), status=201)


class MemoryClearHandler(MemoryResource):
    """``POST /memory/{crew_id}/clear``."""

    @operation("Clear memory", access="editor", body=MemoryClear, answers={204: None}, errors=(404,))
    async def post(self, crew_id: str) -> None:
        """Have a crew forget its short-term memories, its long-term ones, or both; no other crew's.

        What it was given to know stays.
        """
        body = self.body(MemoryClear)
        await self.settled(crew_id)
        await self.parts.memories.clear(crew_id, *(MEMORY_TYPES if body.type == "all" else (body.type,)))
        self.nothing()


class MemoryEntriesHandler(MemoryResource):
    """``GET /memory/{crew_id}/entries``."""

    @operation(
        "List memories", access="viewer", query=MemoryListQuery, answers={200: MemoryList}, errors=(404,)
    )
    async def get(self, crew_id: str) -> None:
        """List a crew's memories one by one, with their ids; `search` looks in contents and categories."""
        query = self.query(MemoryListQuery)
        await self.settled(crew_id)
        scope = {"shelf": shelf(crew_id, query.type)} if query.type else {"crew_id": crew_id}
        page = await list_page(self.parts.store.memories, query, scope, searched=("content", "category"))
        memories = [memory.details() for memory in page.documents]
        await self.answer_with(
            lambda: MemoryList.of(query, memories, page.total),
            size=LISTED * len(page.documents),
        )


class MemorySearchHandler(MemoryResource):
    """``GET /memory/{crew_id}/search``."""

    @operation(
        "Search a crew's memory",
        access="viewer",
        query=MemorySearchQuery,
        answers={200: MemoryHits},
        errors=(404,),
    )
    async def get(self, crew_id: str) -> None:
        """Find what of a crew's memories and knowledge is near to `query`, as a run of it would.

        The nearest come first, `limit` memories and as many passages; what is not near at all is left out.
        """
        query = self.query(MemorySearchQuery)
        crew = await self.settled(crew_id)
        kinds = KINDS if query.type is None else (query.type,)
        found = await self.parts.recall.search(crew, query.query, kinds=kinds, limit=query.limit)
        hits = [
            MemoryHit(
                id=hit.record.id,
                type=hit.record.kind,
                content=hit.record.content,
                category=hit.record.category,
                created_at=hit.record.time,
                score=hit.score,
            )
            for hit in sorted(found.hits, key=lambda hit: -hit.score)
        ]
        self.answer(MemoryHits(hits=hits, remark=found.remark or None))


class MemoryEntryHandler(MemoryResource):
    """``GET``, ``PUT`` and ``DELETE /memory/{crew_id}/{memory_id}``."""

    @operation("Get a memory", access="viewer", answers={200: MemoryDetails}, errors=(404,))
    async def get(self, crew_id: str, memory_id: str) -> None:
        """Give a memory of a crew."""
        await self.settled(crew_id)
        self.answer(self.parts.memories.get(crew_id, memory_id).details())

    @operation("Update a memory", access="editor", body=MemoryUpdate, answers={200: Updated}, errors=(404,))
    async def put(self, crew_id: str, memory_id: str) -> None:
        """Change what a memory says, or what it is about; it stays as old as it is."""
        body = self.body(MemoryUpdate)
        await self.settled(crew_id)
        await self.parts.memories.update(crew_id, memory_id, body)
        self.answer(Updated(id=memory_id))

    @operation("Delete a memory", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, crew_id: str, memory_id: str) -> None:
        """Have a crew forget one memory."""
        await self.settled(crew_id)
        await self.parts.memories.delete(crew_id, memory_id)
        self.nothing()


# ``/crews/{crew_id}/knowledge``: files and texts that a crew was given to know.


class KnowledgeResource(ApiHandler):
    """What the resources of a crew's knowledge share."""

    tag = "Knowledge"
    message = INVALID_KNOWLEDGE


class KnowledgeHandler(KnowledgeResource):
    """``GET`` and ``POST /crews/{crew_id}/knowledge``."""

    @operation(
        "List a crew's knowledge",
        access="viewer",
        query=SourceQuery,
        answers={200: SourceList},
        errors=(404,),
    )
    async def get(self, crew_id: str) -> None:
        """List the files and texts that a crew was given; `search` looks in their names."""
        query = self.query(SourceQuery)
        self.crew(crew_id)
        page = await list_page(self.parts.store.knowledge, query, {"crew_id": crew_id}, searched=("name",))
        sources = [_details(source) for source in page.documents]
        await self.answer_with(
            lambda: SourceList.of(query, sources, page.total),
            size=LISTED * len(page.documents),
        )

    @operation(
        "Give a crew something to know",
        access="editor",
        body=KnowledgeCreate,
        answers={201: SourceDetails},
        errors=(404,),
    )
    async def post(self, crew_id: str) -> None:
        """Give a crew a text or a file: its agents are shown the passages that are near to their tasks.

        It takes plain text, Markdown, CSV, JSON, HTML and PDF. A source of the same name is replaced. The
        crew need not have `memory`.
        """
        body = self.body(KnowledgeCreate)
        crew = self.crew(crew_id)
        source = await read_source(body, self.parts.confined, self.caller.owner)
        await self.ask_once_more()
        stored = await self.parts.knowledge.add(
            crew_id, body.name, source.media_type, source.text, source.passages
        )
        # Now, rather than when the first run waits for it.
        await self.parts.recall.bring_up_to_date(crew)
        self.answer(_details(stored), status=201)


class SourceHandler(KnowledgeResource):
    """``GET`` and ``DELETE /crews/{crew_id}/knowledge/{source_id}``."""

    @operation(
        "Get a source of a crew's knowledge",
        access="viewer",
        query=PassageQuery,
        answers={200: WholeSource},
        errors=(404,),
    )
    async def get(self, crew_id: str, source_id: str) -> None:
        """Give a source with its text, in the passages that it is recalled in; `search` looks in them."""
        query = self.query(PassageQuery)
        self.crew(crew_id)
        source = self.parts.knowledge.get(crew_id, source_id)
        page = await list_page(
            self.parts.store.passages, query, {"source_id": source.held_by}, searched=("content",)
        )
        await self.answer_with(
            lambda: WholeSource(
                **source.model_dump(include={"id", "name", "media_type", "characters", "created_at"}),
                passages=[PassageDetails(id=each.id, content=each.content) for each in page.documents],
                total=page.total,
                page=query.page,
                per_page=query.per_page,
            ),
            size=LISTED * len(page.documents),
        )

    @operation("Delete a source of a crew's knowledge", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, crew_id: str, source_id: str) -> None:
        """Take a source away from a crew: nothing of it is recalled any more."""
        self.crew(crew_id)
        await self.parts.knowledge.delete(crew_id, source_id)
        self.nothing()


def _details(source: KnowledgeSource) -> SourceDetails:
    return SourceDetails(**source.model_dump(include=set(SourceDetails.model_fields)))
