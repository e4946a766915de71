"""``/batches``: a crew run over many rows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec

import orjson
from tornado.iostream import StreamClosedError

from kasal_jupyter.api import row_files
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.long_answer import PouredAnswer
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.api.traces import SIGN_OF_LIFE_SECONDS, StreamHandler
from kasal_jupyter.confined import TooMuch
from kasal_jupyter.errors import Fault, InvalidRequest, UnsupportedMedia
from kasal_jupyter.executions.batches import results, rows
from kasal_jupyter.executions.batches.batches import MESSAGE, GivenRow, Wanted
from kasal_jupyter.places import FILES, LARGE, LISTS
from kasal_jupyter.schemas.batches import (
    Batch,
    BatchChange,
    BatchCreate,
    BatchList,
    BatchOptions,
    BatchQuery,
    BatchRows,
    BatchUploadQuery,
    ResultsQuery,
    RowsQuery,
    StoredBatch,
)
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.tools import ClientTool

FILES_OF_ROWS = (
    Media(row_files.CSV, "A header, whose names are the inputs; each line is a row, its values are texts."),
    Media(row_files.JSON_LINES, "An object of inputs a line, or of `inputs` and `expected`."),
    Media(row_files.PARQUET, "Each column is an input; where the server has pyarrow."),
)
"""What a batch's rows may be sent as, besides JSON."""

RESULTS = (
    Media(row_files.JSON_LINES, "A row a line, as `/rows` gives it."),
    Media(row_files.CSV, "A row a line, for `format=csv`."),
    Media(row_files.PARQUET, "The same columns, for `format=parquet`."),
)

STREAM = Media(
    "text/event-stream", "The batch, whenever it has changed, at most twice a second, until it has ended."
)

EVENT_SECONDS = 0.5


class BatchesHandler(ApiHandler):
    """``GET /batches`` and ``POST /batches``."""

    tag = "Batches"
    message = MESSAGE

    @property
    def body_limit(self) -> int:
        """The most bytes of a body that are taken in: it has many rows."""
        return self.parts.batches.most_bytes

    async def read_large_body(self) -> None:
        """Leave the body to the method: what reads it hangs on what it is."""

    @operation("List batches", access="viewer", query=BatchQuery, answers={200: BatchList})
    async def get(self) -> None:
        """List batches, the newest first where no other order is asked for."""
        query = self.query(BatchQuery)
        batches = self.parts.batches
        page = await list_page(
            self.parts.store.batches,
            query,
            {**self.caller.scope, "crew_id": query.crew_id, "status": query.status},
            searched=("name", "crew_name"),
            equal={"name": query.name},
        )
        found = page.documents
        await self.answer_with(
            lambda: BatchList.of(query, [batches.told_now(each) for each in found], page.total),
            size=LISTED * sum(1 + each.total // 100 for each in found),
        )

    @operation(
        "Create batch",
        access="editor",
        query=BatchUploadQuery,
        body=BatchCreate,
        files=FILES_OF_ROWS,
        answers={202: Batch, 200: Batch},
        errors=(404, 415),
    )
    async def post(self) -> None:
        """Run a crew over rows, one execution a row; the batch is whole on the disk when this answers.

        All rows are checked first: every fault is named by its row and its field, and then nothing is begun.
        With the name, crew and rows of a batch that is there and was not stopped, that goes on, and the
        status is 200. With a file of rows in the place of JSON, the query says what else there is to say.
        """
        query = self.query(BatchUploadQuery)
        lines = await self._lines()
        wanted = _wanted(orjson.loads(lines[0]), query)
        self.crew(wanted.options.crew_id, field="crew_id")
        await self.ask_once_more()
        batches = self.parts.batches
        batch, new = await batches.make(wanted, lambda: _given(lines), self.caller.owner, size=len(lines))
        self.answer(await batches.told(batch), 202 if new else 200)

    async def _lines(self) -> list[bytes]:
        """Read the body: its first line says what is asked for, each other is a row."""
        if self._overflown:
            raise self._too_large()
        self.let_in_with().look()
        reader = row_files.reader_of(self.request.headers.get("Content-Type", ""))
        data, owner = self.said(), self.caller.owner
        if row_files.is_small(reader, data):
            return await LARGE.do(lambda: reader(data).splitlines(), owner=owner)
        name = f"{reader.__module__}:{reader.__name__}"
        try:
            return await self.parts.confined.call(owner, name, lambda: data, bytes.splitlines)
        except TooMuch as error:
            raise InvalidRequest(MESSAGE, faults=[Fault("body", f"{error}; send less at once")]) from None


def _wanted(said: dict[str, object], query: BatchUploadQuery) -> Wanted:
    """Give what is asked for: by the body, or beside a file of rows by the query."""
    given = query.model_dump(exclude_unset=True)
    if said:
        if given:
            faults = [Fault(name, "With JSON, this stands in the body") for name in given]
            raise InvalidRequest("Invalid query", faults=faults)
        return Wanted(
            BatchOptions.model_validate({name: said[name] for name in BatchOptions.model_fields}),
            budget=_budget(said["budget"]),
            run_budget=_budget(said["run_budget"]),
            tools=[ClientTool.model_validate(each) for each in said["tools"]],  # type: ignore[attr-defined]
        )
    if query.crew_id is None:
        raise InvalidRequest("Invalid query", faults=[Fault("crew_id", "Field required")])
    bounds = {name: given.pop(name, None) for name in ("max_cost", "max_tokens")}
    budget = Budget.model_validate(bounds) if any(bounds.values()) else None
    return Wanted(BatchOptions.model_validate(given), budget=budget)


def _budget(said: object) -> Budget | None:
    return None if said is None else Budget.model_validate(said)


def _given(lines: list[bytes]) -> Iterator[GivenRow]:
    for line in lines[1:]:
        row = orjson.loads(line)
        yield GivenRow(row["inputs"], row.get("expected"))


class BatchHandler(ApiHandler):
    """``GET``, ``PATCH`` and ``DELETE /batches/{batch_id}``."""

    tag = "Batches"
    message = MESSAGE

    @operation("Get batch", access="viewer", answers={200: Batch}, errors=(404,))
    async def get(self, batch_id: str) -> None:
        """Say how a batch stands: its rows by their state, what they have cost, and how long it may take."""
        self.answer(await self.parts.batches.told(batch_of(self, batch_id)))

    @operation("Update batch", access="editor", body=BatchChange, answers={200: Batch}, errors=(404,))
    async def patch(self, batch_id: str) -> None:
        """Change how many rows go on at the same time, the budget, or the name, while it goes on."""
        body = self.body(BatchChange)
        batch_of(self, batch_id)
        await _answer_with(self, await self.parts.batches.change(batch_id, body))

    @operation("Delete batch", access="editor", answers={204: None}, errors=(404, 409))
    async def delete(self, batch_id: str) -> None:
        """Delete a batch that does not run, with its rows and results; its executions stay."""
        batch_of(self, batch_id)
        await self.parts.batches.delete(batch_id)
        self.nothing()


class BatchPauseHandler(ApiHandler):
    """``POST /batches/{batch_id}/pause``."""

    tag = "Batches"

    @operation("Pause batch", access="editor", answers={200: Batch}, errors=(404, 409), in_maintenance=True)
    async def post(self, batch_id: str) -> None:
        """Begin no more rows; those that run go on to their end."""
        batch_of(self, batch_id)
        await _answer_with(self, await self.parts.batches.pause(batch_id))


class BatchResumeHandler(ApiHandler):
    """``POST /batches/{batch_id}/resume``."""

    tag = "Batches"

    @operation("Resume batch", access="editor", answers={200: Batch}, errors=(404, 409))
    async def post(self, batch_id: str) -> None:
        """Go on with a batch that was paused or stopped, or could not go on; 409 where it has completed."""
        batch_of(self, batch_id)
        await _answer_with(self, await self.parts.batches.resume(batch_id))


class BatchStopHandler(ApiHandler):
    """``POST /batches/{batch_id}/stop``."""

    tag = "Batches"

    @operation("Stop batch", access="editor", answers={200: Batch}, errors=(404, 409), in_maintenance=True)
    async def post(self, batch_id: str) -> None:
        """End a batch: its rows that run are stopped, those that wait are not begun. It can be resumed."""
        batch_of(self, batch_id)
        await _answer_with(self, await self.parts.batches.stop(batch_id))


class BatchRetryHandler(ApiHandler):
    """``POST /batches/{batch_id}/retry``."""

    tag = "Batches"

    @operation("Retry batch", access="editor", answers={200: Batch}, errors=(404, 409))
    async def post(self, batch_id: str) -> None:
        """Do the rows again that have failed or were stopped, and no others; `attempts` tells them apart.

        One that has failed at a call goes on there; any other is run anew. 409 where there are none.
        """
        batch_of(self, batch_id)
        await _answer_with(self, await self.parts.batches.retry(batch_id))


class BatchRowsHandler(ApiHandler):
    """``GET /batches/{batch_id}/rows``."""

    tag = "Batches"

    @operation("Get batch rows", access="viewer", query=RowsQuery, answers={200: BatchRows}, errors=(404,))
    async def get(self, batch_id: str) -> None:
        """Give rows in the order of the input, each with what has come of it. `next` goes on behind them."""
        query = self.query(RowsQuery)
        batch = batch_of(self, batch_id)
        store = self.parts.store
        found = await LISTS.do(
            lambda: rows.page(store, batch, status=query.status, after=query.after, limit=query.limit),
            owner=self.caller.owner,
        )
        more = len(found) == query.limit and found[-1].index < batch.total - 1
        await self.answer_with(
            lambda: BatchRows(rows=found, next=found[-1].index if more else None), size=len(found)
        )


class BatchResultsHandler(PouredAnswer):
    """``GET /batches/{batch_id}/results``."""

    tag = "Batches"

    @operation(
        "Get batch results",
        access="viewer",
        query=ResultsQuery,
        answers={200: RESULTS},
        errors=(404, 415),
    )
    async def get(self, batch_id: str) -> None:
        """Give all rows as a file, as they are at this moment: JSON lines, CSV or Parquet.

        In CSV and Parquet each input is a column, and so is each field of an output that is an object.
        """
        query = self.query(ResultsQuery)
        batch = batch_of(self, batch_id)
        store, owner = self.parts.store, self.caller.owner
        if query.format == "parquet":
            if find_spec("pyarrow") is None:
                raise UnsupportedMedia(
                    "This server writes no Parquet: pyarrow is not installed there; take format=csv"
                )
            data = await FILES.do(lambda: results.parquet_file(store, batch), owner=owner)
            self._headers["Content-Type"] = row_files.PARQUET
            self.finish(data)
            return
        if query.format == "csv":
            pieces = await FILES.do(lambda: results.csv_text(store, batch), owner=owner)
            self._headers["Content-Type"] = row_files.CSV
        else:
            pieces = results.json_lines(store, batch)
            self._headers["Content-Type"] = row_files.JSON_LINES
        await self.pour(pieces)


class BatchEventsHandler(StreamHandler):
    """``GET /batches/{batch_id}/events``."""

    tag = "Batches"

    @operation("Get batch events", access="viewer", answers={200: STREAM}, errors=(404,))
    async def get(self, batch_id: str) -> None:
        """Follow a batch: it is sent whenever it has changed, as Server-Sent Events, until it has ended."""
        batch = batch_of(self, batch_id)
        self._headers["Content-Type"] = "text/event-stream"
        self._headers["X-Accel-Buffering"] = "no"
        self._news = asyncio.Event()
        unwatch = self.parts.doors.watch.add(self)
        try:
            await self._follow(batch)
        except StreamClosedError:
            return
        finally:
            unwatch()
        if not self._gone:
            self.finish()

    async def _follow(self, batch: StoredBatch) -> None:
        store, batches = self.parts.store, self.parts.batches
        seen: tuple[int, ...] = ()
        silent = 0.0
        while not self._gone and self.request.method != "HEAD":
            if not self.look_again():
                self.tell_refusal()
                return
            versions = store.versions(("batches", "batch_rows"))
            if versions != seen:
                seen, silent = versions, 0.0
                told = await batches.told(batch)
                self.write(b"data: %b\n\n" % told.model_dump_json().encode())
                await self.flush()
                if told.is_over:
                    return
            if not store.batches.has(batch.id):
                return
            await asyncio.sleep(EVENT_SECONDS)
            silent += EVENT_SECONDS
            if silent >= SIGN_OF_LIFE_SECONDS:
                silent = 0.0
                self.write(b": still here\n\n")
                await self.flush()


async def _answer_with(handler: ApiHandler, batch: StoredBatch) -> None:
    handler.answer(await handler.parts.batches.told(batch))


def batch_of(handler: ApiHandler, batch_id: str) -> StoredBatch:
    """Give the batch that a path names, and that the caller may see."""
    return handler.own(handler.parts.store.batches.get(batch_id), f"batch {batch_id}")
