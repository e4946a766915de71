"""What crews remember, as tests and benchmarks have it stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.schemas.memory import MemoryCreate

if TYPE_CHECKING:
    from kasal_jupyter.memory.memories import Memories
    from kasal_jupyter.schemas.memory import Memory


async def remember_short(memories: Memories, crew_id: str, content: str) -> Memory:
    """Have a crew remember something that happened."""
    return await memories.add(crew_id, MemoryCreate(type="short_term", content=content))


async def remember_long(memories: Memories, crew_id: str, category: str, insight: str) -> Memory:
    """Have a crew remember something that it has learnt."""
    return await memories.add(crew_id, MemoryCreate(type="long_term", category=category, content=insight))
