"""Lists: a page of a collection as a query asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kasal_jupyter.places import LISTS, beside_loop
from kasal_jupyter.schemas.base import ListQuery
from kasal_jupyter.store.collections import D, Order
from kasal_jupyter.store.repository import Page, Repository, Selection

LISTED = 4
"""What a listed document counts for: some are a hundred kilobytes."""


async def list_page(
    repository: Repository[D],
    query: ListQuery,
    scope: Mapping[str, str | None],
    *,
    searched: tuple[str, ...],
    equal: Mapping[str, str | None] | None = None,
    least: Mapping[str, str | None] | None = None,
    below: Mapping[str, str | None] | None = None,
    newer: Mapping[str, D] | None = None,
) -> Page[D]:
    """Give a page of a list.

    In the order in which documents were made it takes as long as its page, whatever the size of the
    collection; anything else looks through all that are in scope. It is done in a thread, but for a few.

    Parameters
    ----------
    repository
        The collection.
    query
        What is asked for.
    scope
        Values of indexed fields, e.g. the owner; None stands for any.
    searched
        The fields that ``search`` looks in.
    equal, least, below
        Values and bounds of other fields; None stands for any.
    newer
        Documents by their ids as they stand now, where the store does not know yet. Nobody waits for it: they
        are looked through in its place.
    """
    criteria = _given(scope)
    sort = query.sort or "created_at"
    field, descending = sort.removeprefix("-"), sort.startswith("-")
    wanted = Selection(
        sort=field,
        descending=descending,
        equal=_given(equal),
        least=_given(least),
        below=_given(below),
        search=query.search,
        searched=searched,
        offset=query.offset,
        limit=query.per_page,
    )
    # An owner and a crew never change: a document that is newer has the same place among theirs.
    lasting: dict[str, Any] = {name: criteria[name] for name in _LASTING & criteria.keys()}
    if newer and not (field == "created_at" and wanted.takes_all and lasting == criteria):
        wanted = replace(wanted, equal={**wanted.equal, **criteria})
        return await LISTS.do(
            lambda: repository.select(wanted, newer, **lasting), owner=criteria.get("owner", "")
        )
    if field == "created_at" and wanted.takes_all:
        order: Order = "newest" if descending else "created"
        there = min(query.per_page, repository.count(**criteria))
        return await beside_loop(
            lambda: repository.page(order=order, offset=query.offset, limit=query.per_page, **criteria),
            size=there * LISTED,
            owner=criteria.get("owner", ""),
            places=LISTS,
        )
    return await LISTS.do(
        lambda: repository.select(wanted, None, **criteria), owner=criteria.get("owner", "")
    )


_LASTING = frozenset({"owner", "crew_id"})


def _given(values: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in (values or {}).items() if value is not None}
