"""What crews remember, each crew its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial

from pydantic import ValidationError

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound
from kasal_jupyter.events.event import Remembered
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import memory_record
from kasal_jupyter.memory.words import alike, words_of
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.memory import (
    CrewMemory,
    LongTermMemory,
    Memory,
    MemoryCreate,
    MemoryType,
    MemoryUpdate,
    ShortTermMemory,
)
from kasal_jupyter.store.store import Store

MEMORY_TYPES: tuple[MemoryType, ...] = ("short_term", "long_term")

MOST: dict[MemoryType, int] = {"short_term": 200, "long_term": 10_000}
"""How many memories of a type a crew keeps; the oldest are forgotten."""

COMPARED = 500
"""With how many of the latest insights a new one is compared."""

_COMPARED_CHARACTERS = 2_000
"""How much of each: what comes from runs is shorter."""

NEARLY_THE_SAME = 0.8
"""Insights of one category that have so many of their words in common are one."""

INVALID_MEMORY = "Invalid memory"

NO_CATEGORY = "A short_term memory has none"


class Memories:
    """The memories of a store's crews. Every change is one transaction, and touches one crew.

    Parameters
    ----------
    store
        The opened data folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(self, crew_id: str, body: MemoryCreate) -> Memory:
        """Have a crew remember what somebody wrote.

        Raises
        ------
        InvalidRequest
            A long-term memory has no category, or a short-term one has.
        NotFound
            There is no such crew any more.
        """
        if (body.type == "long_term") != (body.category is not None):
            reason = f"{NO_CATEGORY}; leave it out" if body.category else "A long_term memory needs one"
            raise InvalidRequest(INVALID_MEMORY, faults=[Fault("category", reason)])
        return await self._insert(_memory(crew_id, body.type, body.content, category=body.category))

    def get(self, crew_id: str, memory_id: str) -> Memory:
        """Give a memory of a crew.

        Raises
        ------
        NotFound
            The crew has none with this id.
        """
        memory = self.store.memories.get(memory_id)
        if memory is None or memory.crew_id != crew_id:
            raise NotFound(f"Crew {crew_id} has no memory {memory_id}")
        return memory

    async def update(self, crew_id: str, memory_id: str, body: MemoryUpdate) -> Memory:
        """Change what the body gives.

        Raises
        ------
        InvalidRequest
            A short-term memory has no category.
        NotFound
            The crew has no such memory.
        """

        def change() -> Memory:
            memory = self.get(crew_id, memory_id)
            if body.category is not None and memory.type == "short_term":
                raise InvalidRequest(INVALID_MEMORY, faults=[Fault("category", NO_CATEGORY)])
            changed = memory.model_copy(
                update={**body.model_dump(exclude_unset=True), "updated_at": utc_now()}
            )
            self.store.memories.replace(changed)
            tables.remove_texts(self.store.connection, [memory_id])
            _have_found(self.store, changed)
            return changed

        return await self.store.change(change, bounded=True)

    async def delete(self, crew_id: str, memory_id: str) -> None:
        """Have a crew forget one memory.

        Raises
        ------
        NotFound
            It has none with this id.
        """

        def change() -> None:
            self.get(crew_id, memory_id)
            _forget(self.store, [memory_id])

        await self.store.change(change)

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
        """Have a crew forget its memories of some types, the oldest first; tell how many they were.

        Many of them are forgotten in several changes, so that nobody else waits for all.
        """

        def change(type_: MemoryType) -> int:
            oldest = self.store.memories.ids(shelf=shelf(crew_id, type_))[: tables.BATCH]
            _forget(self.store, oldest)
            return len(oldest)

        forgotten = 0
        for each in types:
            while some := await self.store.change(partial(change, each)):
                forgotten += some
        return forgotten

    async def _insert(self, memory: Memory) -> Memory:
        def insert() -> Memory:
            # A run may outlive its crew, whose memories would then be nobody's.
            if not self.store.crews.has(memory.crew_id):
                raise NotFound(f"There is no crew {memory.crew_id}")
            _remember(self.store, memory)
            drop_oldest(self.store, memory.crew_id, memory.type)
            return memory

        return await self.store.change(insert, bounded=True)


def shelf(crew_id: str, type: MemoryType) -> str:  # noqa: A002
    """Give the value by which a crew's memories of a type are looked up.

    One index for both: it gives a page of one crew as a slice, without a look at the other memories.
    """
    return f"{crew_id}/{type}"


def keep_run(store: Store, crew_id: str, job_id: str, remembered: Iterable[Remembered]) -> None:
    """Have a crew remember what one of its runs has told it to, within the change that ends the run.

    A short-term memory takes the place of an older one that says the same, a long-term one that of those in
    its category that say nearly the same. What is no memory, by its length say, is left out: a run's end must
    not fail for it.

    Parameters
    ----------
    store
        Where memories are kept.
    crew_id
        The crew; one that is gone remembers nothing.
    job_id
        The run.
    remembered
        What its ``memory_stored`` event has.
    """
    if not store.crews.has(crew_id):
        return
    memories = [
        memory for each in remembered if (memory := _of_run(store, crew_id, job_id, each)) is not None
    ]
    for type_ in MEMORY_TYPES:
        if new := [memory for memory in memories if memory.type == type_]:
            _replace_same(store, new)
            drop_oldest(store, crew_id, type_)


def drop_oldest(store: Store, crew_id: str, type: MemoryType) -> None:  # noqa: A002
    """Delete, within a change, what a crew has of a type beyond what it may keep."""
    surplus = store.memories.count(shelf=shelf(crew_id, type)) - MOST[type]
    if surplus > 0:
        oldest = store.memories.page(order="created", limit=surplus, shelf=shelf(crew_id, type))
        _forget(store, [memory.id for memory in oldest.documents])


def _of_run(store: Store, crew_id: str, job_id: str, told: Remembered) -> Memory | None:
    try:
        memory = Memory(
            id=told["id"],
            crew_id=crew_id,
            type=told["type"],
            shelf=f"{crew_id}/{told['type']}",
            content=told["content"],
            category=told.get("category"),
            job_id=job_id,
            created_at=utc_now(),
        )
    except (ValidationError, KeyError, TypeError) as error:
        logging.getLogger(__name__).warning(
            "%s told its crew to remember what is no memory: %s", job_id, error
        )
        return None
    if store.memories.has(memory.id):
        return None
    return memory


def _replace_same(store: Store, memories: Iterable[Memory]) -> None:
    """Remember memories of one type, each in the place of what it says again."""
    words: dict[str, frozenset[str]] = {}

    def says(memory: Memory) -> frozenset[str]:
        if memory.id not in words:
            words[memory.id] = frozenset(words_of(memory.content[:_COMPARED_CHARACTERS]))
        return words[memory.id]

    def same(one: Memory, other: Memory) -> bool:
        return one.content == other.content or (
            one.type == "long_term"
            and (one.category or "").casefold() == (other.category or "").casefold()
            and alike(says(one), says(other)) >= NEARLY_THE_SAME
        )

    known: list[Memory] | None = None
    for memory in memories:
        if known is None:
            known = store.memories.page(order="newest", limit=COMPARED, shelf=memory.shelf).documents
        again = [other for other in known if same(memory, other)]
        _forget(store, [other.id for other in again])
        _remember(store, memory)
        known = [memory, *(other for other in known if other not in again)]


def _remember(store: Store, memory: Memory) -> None:
    store.memories.insert(memory)
    _have_found(store, memory)


def _have_found(store: Store, memory: Memory) -> None:
    tables.add_texts(store.connection, memory.crew_id, [memory_record(memory)])


def _forget(store: Store, ids: Sequence[str]) -> None:
    for each in ids:
        store.memories.delete(each)
    tables.remove_texts(store.connection, ids)


def _memory(crew_id: str, kind: MemoryType, content: str, *, category: str | None = None) -> Memory:
    return Memory(
        id=new_id("memory"),
        crew_id=crew_id,
        type=kind,
        shelf=shelf(crew_id, kind),
        content=content,
        category=category,
        created_at=utc_now(),
    )
