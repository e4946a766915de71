"""Recall: what of a crew's memories and knowledge is near to a text. No model is asked.

All vectors are compared, which costs a millisecond or two for 10,000; the nearest are then compared word by
word, so that what fell together in the vectors by chance counts little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.memory.bags import Bags
from kasal_jupyter.memory.embedder import EmbedderFailed, RemoteEmbedder, embedder_name
from kasal_jupyter.memory.index import Index, IndexUnreadable
from kasal_jupyter.memory.record import KINDS, Kind, Record
from kasal_jupyter.memory.vectors import DIMENSIONS, offline_vector
from kasal_jupyter.memory.words import stems_of
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

NEAR = 0.12
"""The least score of what is near, by words, one of which both have and not every text has."""

NEAR_BY_PARTS = 0.18
"""The same where they have none in common, and only words with the same parts."""

NEAR_VECTOR = 0.3
"""The same by another embedder's vectors, which find something in any two texts."""

CANDIDATES = 64
"""How many of each group are compared word by word."""

SAME = 0.9
"""Of two texts that have so many of their words in common, the nearer is recalled, or the newer."""

MOST_QUERY = 6_000
"""Characters of a query that are read."""

MOST_QUERY_STEMS = 100
"""Its words that count, the rarest."""

CONTEXT_WEIGHT = 0.3
"""What a word counts that stands in the context only."""

QUERY_SECONDS = 5.0
"""How long another embedder may take for a query."""

_BLOCK = 256
"""Vectors read at a time: 65 kB of the offline embedder's, 260 kB as floats: a cache holds them."""

GROUPS: tuple[tuple[Kind, ...], ...] = (("short_term", "long_term"), ("knowledge",))
"""What is recalled together: a long document must not crowd out what the crew has lived through."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that is near.

    Attributes
    ----------
    score
        How near: 0 to 1.
    """

    record: Record
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    hits
        Best first, the memories before the knowledge.
    milliseconds
        How long it took.
    remark
        What the searcher should know: that the embedder does not answer, say. Empty where all is well.
    """

    hits: list[Hit] = field(default_factory=list)
    milliseconds: float = 0.0
    remark: str = ""


class Recall:
    """Searches one crew's index, from any thread.

    Parameters
    ----------
    folder
        The crew's folder. The index that lies there now is searched, whatever comes after it.
    embedder
        Whose vectors are compared.
    guard
        Which hosts an embedder may be asked at whose address is a user's.
    """

    def __init__(self, folder: Path, embedder: RunEmbedder, guard: HostGuard | None = None) -> None:
        self._remark = ""
        self._index: Index | None = None
        try:
            self._index = Index.open(folder)
        except IndexUnreadable as error:
            self._remark = f"The memory cannot be searched: {error}"
        self._remote = None if embedder.provider == "offline" else RemoteEmbedder(embedder, guard)
        self._embedder = embedder_name(embedder)
        self._bags = Bags(self._index) if self._index is not None else None

    def close(self) -> None:
        """Let go of the file."""
        if self._index is not None:
            self._index.close()

    def search(
        self, text: str, context: str = "", *, kinds: Collection[Kind] = KINDS, limit: int = 5
    ) -> Found:
        """Find what is near to a text.

        Parameters
        ----------
        text
            What is looked for.
        context
            What goes with it, and counts less.
        kinds
            What to look among.
        limit
            Most hits of each of :data:`GROUPS`.
        """
        began = time.perf_counter()
        hits: list[Hit] = []
        remark = self._remark
        if self._index is not None and self._bags is not None and self._index.header.count:
            try:
                hits, remark = self._search(self._index, self._bags, text, context, kinds=kinds, limit=limit)
            except (IndexUnreadable, ValueError, TypeError) as error:
                remark = f"The memory cannot be searched: {error}"
        return Found(hits, round((time.perf_counter() - began) * 1_000, 3), remark)

    def _search(
        self, index: Index, bags: Bags, text: str, context: str, *, kinds: Collection[Kind], limit: int
    ) -> tuple[list[Hit], str]:
        vector, remark = self._asked(index, text)
        if vector is not None:
            query = _Query({}, {})
            scores = _scan(index, "2", index.header.dimensions, vector)
        else:
            query = _query(bags, text, context)
            scores = _scan(index, "", DIMENSIONS, _unit(offline_vector(query.stems)))
        hits: list[Hit] = []
        for group in GROUPS:
            rows = self._best(bags, scores, [kind for kind in group if kind in kinds])
            if vector is None:
                by_words = bags.compare(rows, query.telling)
                # The words are exact; the vectors see parts of words besides, and add noise of their own.
                both = [
                    (row, max(word, (scores[row] + word) / 2), word)
                    for row, word in zip(rows, by_words, strict=True)
                ]
                near = [
                    (row, float(score))
                    for row, score, word in both
                    if score >= (NEAR if word > 0 else NEAR_BY_PARTS)
                ]
            else:
                near = [(row, float(scores[row])) for row in rows if scores[row] >= NEAR_VECTOR]
            ranked = sorted(near, key=lambda each: (-each[1], -each[0]))
            hits += [
                Hit(index.record(row), round(min(1.0, score), 4))
                for row, score in bags.distinct(ranked, SAME, limit)
            ]
        return hits, remark

    def _asked(self, index: Index, text: str) -> tuple[list[float] | None, str]:
        """Give the query's vector by another embedder, where one is set; else why words are compared."""
        header = index.header
        if self._remote is None:
            return None, ""
        if header.embedder != self._embedder:
            return None, f"Compared by words: {self._embedder} has made no vectors of the memories yet"
        if header.missing or not header.dimensions:
            reason = header.remark or f"{self._embedder} gave none"
            return None, f"Compared by words: {header.missing} memories have no vectors yet ({reason})"
        try:
            vector = self._remote.embed([text[:MOST_QUERY]], seconds=QUERY_SECONDS)[0]
        except EmbedderFailed as error:
            return None, f"Compared by words: {error}"
        if len(vector) != header.dimensions or not all(map(math.isfinite, vector)):
            return None, f"Compared by words: {self._embedder} gave a vector of another kind"
        return _unit(vector), ""

    def _best(self, bags: Bags, scores: Floats, kinds: Sequence[Kind]) -> list[int]:
        """Give the rows of some kinds with the best scores."""
        import numpy as np

        rows = np.flatnonzero(np.array([kind in kinds for kind in KINDS])[bags.kinds])
        if len(rows) > CANDIDATES:
            rows = rows[np.argpartition(-scores[rows], CANDIDATES)[:CANDIDATES]]
        return [int(row) for row in rows]


@dataclass(frozen=True, slots=True)
class _Query:
    """A query's stems with what each counts; and those of them that do not stand in every text."""

    stems: dict[str, float]
    telling: dict[str, float]


def _query(bags: Bags, text: str, context: str) -> _Query:
    """Read a query: its rare words count most."""
    asked, around = stems_of(text[:MOST_QUERY]), stems_of(context[:MOST_QUERY])
    common = {stemmed for stems in (asked, around) for stemmed, weight in stems.items() if weight < 1}
    stems = {stemmed: weight * CONTEXT_WEIGHT for stemmed, weight in around.items()}
    for stemmed, weight in asked.items():
        stems[stemmed] = max(weight, stems.get(stemmed, 0.0))
    rarities = bags.rarities(stems)
    weighted = {
        stemmed: weight * rarity for (stemmed, weight), rarity in zip(stems.items(), rarities, strict=True)
    }
    heaviest = sorted(weighted, key=lambda stemmed: -weighted[stemmed])[:MOST_QUERY_STEMS]
    return _Query(
        {stemmed: weighted[stemmed] for stemmed in heaviest},
        {stemmed: weighted[stemmed] for stemmed in heaviest if stemmed not in common},
    )


def _scan(index: Index, suffix: str, dimensions: int, query: Sequence[float]) -> Floats:
    """Give the cosine of every record's vector with the query's, whose length is 1."""
    # In a run's process it is there already, by CrewAI; the server has it from its first search on.
    import numpy as np

    count = index.header.count
    asked = np.array(query, dtype=np.float32)
    scores = np.empty(count, dtype=np.float32)
    block = np.empty((min(_BLOCK, count), dimensions), dtype=np.int8)
    floats = np.empty(block.shape, dtype=np.float32)
    for at in range(0, count, _BLOCK):
        rows = min(_BLOCK, count - at)
        index.read_into(f"vectors{suffix}", at * dimensions, block[:rows])
        np.copyto(floats[:rows], block[:rows])
        np.dot(floats[:rows], asked, out=scores[at : at + rows])
    factors = np.empty(count, dtype=np.float32)
    index.read_into(f"factors{suffix}", 0, factors)
    scores *= factors
    return scores


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else list(vector)
