"""An index: the ids of the documents that have a value in a field."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence


class Index:
    """Ids by value, each value's in ascending order, which is the order of creation.

    A value's ids are a sorted list: new documents have the highest id, so they are
    appended, and a page is a slice. A single id is held as it is: most indexes have
    many values with one, and the garbage collector would walk through the lists.
    """

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[Hashable, int | list[int]] = {}

    def add(self, value: Hashable, doc_id: int) -> None:
        """Note that a document has the value; it must not be noted yet."""
        held = self._ids.get(value)
        if held is None:
            self._ids[value] = doc_id
        elif isinstance(held, int):
            self._ids[value] = sorted((held, doc_id))
        else:
            insert_id(held, doc_id)

    def discard(self, value: Hashable, doc_id: int) -> None:
        """Note that a document does not have the value any more; it must be noted."""
        held = self._ids[value]
        if isinstance(held, int):
            del self._ids[value]
            return
        remove_id(held, doc_id)
        if len(held) == 1:
            self._ids[value] = held[0]

    def ids(self, value: Hashable) -> Sequence[int]:
        """Give the ids with the value, ascending. The sequence is the index's own: copy what you keep."""
        held = self._ids.get(value)
        if held is None:
            return ()
        return (held,) if isinstance(held, int) else held


def insert_id(ids: list[int], doc_id: int) -> None:
    """Insert an id where it belongs in an ascending list; at the end, without a search, for the newest."""
    if not ids or doc_id > ids[-1]:
        ids.append(doc_id)
    else:
        insort(ids, doc_id)


def remove_id(ids: list[int], doc_id: int) -> None:
    """Take an id out of an ascending list that has it."""
    del ids[bisect_left(ids, doc_id)]


def has_id(ids: Sequence[int], doc_id: int) -> bool:
    """Tell whether an ascending sequence has an id, without walking through it."""
    at = bisect_left(ids, doc_id)
    return at < len(ids) and ids[at] == doc_id
