"""``/datasets``, and ``/executions/{job_id}/rating``: what crews are compared on, and where it comes from."""

from __future__ import annotations

from kasal_jupyter.api.executions import execution_of
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.listing import LISTED, list_page
from kasal_jupyter.api.operation import operation
from kasal_jupyter.executions import datasets
from kasal_jupyter.places import LISTS
from kasal_jupyter.schemas.datasets import (
    Dataset,
    DatasetCreate,
    DatasetList,
    DatasetQuery,
    DatasetRows,
    DatasetUpdate,
    Rating,
    RatingGiven,
    RowList,
    RowQuery,
)


class RatingHandler(ApiHandler):
    """``PUT`` and ``DELETE /executions/{job_id}/rating``."""

    tag = "Evaluation"
    message = "Invalid rating"

    @operation("Rate execution", access="editor", body=Rating, answers={200: RatingGiven}, errors=(404, 409))
    async def put(self, job_id: str) -> None:
        """Say whether an execution's answer is good, and what it should have been.

        It is told with the execution's status, and makes a row of a dataset. It replaces what was said of it
        before; 409 where the execution has not ended.
        """
        body = self.body(Rating)
        execution = await execution_of(self, job_id)
        self.answer(await datasets.rate(self.parts.store, execution, body, self.caller.author))

    @operation("Delete a rating", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, job_id: str) -> None:
        """Take back what was said of an execution."""
        await execution_of(self, job_id)
        await datasets.unrate(self.parts.store, job_id)
        self.nothing()


class DatasetResource(ApiHandler):
    """What the resources of datasets share."""

    tag = "Evaluation"
    message = datasets.INVALID

    def dataset(self, dataset_id: str) -> Dataset:
        """Give one of the caller's datasets."""
        return self.own(self.parts.store.datasets.get(dataset_id), f"dataset {dataset_id}")


class DatasetsHandler(DatasetResource):
    """``GET`` and ``POST /datasets``."""

    @operation("List datasets", access="viewer", query=DatasetQuery, answers={200: DatasetList})
    async def get(self) -> None:
        """List datasets, without their rows; `search` looks in names."""
        query = self.query(DatasetQuery)
        scope = {**self.caller.scope, "name": query.name}
        page = await list_page(self.parts.store.datasets, query, scope, searched=("name",))
        await self.answer_with(
            lambda: DatasetList.of(query, page.documents, page.total), size=LISTED * len(page.documents)
        )

    @operation("Create dataset", access="editor", body=DatasetCreate, answers={201: Dataset}, errors=(409,))
    async def post(self) -> None:
        """Keep rows under a name: given ones, and what past executions make that somebody has rated.

        Of executions with the same inputs, the one that was rated last counts.
        """
        body, caller = self.body(DatasetCreate), self.caller
        self.answer(await datasets.create(self.parts.store, body, caller.owner, caller.sees), 201)


class DatasetHandler(DatasetResource):
    """``GET``, ``PUT`` and ``DELETE /datasets/{dataset_id}``."""

    @operation("Get a dataset", access="viewer", answers={200: Dataset}, errors=(404,))
    async def get(self, dataset_id: str) -> None:
        """Give a dataset without its rows."""
        self.answer(self.dataset(dataset_id))

    @operation(
        "Update dataset", access="editor", body=DatasetUpdate, answers={200: Dataset}, errors=(404, 409)
    )
    async def put(self, dataset_id: str) -> None:
        """Give a dataset another name, or other rows in the place of all that it has."""
        body = self.body(DatasetUpdate)
        self.dataset(dataset_id)
        self.answer(await datasets.update(self.parts.store, dataset_id, body))

    @operation("Delete dataset", access="editor", answers={204: None}, errors=(404,))
    async def delete(self, dataset_id: str) -> None:
        """Delete a dataset with its rows; the executions that they are from stay."""
        self.dataset(dataset_id)
        await datasets.delete(self.parts.store, dataset_id)
        self.nothing()


class DatasetRowsHandler(DatasetResource):
    """``GET`` and ``POST /datasets/{dataset_id}/rows``."""

    @operation("List dataset rows", access="viewer", query=RowQuery, answers={200: RowList}, errors=(404,))
    async def get(self, dataset_id: str) -> None:
        """List the rows of a dataset, in the order in which they came."""
        query = self.query(RowQuery)
        self.dataset(dataset_id)
        rows = self.parts.store.dataset_rows
        page = await LISTS.do(
            lambda: rows.page(offset=query.after, limit=query.limit, dataset_id=dataset_id),
            owner=self.caller.owner,
        )
        end = query.after + len(page.documents)
        await self.answer_with(
            lambda: RowList(
                rows=[each.row for each in page.documents], next=end if end < page.total else None
            ),
            size=LISTED * len(page.documents),
        )

    @operation("Add dataset rows", access="editor", body=DatasetRows, answers={201: Dataset}, errors=(404,))
    async def post(self, dataset_id: str) -> None:
        """Add rows to a dataset, behind those that it has: 10,000 in all at the most."""
        body, caller = self.body(DatasetRows), self.caller
        self.dataset(dataset_id)
        self.answer(
            await datasets.add_rows(self.parts.store, dataset_id, body, caller.owner, caller.sees), 201
        )
