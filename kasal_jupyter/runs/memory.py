"""Crews' memories in files: kept in step with the store, for runs and for searches."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.embedder import RemoteEmbedder, embedder_name
from kasal_jupyter.memory.index import Index, IndexUnreadable
from kasal_jupyter.memory.recall import Found, Recall
from kasal_jupyter.memory.record import KINDS, Kind, Record
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.places import MEMORIES
from kasal_jupyter.schemas.crews import Crew, WholeCrew, managing_agent
from kasal_jupyter.schemas.spec import RunEmbedder, RunMemory
from kasal_jupyter.store.memories import MEMORY_TYPES, shelf
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.guard import HostGuard

FOLDER = "memory"
"""The folder of the indexes in the data folder."""

EMBED_SECONDS = 10.0
"""How long a run waits for vectors of what is new; what has none by then gets it the next time."""

REFRESH_SECONDS = 60.0
"""How long a run waits for its index in all: a name that hangs while it is looked up knows no other limit."""

DAMAGES = (ValueError, LookupError, ArithmeticError, IndexUnreadable)
"""What is raised where the sections of an index are not what they should be."""

MOST_ATTEMPTS = 3
"""How often an index is made anew at a time, where memories change meanwhile."""

_NO_REVISION = "none"

log = logging.getLogger(__name__)


class CrewMemories:
    """The indexes of a data folder's crews.

    Each is derived from the store and has its revision. It is made anew where the store has gone on: before a
    run, before a search, after a run that has remembered something, and at once where something was
    forgotten, so that a text that was deleted lies nowhere.

    Parameters
    ----------
    store
        Where memories and knowledge are kept.
    folder
        The data folder.
    catalog
        Knows the embedder.
    guard
        Which hosts an embedder may be asked at whose address is a user's.
    """

    def __init__(self, store: Store, folder: Path, catalog: ModelCatalog, guard: HostGuard) -> None:
        self.store = store
        self.folder = folder / FOLDER
        self.catalog = catalog
        self.guard = guard
        self._locks: dict[str, asyncio.Lock] = {}

    def of(self, whole: WholeCrew, catalog: ModelCatalog) -> RunMemory | None:
        """Say what a run of a crew recalls and remembers; None where that is nothing.

        Parameters
        ----------
        whole
            The crew.
        catalog
            Its owner's.
        """
        crew = whole.crew
        if not crew.memory and not self.store.passages.count(crew_id=crew.id):
            return None
        embedder, remark = _embedder(catalog)
        return RunMemory(
            folder=str(self._path(crew.id).absolute()),
            remember=crew.memory,
            embedder=embedder,
            model=_distiller(whole, catalog) if crew.memory else None,
            remark=remark,
        )

    async def refresh(self, crew_id: str, embedder: RunEmbedder) -> None:
        """Bring a crew's index up to date, where it is not.

        Nothing depends on it but what is recalled: where the disk is full, say, that is logged, and runs go
        on with what there is.
        """
        lock = self._locks.setdefault(crew_id, asyncio.Lock())
        async with lock:
            try:
                await MEMORIES.do(
                    lambda: self._refresh_or_rebuild(crew_id, embedder),
                    owner=self._owner(crew_id),
                    seconds=REFRESH_SECONDS,
                )
            except Exception:
                # A border: a run must not stop for what is derived, whatever has become of its file.
                log.exception("the memory of %s could not be written", crew_id)

    async def search(self, crew: Crew, text: str, *, kinds: Collection[Kind] = KINDS, limit: int) -> Found:
        """Find what of a crew's memories and knowledge is near to a text; see :meth:`Recall.search`."""
        embedder, remark = _embedder(self.catalog.of(crew.owner))
        await self.refresh(crew.id, embedder)
        try:
            found = await self._searched(crew, embedder, text, kinds, limit)
        except DAMAGES:
            log.exception("the index of %s is damaged, and is made anew", crew.id)
            await self.drop(crew.id)
            await self.refresh(crew.id, embedder)
            found = await self._searched(crew, embedder, text, kinds, limit)
        return Found(found.hits, found.milliseconds, found.remark or remark or "")

    async def _searched(
        self, crew: Crew, embedder: RunEmbedder, text: str, kinds: Collection[Kind], limit: int
    ) -> Found:
        return await MEMORIES.do(
            lambda: self._search(crew.id, embedder, text, kinds, limit), owner=crew.owner
        )

    async def bring_up_to_date(self, crew: Crew) -> None:
        """Have what a crew was told or given be found."""
        await self.refresh(crew.id, _embedder(self.catalog.of(crew.owner))[0])

    async def forgotten(self, crew: Crew) -> None:
        """Have what a crew has forgotten, or has changed, vanish from its index as well."""
        if self._path(crew.id).exists():
            await self.bring_up_to_date(crew)

    async def drop(self, crew_id: str) -> None:
        """Delete the index of a crew that is gone."""
        await asyncio.to_thread(shutil.rmtree, self._path(crew_id), ignore_errors=True)
        self._locks.pop(crew_id, None)

    def drop_orphans(self) -> None:
        """Delete the indexes of crews that were deleted by a server that did not come to it."""
        for path in self.folder.glob("*"):
            if not self.store.crews.has(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, crew_id: str) -> Path:
        return self.folder / crew_id

    def _owner(self, crew_id: str) -> str:
        crew = self.store.crews.readable(crew_id)
        return crew.owner if crew is not None else crew_id

    def _refresh_or_rebuild(self, crew_id: str, embedder: RunEmbedder) -> None:
        try:
            self._refresh(crew_id, embedder)
        except DAMAGES:
            # What is in the file before is not what its header says.
            log.exception("the index of %s is damaged, and is made anew", crew_id)
            shutil.rmtree(self._path(crew_id), ignore_errors=True)
            self._refresh(crew_id, embedder)

    def _refresh(self, crew_id: str, embedder: RunEmbedder) -> None:
        remote = None if embedder.provider == "offline" else RemoteEmbedder(embedder, self.guard)
        for _ in range(MOST_ATTEMPTS):
            if self._is_current(crew_id, embedder):
                break
            # Read before the records: where one changes meanwhile, the index is not current when it is done.
            revision = self._revision(crew_id)
            build_index(self._path(crew_id), self._records(crew_id), revision, remote, seconds=EMBED_SECONDS)
            if remote is not None and self._revision(crew_id) == revision:
                # An embedder that gave no vectors would give none again.
                break
        if not self.store.crews.has(crew_id):
            shutil.rmtree(self._path(crew_id), ignore_errors=True)

    def _is_current(self, crew_id: str, embedder: RunEmbedder) -> bool:
        revision = self._revision(crew_id)
        try:
            index = Index.open(self._path(crew_id))
        except IndexUnreadable:
            return False
        if index is None:
            return revision == _NO_REVISION
        with index:
            header = index.header
        wanted = "" if embedder.provider == "offline" else embedder_name(embedder)
        # With the offline embedder alone, another's vectors are left for when it is set again.
        return header.revision == revision and (
            not wanted or (header.embedder == wanted and not header.missing)
        )

    def _revision(self, crew_id: str) -> str:
        found = self.store.revisions.readable(crew_id)
        if found is not None:
            return found.revision
        # What an earlier version has stored has no revision: its memories are counted instead.
        count = sum(self.store.memories.count(shelf=shelf(crew_id, each)) for each in MEMORY_TYPES)
        return f"{count} memories" if count else _NO_REVISION

    def _records(self, crew_id: str) -> Iterator[Record]:
        for each in MEMORY_TYPES:
            for memory in self.store.memories.find(order="created", shelf=shelf(crew_id, each)):
                yield Record(memory.id, each, memory.content, memory.category, memory.created_at)
        for known in self.store.passages.find(order="created", crew_id=crew_id):
            yield Record(known.id, "knowledge", known.content, known.name, known.created_at)

    def _search(
        self, crew_id: str, embedder: RunEmbedder, text: str, kinds: Collection[Kind], limit: int
    ) -> Found:
        recall = Recall(self._path(crew_id), embedder, self.guard)
        try:
            return recall.search(text, kinds=kinds, limit=limit)
        finally:
            recall.close()


def _embedder(catalog: ModelCatalog) -> tuple[RunEmbedder, str | None]:
    try:
        return catalog.embedder(), None
    except ModelUnavailable as error:
        # Nobody's run should wait for what only the deployer can set right.
        return RunEmbedder(), f"Compared by words: {error}"


def _distiller(whole: WholeCrew, catalog: ModelCatalog) -> str | None:
    """Find who says what was learnt: the manager's model, else the first agent's; None for the sandbox."""
    name = whole.crew.manager_model if whole.crew.process == "hierarchical" else None
    if name is None and (manager := managing_agent(whole.crew, whole.agents)) is not None:
        name = manager.model
    if name is None and whole.agents:
        name = whole.agents[0].model
    try:
        model = catalog.resolve(name)
    except ModelUnavailable:
        # The crew cannot run, and its owner is told why.
        return None
    return None if model.provider == "sandbox" else model.name
