"""``/memory``: the reference's *Memory Management*."""

from __future__ import annotations

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import operation
from kasal_jupyter.schemas.memory import CrewMemory, MemoryClear, MemoryQuery
from kasal_jupyter.store.memories import MEMORY_TYPES


class MemoryHandler(ApiHandler):
    """``GET /memory/{crew_id}``."""

    tag = "Memory Management"

    @operation(
        "Get crew memory", access="viewer", query=MemoryQuery, answers={200: CrewMemory}, errors=(404,)
    )
    async def get(self, crew_id: str) -> None:
        """Give what a crew remembers, the newest first: at most `limit` memories of each type."""
        query = self.query(MemoryQuery)
        self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}")
        self.answer(self.parts.memories.of(crew_id, query.limit))


class MemoryClearHandler(ApiHandler):
    """``POST /memory/{crew_id}/clear``."""

    tag = "Memory Management"

    @operation("Clear memory", access="editor", body=MemoryClear, answers={204: None}, errors=(404,))
    async def post(self, crew_id: str) -> None:
        """Have a crew forget its short-term memories, its long-term ones, or all; no other crew's."""
        body = self.body(MemoryClear)
        self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}")
        await self.parts.memories.clear(crew_id, *(MEMORY_TYPES if body.type == "all" else (body.type,)))
        self.nothing()
