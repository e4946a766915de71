"""What people have said of executions, and the datasets that are made of it, or of rows that are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest
from kasal_jupyter.schemas.base import new_id, utc_now, utc_now_precise
from kasal_jupyter.schemas.datasets import (
    MOST_ROWS,
    Dataset,
    DatasetCreate,
    DatasetRow,
    DatasetRows,
    DatasetUpdate,
    KeptRow,
    RatedRuns,
    Rating,
    RatingGiven,
)
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.store.store import Store

INVALID = "Invalid dataset"


async def rate(store: Store, execution: Execution, rating: Rating, author: str) -> RatingGiven:
    """Keep what somebody makes of an execution, in the place of what was said of it before.

    Raises
    ------
    Conflict
        It has not ended.
    """
    if execution.status not in ENDED:
        raise Conflict(f"Execution {execution.id} is {execution.status}; it is rated when it has ended")
    given = RatingGiven(**rating.model_dump(), author=author, rated_at=utc_now_precise())
    fields = {"rating": given.model_dump(), "thumb": given.thumb}
    await store.change(lambda: store.executions.update(execution.id, fields))
    return given


async def unrate(store: Store, job_id: str) -> None:
    """Take back what was said of an execution."""
    await store.change(lambda: store.executions.update(job_id, {"rating": None, "thumb": None}))


async def create(store: Store, body: DatasetCreate, owner: str, sees: Callable[[Any], bool]) -> Dataset:
    """Store a new dataset.

    Parameters
    ----------
    store
        The store.
    body
        Its name and its rows.
    owner
        Whose it is.
    sees
        Says whose executions they may be made of.

    Raises
    ------
    Conflict
        The owner has one of this name.
    InvalidRequest
        It would have too many rows.
    """
    now = utc_now()
    made = Dataset(id=new_id("dataset"), name=body.name, owner=owner, total=0, created_at=now, updated_at=now)

    def insert() -> Dataset:
        _require_free_name(store, owner, body.name)
        store.datasets.insert(made)
        return _added(store, made, _rows_of(store, body, owner, sees))

    return await store.change(insert, bounded=True)


async def add_rows(
    store: Store, dataset_id: str, body: DatasetRows, owner: str, sees: Callable[[Any], bool]
) -> Dataset:
    """Add rows to a dataset; see :func:`create`."""

    def add() -> Dataset:
        before = store.datasets.required(dataset_id, "dataset")
        return _added(store, before, _rows_of(store, body, owner, sees))

    return await store.change(add, bounded=True)


async def update(store: Store, dataset_id: str, body: DatasetUpdate) -> Dataset:
    """Give a dataset another name, or other rows in the place of all that it has; see :func:`create`."""

    def change() -> Dataset:
        dataset = store.datasets.required(dataset_id, "dataset")
        if body.name is not None and body.name != dataset.name:
            _require_free_name(store, dataset.owner, body.name)
            dataset = dataset.model_copy(update={"name": body.name})
        if body.rows is not None:
            _forget_rows(store, dataset_id)
            dataset = dataset.model_copy(update={"total": 0})
        return _added(store, dataset, body.rows or ())

    return await store.change(change, bounded=True)


async def delete(store: Store, dataset_id: str) -> None:
    """Delete a dataset with its rows; the executions that they are from stay."""

    def forget() -> None:
        _forget_rows(store, dataset_id)
        store.datasets.delete(dataset_id)

    await store.change(forget)


def _added(store: Store, dataset: Dataset, rows: Iterable[DatasetRow]) -> Dataset:
    total = dataset.total
    for row in rows:
        if total >= MOST_ROWS:
            text = f"A dataset has at most {MOST_ROWS:,} rows"
            raise InvalidRequest(INVALID, faults=[Fault("rows", text)])
        given = {"id": new_id("row"), "dataset_id": dataset.id, "owner": dataset.owner, "position": total}
        store.dataset_rows.insert(KeptRow(**given, **row.model_dump()))
        total += 1
    changed = dataset.model_copy(update={"total": total, "updated_at": utc_now()})
    store.datasets.replace(changed)
    return changed


def _rows_of(
    store: Store, body: DatasetRows, owner: str, sees: Callable[[Any], bool]
) -> Iterator[DatasetRow]:
    yield from body.rows
    if body.rated is not None:
        yield from _rated_rows(store, body.rated, owner, sees)


def _rated_rows(
    store: Store, rated: RatedRuns, owner: str, sees: Callable[[Any], bool]
) -> Iterator[DatasetRow]:
    """Give the rows that rated executions make; of several with the same inputs, the one rated last."""
    thumbs = [rated.thumb] if rated.thumb is not None else ["up", "down"]
    scope: dict[str, Any] = {"owner": owner} if rated.crew_id is None else {"crew_id": rated.crew_id}
    found = [each for thumb in thumbs for each in store.executions.find(thumb=thumb, **scope) if sees(each)]
    latest: dict[bytes, Execution] = {}
    for each in sorted(found, key=_rated_at):
        latest[orjson.dumps(each.inputs, option=orjson.OPT_SORT_KEYS)] = each
    for each in sorted(latest.values(), key=lambda one: one.created_at):
        yield DatasetRow(inputs=each.inputs, expected=_expected(each), source_job=each.id)


def _rated_at(execution: Execution) -> str:
    return execution.rating.rated_at if execution.rating is not None else ""


def _expected(execution: Execution) -> str | None:
    rating = execution.rating
    if rating is not None and rating.answer is not None:
        return rating.answer
    return execution.result if execution.thumb == "up" else None


def _require_free_name(store: Store, owner: str, name: str) -> None:
    if store.datasets.find(owner=owner, name=name):
        text = f"There is a dataset {name!r} already; choose another name, or give that one other rows"
        raise Conflict(text, faults=[Fault("name", text)])


def _forget_rows(store: Store, dataset_id: str) -> None:
    for row_id in store.dataset_rows.ids(dataset_id=dataset_id):
        store.dataset_rows.delete(row_id)
