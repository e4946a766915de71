"""Changes that are not committed yet, laid over what is.

A transaction never touches the committed rows: it writes into a layer, and reads
through it. Other threads go on reading the committed rows, so they can't see half
of a change; taking a change back is to forget its layer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Protocol

from kasal_jupyter.store.rows import Keys, Rows, TableReader, TableWriter, sized_field


class Overlay:
    """The changes to one table.

    Parameters
    ----------
    below
        The table it lies over, which does not change as long as it does.

    Attributes
    ----------
    put_rows
        The rows added or replaced.
    hidden
        The ids of the rows below that are replaced or removed.
    cleared
        Whether every row below is removed.
    """

    def __init__(self, below: TableReader) -> None:
        self._below = below
        self.fields = below.fields
        self.last_id = below.last_id
        self.present = below.present
        self.put_rows = Rows(below.fields)
        self.hidden: set[int] = set()
        self.cleared = False

    def __len__(self) -> int:
        below = 0 if self.cleared else len(self._below) - len(self.hidden)
        return below + len(self.put_rows)

    def body(self, doc_id: int) -> bytes | None:
        """Give the encoded document with the id, or None."""
        if self.cleared or doc_id in self.hidden or doc_id in self.put_rows:
            return self.put_rows.body(doc_id)
        return self._below.body(doc_id)

    def ids(self) -> Sequence[int]:
        """Give all ids, ascending."""
        return self._over(self._below.ids(), self.put_rows.ids())

    def matching(self, field: str, value: Hashable) -> Sequence[int]:
        """Give the ids with the value in the indexed field, ascending."""
        return self._over(self._below.matching(field, value), self.put_rows.matching(field, value))

    def keys(self, doc_id: int) -> Keys:
        """Give the indexed values of a row that is there."""
        return self.put_rows.keys(doc_id) if doc_id in self.put_rows else self._below.keys(doc_id)

    def size(self, value: Hashable) -> int:
        """Give the bytes of the rows that are an owner's, or in a table without owners a crew's."""
        own = self.put_rows.size(value)
        place = sized_field(self.fields)
        if self.cleared or place is None:
            return own
        gone = (
            self._below.body(doc_id) for doc_id in self.hidden if self._below.keys(doc_id)[place] == value
        )
        return own + self._below.size(value) - sum(len(body) for body in gone if body is not None)

    def _over(self, below: Sequence[int], own: Sequence[int]) -> Sequence[int]:
        if self.cleared:
            return own
        if not self.hidden and not own:
            return below
        return sorted([*own, *(doc_id for doc_id in below if doc_id not in self.hidden)])

    def put(self, doc_id: int, body: bytes, keys: Keys) -> None:
        """Add the row, or replace it."""
        self._hide(doc_id)
        self.put_rows.put(doc_id, body, keys)
        self.last_id = max(self.last_id, doc_id)
        self.present = True

    def remove(self, doc_id: int) -> None:
        """Remove the row, if there is one."""
        self._hide(doc_id)
        self.put_rows.remove(doc_id)

    def clear(self) -> None:
        """Remove every row, and let ids start at 1 again."""
        self.put_rows.clear()
        self.hidden.clear()
        self.cleared = True
        self.last_id = 0

    def drop(self) -> None:
        """Remove the table itself."""
        self.clear()
        self.present = False

    def removed(self) -> list[int]:
        """Give the ids of the rows below that are removed and not replaced."""
        return [doc_id for doc_id in self.hidden if doc_id not in self.put_rows]

    def changed(self) -> bool:
        """Tell whether there is anything to write."""
        return self.cleared or bool(self.hidden) or bool(len(self.put_rows)) or self.created()

    def created(self) -> bool:
        """Tell whether the table itself is new, or gone."""
        return self.present != self._below.present

    def apply(self, table: TableWriter) -> None:
        """Do the changes to a table in the state of the one below."""
        if self.cleared:
            table.clear()
        for doc_id in self.removed():
            table.remove(doc_id)
        for doc_id in self.put_rows.ids():
            body = self.put_rows.body(doc_id)
            assert body is not None
            table.put(doc_id, body, self.put_rows.keys(doc_id))
        table.present = self.present

    def _hide(self, doc_id: int) -> None:
        if not self.cleared and self._below.body(doc_id) is not None:
            self.hidden.add(doc_id)


class Tables(Protocol):
    """Several tables that can be read."""

    def reader(self, name: str) -> TableReader:
        """Give the table with the name; an empty one, if there is none."""

    def names(self) -> list[str]:
        """Give the names of the tables there are."""


class Layer:
    """The changes to several tables.

    Parameters
    ----------
    below
        What they change: the committed tables, or an earlier layer.
    """

    def __init__(self, below: Tables) -> None:
        self.below = below
        self._overlays: dict[str, Overlay] = {}

    def __iter__(self) -> Iterator[tuple[str, Overlay]]:
        """Go through the tables that changed, with their names."""
        return ((name, overlay) for name, overlay in self._overlays.items() if overlay.changed())

    def changed(self, name: str) -> Overlay | None:
        """Give the changes to the table with the name; None where there are none."""
        return self._overlays.get(name)

    def reader(self, name: str) -> TableReader:
        """Give the table with the name as it is with the changes."""
        overlay = self._overlays.get(name)
        return self.below.reader(name) if overlay is None else overlay

    def writer(self, name: str) -> Overlay:
        """Give the table with the name, to be changed."""
        overlay = self._overlays.get(name)
        if overlay is None:
            overlay = self._overlays[name] = Overlay(self.below.reader(name))
        return overlay

    def names(self) -> list[str]:
        """Give the names of the tables there are with the changes."""
        below = [name for name in self.below.names() if name not in self._overlays]
        return below + [name for name, overlay in self._overlays.items() if overlay.present]
