"""Lists: a page of a collection as a query asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import orjson

from kasal_jupyter.places import LISTS
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
    newer: Mapping[str, D] | None = None,
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
    if newer and not (field == "created_at" and wanted.takes_all and criteria.keys() <= _LASTING):
        return await LISTS.do(
            lambda: _select(repository, wanted, criteria, newer), owner=criteria.get("owner", "")
        )
    if field == "created_at" and wanted.takes_all:
        order: Order = "newest" if descending else "created"
        return repository.page(order=order, offset=query.offset, limit=query.per_page, **criteria)
    return await LISTS.do(lambda: repository.select(wanted, **criteria), owner=criteria.get("owner", ""))


_LASTING = frozenset({"owner", "crew_id"})


def _select(
    repository: Repository[D], wanted: Selection, criteria: Mapping[str, str], newer: Mapping[str, D]
) -> Page[D]:
    """Look through what is stored and what is newer, as :meth:`Repository.select` does through the former."""
    changing = {name: value for name, value in criteria.items() if name not in _LASTING}
    looked_at = replace(wanted, equal={**wanted.equal, **changing}, offset=0, limit=None)
    lasting: dict[str, str | None] = {name: criteria[name] for name in _LASTING & criteria.keys()}
    rows = []
    for body in repository.bodies(newest=False, offset=0, limit=None, **lasting)[0]:
        row = orjson.loads(body)
        row = newer[row["id"]].dump() if row["id"] in newer else row
        if looked_at.takes(row):
            rows.append(row)
    if wanted.sort != "created_at":
        rows.sort(key=wanted.key, reverse=wanted.descending)
    elif wanted.descending:
        rows.reverse()
    end = None if wanted.limit is None else wanted.offset + wanted.limit
    model = type(next(iter(newer.values())))
    return Page([model.model_validate(row) for row in rows[wanted.offset : end]], len(rows))


def _given(values: Mapping[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in (values or {}).items() if value is not None}
