"""Bags of words: records compared with a query word by word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from kasal_jupyter.memory.index import BAG_STEP, WEIGHT_STEP, Index
from kasal_jupyter.memory.words import number_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Bag = tuple[NDArray[np.uint32], NDArray[np.uint8]]

UNSEEN = 20
"""Texts taken to be there besides, each word in one of them: few memories tell little of what is rare."""

_MOST_READ = 256
"""Bags that are held in memory: those of a search, and of the next, which is often much like it."""


class Bags:
    """The words of an index's records, and how rare each is.

    Parameters
    ----------
    index
        The index.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._read: dict[int, _Bag] = {}

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """Each record's kind, by its place in ``KINDS``."""
        import numpy as np

        return np.frombuffer(self._index.section("kinds"), dtype=np.uint8)

    @cached_property
    def _stems(self) -> NDArray[np.uint32]:
        return _numbers(self._index, "stems")

    @cached_property
    def _counts(self) -> NDArray[np.uint32]:
        return _numbers(self._index, "counts")

    @cached_property
    def _ends(self) -> NDArray[np.uint32]:
        return _numbers(self._index, "ends")

    def rarities(self, stems: Iterable[str]) -> list[float]:
        """Say how much each stem tells: 1 where it stands in every other record, more the fewer they are."""
        import numpy as np

        numbers = np.fromiter(map(number_of, stems), dtype=np.uint32)
        return [float(each) for each in self._rarities(numbers)]

    def compare(self, rows: Sequence[int], query: Mapping[str, float]) -> list[float]:
        """Give the cosine of some records' words with a query's, 0 to 1."""
        import numpy as np

        if not rows or not query:
            return [0.0] * len(rows)
        pairs = sorted((number_of(stemmed), weight) for stemmed, weight in query.items())
        asked = np.array([number for number, _ in pairs], dtype=np.uint32)
        asked_weights = np.array([weight for _, weight in pairs], dtype=np.float32)
        bags = [self._bag(row) for row in rows]
        numbers = np.concatenate([bag for bag, _ in bags])
        weights = np.concatenate([each for _, each in bags]) * WEIGHT_STEP * self._rarities(numbers)
        of_row = np.repeat(np.arange(len(rows)), [len(bag) for bag, _ in bags])
        lengths = np.sqrt(np.bincount(of_row, weights * weights, len(rows)))
        places = np.minimum(np.searchsorted(asked, numbers), len(asked) - 1)
        shared = np.where(asked[places] == numbers, asked_weights[places] * weights, 0.0)
        products = np.bincount(of_row, shared, len(rows))
        whole = lengths * float(np.sqrt((asked_weights * asked_weights).sum()))
        return [float(each) for each in products / np.where(whole > 0, whole, 1.0)]

    def distinct(
        self, ranked: Iterable[tuple[int, float]], same: float, limit: int
    ) -> list[tuple[int, float]]:
        """Give the first rows, without those whose words are nearly all an earlier one's."""
        kept: list[tuple[int, float]] = []
        seen: list[frozenset[int]] = []
        for row, score in ranked:
            if len(kept) == limit:
                break
            words = frozenset(self._bag(row)[0].tolist())
            if all(len(words & other) < same * len(words | other) for other in seen):
                kept.append((row, score))
                seen.append(words)
        return kept

    def _rarities(self, numbers: NDArray[np.uint32]) -> NDArray[np.float64]:
        import numpy as np

        count = self._index.header.count
        if not len(self._stems):
            return np.ones(len(numbers))
        places = np.minimum(np.searchsorted(self._stems, numbers), len(self._stems) - 1)
        among = np.where(self._stems[places] == numbers, self._counts[places], 0)
        rarities: NDArray[np.float64] = np.log(1 + (count + UNSEEN) / (among + 1)) / np.log(3)
        return rarities

    def _bag(self, row: int) -> _Bag:
        import numpy as np

        if (known := self._read.get(row)) is not None:
            return known
        begin, end = int(self._ends[row - 1]) if row else 0, int(self._ends[row])
        data = bytearray(BAG_STEP * (end - begin))
        self._index.read_into("bags", BAG_STEP * begin, data)
        numbers = np.frombuffer(data, dtype=np.uint32, count=end - begin)
        bag = numbers, np.frombuffer(data, dtype=np.uint8, offset=numbers.nbytes)
        if len(self._read) >= _MOST_READ:
            self._read.clear()
        self._read[row] = bag
        return bag


def _numbers(index: Index, section: str) -> NDArray[np.uint32]:
    import numpy as np

    numbers = np.empty(index.header.sections[section][1] // 4, dtype=np.uint32)
    index.read_into(section, 0, numbers)
    return numbers
