"""Which documents of a list are wanted, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.store.layout import Layout, folded, sort_column, sort_value
from kasal_jupyter.store.rows import Condition, Rows


@dataclass(frozen=True, slots=True)
class Selection:
    """A list cut by values, times and a search, and sorted.

    The fields are those that the collection's layout has for it: facets, what lists are sorted by, and what
    they are searched in.

    Attributes
    ----------
    sort
        The field to sort by. ``created_at`` is the order in which documents were made, which is more exact
        than their times.
    descending
        Whether the greatest comes first; what has no value comes last either way.
    equal
        Values that fields must have.
    least, below
        Bounds of fields; a document is taken whose value is at least the one and below the other.
    search
        A text that one of the fields in ``searched`` must contain, whatever its case.
    searched
        Those fields.
    offset, limit
        The part of the result to give.
    """

    sort: str
    descending: bool = False
    equal: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, str] = field(default_factory=dict)
    below: Mapping[str, str] = field(default_factory=dict)
    search: str | None = None
    searched: tuple[str, ...] = ()
    offset: int = 0
    limit: int | None = None

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.equal or self.least or self.below) and self.search is None

    def condition(self, rows: Rows) -> Condition:
        """Say in SQL which documents are wanted.

        Raises
        ------
        LookupError
            If the collection has no such facet, or no such field is searched.
        """
        wanted = Condition()
        for operator, values in (("=", self.equal), (">=", self.least), ("<", self.below)):
            for name, value in values.items():
                wanted &= Condition(f'"{_facet(rows.layout, name)}" {operator} ?', (value,))
        if self.search is not None:
            wanted &= rows.containing(self.search, self.searched)
        return wanted

    def column(self, layout: Layout) -> str:
        """Give what the list is sorted by, in SQL."""
        if self.sort == "created_at":
            return "doc_id"
        if self.sort in layout.sorted:
            return f'"{sort_column(self.sort)}"'
        return f'"{_facet(layout, self.sort)}"'

    def order(self, layout: Layout) -> str:
        """Give the order in SQL."""
        column, direction = self.column(layout), "DESC" if self.descending else "ASC"
        if column == "doc_id":
            return f"doc_id {direction}"
        return f"{column} IS NULL, {column} {direction}, doc_id"

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Say whether a document is wanted that is not stored like this yet."""
        if any(row[name] != value for name, value in self.equal.items()):
            return False
        if any(row[name] < value for name, value in self.least.items()):
            return False
        if any(row[name] >= value for name, value in self.below.items()):
            return False
        if self.search is None:
            return True
        text = folded(self.search)
        return any(text in folded(row.get(name)) for name in self.searched)

    def place(self, value: Any) -> tuple[bool, bool, Any]:
        """Give the place of what stands in the column; what has no value comes last."""
        return (value is None) != self.descending, isinstance(value, str), 0 if value is None else value

    def value(self, row: Mapping[str, Any], doc_id: int) -> Any:
        """Give what would stand in the column for a document that is not stored like this yet."""
        return doc_id if self.sort == "created_at" else sort_value(row.get(self.sort))


def _facet(layout: Layout, name: str) -> str:
    if name not in layout.fields:
        known = ", ".join((*layout.fields, *layout.sorted))
        raise LookupError(f"lists are not cut or sorted by {name!r}, but by: {known}")
    return name
