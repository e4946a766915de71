"""What crews remember, each crew its own."""

from __future__ import annotations

from kasal_jupyter.errors import NotFound
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.memory import CrewMemory, LongTermMemory, Memory, MemoryType, ShortTermMemory
from kasal_jupyter.store.store import Store

MEMORY_TYPES: tuple[MemoryType, ...] = ("short_term", "long_term")


class Memories:
    """The memories of a store's crews. Every change is one transaction, and touches one crew.

    Parameters
    ----------
    store
        The opened data folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    async def remember_short(self, crew_id: str, content: str) -> Memory:
        """Have a crew remember something that was said or found.

        Raises
        ------
        NotFound
            There is no such crew any more.
        """
        return await self._remember(crew_id, "short_term", content, category=None)

    async def remember_long(self, crew_id: str, category: str, insight: str) -> Memory:
        """Have a crew remember something that it has learnt.

        Raises
        ------
        NotFound
            There is no such crew any more.
        """
        return await self._remember(crew_id, "long_term", insight, category=category)

    def newest(self, crew_id: str, type: MemoryType, limit: int) -> list[Memory]:  # noqa: A002
        """Give a crew's memories of a type, newest first.

        Its cost depends on the limit, and not on how many memories there are.
        """
        return self.store.memories.page(order="newest", limit=limit, shelf=shelf(crew_id, type)).documents

    def of(self, crew_id: str, limit: int) -> CrewMemory:
        """Give what a crew remembers, newest first: at most so many memories of each type.

        Insights are given by category; the category with the newest insight comes first.
        """
        with self.store.snapshot():
            short = self.newest(crew_id, "short_term", limit)
            long = self.newest(crew_id, "long_term", limit)
        insights: dict[str, list[str]] = {}
        for memory in long:
            insights.setdefault(memory.category or "", []).append(memory.content)
        return CrewMemory(
            short_term=[
                ShortTermMemory(timestamp=memory.created_at, content=memory.content) for memory in short
            ],
            long_term=[
                LongTermMemory(category=category, insights=texts) for category, texts in insights.items()
            ],
        )

    async def clear(self, crew_id: str, *types: MemoryType) -> int:
        """Have a crew forget its memories of some types; tell how many they were."""
        return await self.store.change(lambda: forget(self.store, crew_id, *types))

    async def _remember(
        self,
        crew_id: str,
        type: MemoryType,  # noqa: A002
        content: str,
        *,
        category: str | None,
    ) -> Memory:
        memory = Memory(
            id=new_id("memory"),
            crew_id=crew_id,
            type=type,
            shelf=shelf(crew_id, type),
            content=content,
            category=category,
            created_at=utc_now(),
        )

        def insert() -> Memory:
            # A run may outlive its crew, whose memories would then be nobody's.
            if self.store.crews.get(crew_id) is None:
                raise NotFound(f"There is no crew {crew_id}")
            self.store.memories.insert(memory)
            return memory

        return await self.store.change(insert)


def shelf(crew_id: str, type: MemoryType) -> str:  # noqa: A002
    """Give the value by which a crew's memories of a type are looked up.

    One index for both: it gives a page of one crew as a slice, without a look at the other memories.
    """
    return f"{crew_id}/{type}"


def forget(store: Store, crew_id: str, *types: MemoryType) -> int:
    """Delete a crew's memories of some types, within a change; tell how many they were."""
    return sum(store.memories.delete_where(shelf=shelf(crew_id, each)) for each in types)
