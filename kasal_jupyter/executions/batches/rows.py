"""The rows of batches: documents of their own, of which a few are looked at at a time.

::

    waiting ──► running ──► completed, failed, stopped
       ▲           │
       └───────────┘ cut off with its server

A row is claimed in the change that stores its execution, and done in the change that stores that one's end: a
server may die at any moment, and each row is done once. What a batch of many rows is told, to try those again
that have failed, or to stop, is written into the batch alone: :func:`standing` says what it makes of a row.
"""

# What is put into the SQL here is code, never a value.
# ruff: noqa: S608

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kasal_jupyter.errors import Conflict
from kasal_jupyter.executions.allowances import is_shared
from kasal_jupyter.schemas.batches import (
    BatchCounts,
    BatchReason,
    BatchRow,
    RowError,
    RowState,
    StoredBatch,
    StoredRow,
)
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.usage import Usage
from kasal_jupyter.store.collections import BATCH_ROWS
from kasal_jupyter.store.layout import decode, sql_name
from kasal_jupyter.store.store import Store

MOST_CUTS = 10
"""How often a row may be cut off with its server, which it may be the cause of."""

RATE_SECONDS = 30.0
"""Over how long the rows that were done are counted for the rate."""

_TABLE = f'"{sql_name(BATCH_ROWS.name)}"'
_LISTED = f'{_TABLE} INDEXED BY "{sql_name(BATCH_ROWS.name)}/lists"'

_AGAIN = "(status IN ('failed', 'stopped') AND round < :round)"
"""Rows that were done, and that the batch is to do again."""

_WAITING = f"(status = 'waiting' OR {_AGAIN})"


def row_id(batch_id: str, index: int) -> str:
    """Give the id of a row's document."""
    return f"{batch_id}/{index}"


def standing(batch: StoredBatch, row: StoredRow) -> RowState:
    """Say how a row stands, as the batch has it now."""
    again = row.status in {"failed", "stopped"} and row.round < batch.round
    status = "waiting" if again else row.status
    return "stopped" if status == "waiting" and batch.status == "stopped" else status


# -- looked at ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """How the rows of a batch stand together.

    Attributes
    ----------
    counts
        How many stand how.
    cost
        US dollars that were paid for those that are done; None where one is unknown.
    tokens
        Tokens of all attempts that have ended.
    done
        Rows that were done and paid for.
    lately
        Those of them that were done within the latest :data:`RATE_SECONDS`.
    """

    counts: BatchCounts
    cost: float | None
    tokens: int
    done: int
    lately: int


def figures(store: Store, batch: StoredBatch) -> Figures:
    """Add up the rows of a batch; of each, an entry of an index is read."""
    parameters = {"batch": batch.id, "round": batch.round, "since": time.time() - RATE_SECONDS}
    with store.read() as connection:
        found = connection.execute(
            f"SELECT CASE WHEN {_AGAIN} THEN 'waiting' ELSE status END AS stands, count(*), "
            "total(spent_cost), total(ended IS NOT NULL AND spent_cost IS NULL), total(spent_tokens), "
            "total(ended > :since), total(ended IS NOT NULL AND NOT recorded) "
            f"FROM {_LISTED} WHERE batch_id = :batch GROUP BY stands",
            parameters,
        ).fetchall()
    counts: dict[str, int] = {}
    cost, unknown, tokens, lately, done = 0.0, 0, 0, 0, 0
    for state, number, spent, without, used, late, paid in found:
        stands = state.decode()
        if stands == "waiting" and batch.status == "stopped":
            stands = "stopped"
        counts[stands] = counts.get(stands, 0) + number
        cost, unknown, done = cost + spent, unknown + int(without), done + int(paid)
        tokens, lately = tokens + int(used), lately + int(late)
    told = BatchCounts(**counts)
    return Figures(told, None if unknown else round(cost, 12), tokens, done, lately)


def running_in(store: Store, batch_id: str) -> int:
    """Count the rows of a batch that run."""
    with store.read() as connection:
        sql = f"SELECT count(*) FROM {_LISTED} WHERE batch_id = ? AND status = 'running'"
        return int(connection.execute(sql, (batch_id,)).fetchone()[0])


def next_rows(store: Store, batch: StoredBatch, limit: int) -> list[StoredRow]:
    """Give the first rows of a batch that wait."""
    found = _read(store, batch, "status = 'waiting'", limit=limit)
    if batch.round and len(found) < limit:
        found += _read(store, batch, _AGAIN, limit=limit - len(found))
    return found


def page(
    store: Store, batch: StoredBatch, *, status: RowState | None = None, after: int = -1, limit: int = 100
) -> list[BatchRow]:
    """Give rows of a batch as they stand, in the order of the input, from behind one on."""
    if status is not None:
        wanted = f'{_standing_as(batch, status)} AND "index" > :after'
        found = _read(store, batch, wanted, limit=limit, after=after)
    else:
        # The index has the status before the place: of all, each is looked up by its id.
        ids = (row_id(batch.id, index) for index in range(after + 1, min(after + 1 + limit, batch.total)))
        found = [row for row in map(store.batch_rows.readable, ids) if row is not None]
    return [told(store, batch, row) for row in found]


def _standing_as(batch: StoredBatch, status: RowState) -> str:
    """Say in SQL which rows stand like this; see :func:`standing`."""
    stopped = batch.status == "stopped"
    if status == "waiting":
        return "0" if stopped else _WAITING
    if status == "stopped" and stopped:
        return f"(status = 'stopped' OR {_WAITING})"
    # A status is one of a few words: there is nothing in it that could be SQL.
    return f"(status = '{status}' AND NOT {_AGAIN})"


def _read(store: Store, batch: StoredBatch, wanted: str, *, limit: int, after: int = -1) -> list[StoredRow]:
    parameters = {"batch": batch.id, "round": batch.round, "after": after, "limit": limit}
    with store.read() as connection:
        found = connection.execute(
            f'SELECT (SELECT body FROM {_TABLE} WHERE doc_id = here) FROM (SELECT doc_id AS here, "index" AS '
            f"nth FROM {_LISTED} WHERE batch_id = :batch AND {wanted} ORDER BY nth LIMIT :limit)",
            parameters,
        ).fetchall()
    return [StoredRow.model_validate(decode(body)) for (body,) in found]


def told(store: Store, batch: StoredBatch, row: StoredRow) -> BatchRow:
    """Give a row as it is told of; of one that is shared, what its equal has."""
    answers = row
    if row.shared_with is not None:
        answers = store.batch_rows.readable(row_id(batch.id, row.shared_with)) or row
    stands = standing(batch, row)
    done = stands != "waiting"
    return BatchRow(
        index=row.index,
        key=row.key,
        inputs=row.inputs,
        expected=row.expected,
        status=stands,
        job_id=answers.job_id,
        shared_with=row.shared_with,
        attempts=answers.attempts,
        recorded=answers.recorded,
        output=answers.output,
        structured=answers.structured,
        error=answers.error if done else None,
        tokens=answers.tokens,
        cost=answers.cost,
        duration=answers.duration,
    )


def every_row(store: Store, batch: StoredBatch, at_once: int = 200) -> Iterator[BatchRow]:
    """Give all rows of a batch in the order of the input; a page of them is held at a time."""
    after = -1
    while rows := page(store, batch, after=after, limit=at_once):
        yield from rows
        after = rows[-1].index


# -- changed, within a change of the store -----------------------------------------------------------------


def claim(store: Store, batch: StoredBatch, index: int, job_id: str, *, recorded: bool = False) -> None:
    """Have an execution be the one that does a row.

    Raises
    ------
    Conflict
        Another does, or the batch starts no rows at the moment.
    """
    now, row = store.batches.readable(batch.id), store.batch_rows.readable(row_id(batch.id, index))
    if now is None or now.status != "running" or now.server != batch.server:
        raise Conflict(f"{batch.id} starts no rows on this server")
    if row is None or standing(now, row) != "waiting":
        raise Conflict(f"Row {index} of {batch.id} is done already")
    fresh: dict[str, Any] = {
        "output": None,
        "structured": None,
        "error": None,
        "duration": None,
        "ended": None,
    }
    store.batch_rows.update(
        row.id,
        {
            **fresh,
            "status": "running",
            "round": now.round,
            "job_id": job_id,
            "attempts": row.attempts + 1,
            "recorded": recorded,
            "before_tokens": row.spent_tokens,
            "before_cost": row.spent_cost,
        },
    )


def refuse(store: Store, batch: StoredBatch, index: int, error: RowError) -> None:
    """End a row that cannot even be started."""
    row = store.batch_rows.readable(row_id(batch.id, index))
    if row is not None and standing(batch, row) == "waiting":
        failed = {"status": "failed", "round": batch.round, "attempts": row.attempts + 1}
        store.batch_rows.update(row.id, {**failed, "error": error.model_dump(), "ended": time.time()})


def note_end(store: Store, execution: Execution, fields: Mapping[str, Any]) -> None:
    """Note with the rows that an execution does what has come of it, in the change that stores its end.

    Parameters
    ----------
    store
        Where they are.
    execution
        As it was stored.
    fields
        What is stored of its end.
    """
    if fields["status"] not in ENDED:
        return
    for row in store.batch_rows.find(job_id=execution.id):
        batch = store.batches.readable(row.batch_id)
        # Of one that was claimed by another meanwhile, or counts as to be done again, only what it used.
        if batch is not None:
            store.batch_rows.update(row.id, _ended(batch, row, execution, fields))
            _mind_budget(store, batch, fields)


def _ended(
    batch: StoredBatch, row: StoredRow, execution: Execution, fields: Mapping[str, Any]
) -> dict[str, Any]:
    usage = Usage.model_validate(fields.get("usage") or {})
    paid = execution.batch == batch.id and not row.recorded
    spent_cost = None
    if row.before_cost is not None and (usage.cost is not None or not paid):
        spent_cost = row.before_cost + (usage.cost or 0.0 if paid else 0.0)
    spent_tokens = row.before_tokens + (usage.total_tokens if paid else 0)
    error = fields.get("error")
    # One that has waited for its turn was not begun, however often its server ended meanwhile.
    begun = int(bool(fields.get("started_at") or execution.started_at))
    cut = fields["status"] == "interrupted"
    cuts = row.cuts + begun if cut and row.status == "running" else row.cuts
    status = _state_after(cuts, fields)
    output = fields.get("result") if status == "completed" else None
    return {
        "status": status,
        "attempts": row.attempts if begun or not cut or row.status != "running" else row.attempts - 1,
        "cuts": cuts,
        "output": output,
        "structured": _structured(output) if batch.structured else None,
        "error": RowError(code=error["code"], message=error["message"]).model_dump() if error else None,
        "duration": fields.get("duration"),
        "tokens": spent_tokens if paid else usage.total_tokens,
        "cost": spent_cost if paid else usage.cost,
        "spent_tokens": spent_tokens,
        "spent_cost": spent_cost,
        "ended": row.ended or time.time() if status != "waiting" else None,
    }


def _state_after(cuts: int, fields: Mapping[str, Any]) -> RowState:
    if fields["status"] == "interrupted":
        # It goes on where it was; what ends its server each time does not do so for ever.
        return "waiting" if cuts < MOST_CUTS else "failed"
    if _out_of_shared_budget(fields):
        return "waiting"
    ends: dict[str, RowState] = {"completed": "completed", "stopped": "stopped"}
    return ends.get(fields["status"], "failed")


def _out_of_shared_budget(fields: Mapping[str, Any]) -> bool:
    error = fields.get("error") or {}
    return error.get("code") == "BUDGET_EXCEEDED" and is_shared(error.get("message", ""))


def _mind_budget(store: Store, batch: StoredBatch, fields: Mapping[str, Any]) -> None:
    """Start no more rows where what they share of a budget is used up: none of them could be done."""
    if _out_of_shared_budget(fields):
        pause(store, batch.id, BatchReason(code="BUDGET_EXCEEDED", message=fields["error"]["message"]))


def pause(store: Store, batch_id: str, reason: BatchReason) -> None:
    """Have a batch start no more rows, where it does."""
    batch = store.batches.readable(batch_id)
    if batch is not None and batch.status == "running":
        store.batches.update(batch_id, {"status": "paused", "reason": reason.model_dump()})


def _structured(output: str | None) -> Any:
    if output is None:
        return None
    try:
        return orjson.loads(output)
    except orjson.JSONDecodeError:
        return None


# -- made, and thrown away ---------------------------------------------------------------------------------


def insert(store: Store, rows: Iterable[StoredRow]) -> None:
    """Add rows."""
    for row in rows:
        store.batch_rows.insert(row)


def orphans(store: Store, making: Sequence[str]) -> list[str]:
    """Find the batches of which there are rows and nothing else: a server has died as it made them."""
    with store.read() as connection:
        # From one batch's entries in the index to the next one's.
        sql = f"SELECT min(batch_id) FROM {_LISTED} WHERE batch_id > ?"
        found, last = [], ""
        while (row := connection.execute(sql, (last,)).fetchone()[0]) is not None:
            last = row.decode()
            found.append(last)
    return [each for each in found if each not in making and not store.batches.has(each)]


def delete_some(store: Store, batch_id: str, most: int) -> bool:
    """Delete some rows of a batch; tell whether there are more."""
    with store.read() as connection:
        sql = f"SELECT id FROM {_TABLE} WHERE batch_id = ? LIMIT ?"
        ids = [each.decode() for (each,) in connection.execute(sql, (batch_id, most))]
    for each in ids:
        store.batch_rows.delete(each)
    return len(ids) == most
