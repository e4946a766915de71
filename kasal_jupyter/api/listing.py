"""Lists: a page of a collection as a query asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from kasal_jupyter.aside import LISTS, aside
from kasal_jupyter.schemas.base import ListQuery
from kasal_jupyter.store.catalog import D, Order
from kasal_jupyter.store.repository import Page, Repository, Selection


async def list_page(
    repository: Repository[D],
    query: ListQuery,
    scope: Mapping[str, str | None],
    *,
    searched: tuple[str, ...],
    equal: Mapping[str, str | None] | None = None,
    least: Mapping[str, str | None] | None = None,
    below: Mapping[str, str | None] | None = None,
) -> Page[D]:
    """Give a page of a list.

    In the order in which documents were made it is read through the indexes, whatever the size of the
    collection; anything else looks through all that are in scope, in a thread.

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
    if field == "created_at" and wanted.takes_all:
        order: Order = "newest" if descending else "created"
        return repository.page(order=order, offset=query.offset, limit=query.per_page, **criteria)
    return await aside(LISTS, criteria.get("owner", ""), lambda: repository.select(wanted, **criteria))


def _given(values: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in (values or {}).items() if value is not None}
