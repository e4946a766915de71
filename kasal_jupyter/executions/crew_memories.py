"""What crews remember and know, for runs and for searches: made findable where it is not yet."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import fill, not_found_yet, sweep
from kasal_jupyter.memory.recall import Found, Recall
from kasal_jupyter.memory.tables import KINDS, Kind
from kasal_jupyter.memory.vectors import BATCH, SECONDS, EmbedderFailed, RemoteEmbedder, pack
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.places import MEMORIES
from kasal_jupyter.schemas.crews import Crew, WholeCrew, managing_agent
from kasal_jupyter.schemas.spec import RunEmbedder, RunMemory
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.guard import HostGuard

OLD_FOLDER = "memory"
"""Where an earlier version kept an index for each crew, in the data folder."""

EMBED_SECONDS = 10.0
"""How long a run waits for vectors of what is new; what has none by then gets it the next time."""

REFRESH_SECONDS = 60.0
"""How long a run waits for one step of it: a name that hangs while it is looked up knows no other limit."""

log = logging.getLogger(__name__)


class CrewMemories:
    """What the crews of a data folder remember and know.

    It is found from the change on that stores it. Two things are done later, before a run or a search, or in
    the background: what an earlier version has stored is made findable, and an embedder makes its vectors.

    Parameters
    ----------
    store
        Where it is kept.
    folder
        The data folder.
    catalog
        Knows the embedder.
    guard
        Which hosts an embedder may be asked at whose address is a user's.
    """

    def __init__(self, store: Store, folder: Path, catalog: ModelCatalog, guard: HostGuard) -> None:
        self.store = store
        self.catalog = catalog
        self.guard = guard
        self._old_folder = folder / OLD_FOLDER
        self._locks: dict[str, asyncio.Lock] = {}
        self._filling: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Delete what is left of what is gone; then, in the background, have what is old be found."""
        await asyncio.to_thread(shutil.rmtree, self._old_folder, ignore_errors=True)
        await sweep(self.store)
        self._filling = asyncio.ensure_future(self._fill_all())

    def close(self) -> None:
        """Begin nothing any more."""
        if self._filling is not None:
            self._filling.cancel()

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
        if not crew.memory and not self.store.knowledge.count(crew_id=crew.id):
            return None
        embedder, remark = _embedder(catalog)
        return RunMemory(
            file=str(self.store.path.absolute()),
            remember=crew.memory,
            embedder=embedder,
            model=_distiller(whole, catalog) if crew.memory else None,
            remark=remark,
        )

    async def refresh(self, crew_id: str, embedder: RunEmbedder) -> None:
        """Have all that a crew remembers and knows be found, by an embedder's vectors where one is set.

        Nothing depends on it but what is recalled: where the disk is full, say, that is logged, and runs go
        on with what there is.
        """
        lock = self._locks.setdefault(crew_id, asyncio.Lock())
        async with lock:
            try:
                await self._fill(crew_id)
                if embedder.provider != "offline":
                    await self._embed(crew_id, RemoteEmbedder(embedder, self.guard))
            except Exception:
                # A border: a run must not stop for what it could do without.
                log.exception("the memory of %s could not be brought up to date", crew_id)

    async def search(self, crew: Crew, text: str, *, kinds: Collection[Kind] = KINDS, limit: int) -> Found:
        """Find what of a crew's memories and knowledge is near to a text; see :meth:`Recall.search`."""
        embedder, remark = _embedder(self.catalog.of(crew.owner))
        await self.refresh(crew.id, embedder)
        recall = Recall(self.store.read, crew.id, embedder, self.guard)
        found = await MEMORIES.do(lambda: recall.search(text, kinds=kinds, limit=limit), owner=crew.owner)
        return Found(found.hits, found.milliseconds, found.remark or remark or "")

    async def bring_up_to_date(self, crew: Crew) -> None:
        """Have what a crew was told or given be found."""
        await self.refresh(crew.id, _embedder(self.catalog.of(crew.owner))[0])

    async def drop(self, crew_id: str) -> None:
        """Delete what is left of a crew that is gone."""
        self._locks.pop(crew_id, None)
        await sweep(self.store)

    async def _fill_all(self) -> None:
        with self.store.read() as connection:
            coming = tables.crews_in(connection, tables.State.COMING)
        for crew_id in coming:
            await self.refresh(crew_id, RunEmbedder())

    async def _fill(self, crew_id: str) -> None:
        with self.store.read() as connection:
            crew = tables.crew_row(connection, crew_id)
        if crew is not None and crew.state is tables.State.COMING:
            missing = await MEMORIES.do(
                lambda: not_found_yet(self.store, crew_id),
                owner=self._owner(crew_id),
                seconds=REFRESH_SECONDS,
            )
            await fill(self.store, crew_id, missing)

    async def _embed(self, crew_id: str, remote: RemoteEmbedder) -> None:
        """Ask for the vectors that are missing, and note why some are missing still."""
        owner = self._owner(crew_id)
        until = time.monotonic() + EMBED_SECONDS
        after, remark = 0, ""
        with self.store.read() as connection:
            crew = tables.crew_row(connection, crew_id)
        if crew is None:
            return
        while True:
            left = until - time.monotonic()
            some = await MEMORIES.do(partial(self._without_vector, crew, remote.name, after), owner=owner)
            if not some:
                break
            if left <= 0:
                remark = f"{remote.name} is still at work"
                break
            try:
                vectors = await MEMORIES.do(
                    partial(_vectors, remote, [text for _, text in some], left),
                    owner=owner,
                    seconds=REFRESH_SECONDS,
                )
            except (EmbedderFailed, ValueError) as error:
                remark = str(error)
                break
            numbered = list(zip([number for number, _ in some], vectors, strict=True))
            same = await self.store.change(partial(self._write, crew, remote.name, numbered))
            # Another model answers under the same name: what the one before has made was no use.
            after = some[-1][0] if same else 0
        if remark != crew.remark:
            await self.store.change(lambda: tables.remark_on(self.store.connection, crew_id, remark))

    def _without_vector(self, crew: tables.CrewRow, embedder: str, after: int) -> list[tuple[int, str]]:
        with self.store.read() as connection:
            if after == 0 and tables.count_vectors(connection, crew, embedder) == crew.texts:
                return []
            return tables.without_vector(connection, crew, embedder, after=after, limit=BATCH)

    def _write(self, crew: tables.CrewRow, embedder: str, vectors: Sequence[tuple[int, bytes]]) -> bool:
        """Store vectors, within a change; tell whether those that are there are of their kind."""
        connection = self.store.connection
        length = tables.vector_bytes(connection, crew, embedder)
        same = length in {0, len(vectors[0][1])}
        if not same:
            tables.drop_vectors(connection, crew, embedder)
        tables.write_vectors(connection, embedder, vectors)
        return same

    def _owner(self, crew_id: str) -> str:
        crew = self.store.crews.readable(crew_id)
        return crew.owner if crew is not None else crew_id


def _vectors(remote: RemoteEmbedder, texts: Sequence[str], left: float) -> list[bytes]:
    return [pack(vector) for vector in remote.embed(texts, seconds=min(left, SECONDS))]


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
