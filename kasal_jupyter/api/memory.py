"""``/memory``: the reference's *Memory Management*, and memories one by one."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.memory.memories import INVALID_MEMORY, MEMORY_TYPES, shelf
from kasal_jupyter.memory.tables import KINDS
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.crews import Crew
from kasal_jupyter.schemas.memory import (
    CrewMemory,
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
)


class MemoryResource(ApiHandler):
    """What the resources of a crew's memory share."""

    tag = "Memory Management"
    message = INVALID_MEMORY

    async def crew(self, crew_id: str) -> Crew:
        """Give the crew that is meant, once it remembers all of its runs that have ended."""
        await self.parts.runs.put_away(crew_id, remembered=True)
        return self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}")


class MemoryHandler(MemoryResource):
    """``GET`` and ``POST /memory/{crew_id}``."""

    @operation(
        "Get crew memory", access="viewer", query=MemoryQuery, answers={200: CrewMemory}, errors=(404,)
    )
    async def get(self, crew_id: str) -> None:
        """Give what a crew remembers, the newest first: at most `limit` memories of each type."""
        query = self.query(MemoryQuery)
        await self.crew(crew_id)
        self.answer(self.parts.memories.of(crew_id, query.limit))

    @operation(
        "Add a memory", access="editor", body=MemoryCreate, answers={201: MemoryDetails}, errors=(404,)
    )
    async def post(self, crew_id: str) -> None:
        """Have a crew remember something: its next run recalls it where it is near to a task."""
        body = self.body(MemoryCreate)
        await self.crew(crew_id)
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
        await self.crew(crew_id)
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
        await self.crew(crew_id)
        scope = {"shelf": shelf(crew_id, query.type)} if query.type else {"crew_id": crew_id}
        page = await list_page(self.parts.store.memories, query, scope, searched=("content", "category"))
        memories = [memory.details() for memory in page.documents]
        await self.answer_with(
            lambda: MemoryList(memories=memories, total=page.total, page=query.page, per_page=query.per_page),
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
        crew = await self.crew(crew_id)
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
        await self.crew(crew_id)
        self.answer(self.parts.memories.get(crew_id, memory_id).details())

    @operation("Update a memory", access="editor", body=MemoryUpdate, answers={200: Updated}, errors=(404,))
    async def put(self, crew_id: str, memory_id: str) -> None:
        """Change what a memory says, or what it is about; it stays as old as it is."""
        body = self.body(MemoryUpdate)
        await self.crew(crew_id)
        await self.parts.memories.update(crew_id, memory_id, body)
        self.answer(Updated(id=memory_id))

    @operation("Delete a memory", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, crew_id: str, memory_id: str) -> None:
        """Have a crew forget one memory."""
        await self.crew(crew_id)
        await self.parts.memories.delete(crew_id, memory_id)
        self.nothing()
