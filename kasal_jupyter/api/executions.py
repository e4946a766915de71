"""``/executions``: the reference's *Execution Management*."""

from __future__ import annotations

import asyncio

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.paging import read_number, read_page
from kasal_jupyter.runs.traces import trace_rows
from kasal_jupyter.schemas.executions import (
    Execution,
    ExecutionAccepted,
    ExecutionCreate,
    ExecutionList,
    ExecutionStatus,
    ExecutionStopped,
    TraceRows,
)


class ExecutionsHandler(ApiHandler):
    """``GET /executions`` and ``POST /executions``."""

    message = "Invalid execution"

    async def get(self) -> None:
        """List executions, newest first; ``?crew_id=`` and ``?status=`` narrow them down."""
        page = read_page(self)
        criteria = {"owner": self.caller.owner}
        for name in ("crew_id", "status"):
            if value := self.get_query_argument(name, None):
                criteria[name] = value
        found = self.parts.store.executions.page(
            order="newest", offset=page.offset, limit=page.per_page, **criteria
        )
        executions = await self.parts.runs.current(found.documents)
        self.answer(
            ExecutionList(
                executions=[_status(each) for each in executions], total=found.total, page=page.page
            )
        )

    async def post(self) -> None:
        """Start an execution: checked and on disk when this answers."""
        body = self.body(ExecutionCreate)
        whole = self.parts.crews.whole(body.crew_id)
        execution = await self.parts.runs.start(whole, body.inputs, self.caller.owner)
        self.answer(
            ExecutionAccepted(job_id=execution.id, estimated_duration=self.parts.runs.estimate(whole)), 202
        )


class ExecutionHandler(ApiHandler):
    """``GET /executions/{job_id}``."""

    async def get(self, job_id: str) -> None:
        """Give an execution's state."""
        self.answer(_status(await self.parts.runs.execution(job_id)))


class TracesHandler(ApiHandler):
    """``GET /executions/{job_id}/traces``."""

    async def get(self, job_id: str) -> None:
        """Give what was done, a row a model call, tool call and task; ``?after=`` goes on from a ``seq``."""
        feed = await self.parts.runs.feed(job_id)
        after = read_number(self, "after", 0, least=0, most=10**12)
        limit = read_number(self, "limit", 10_000, least=1, most=10_000)
        # In a thread: a long run's events take longer to read than the loop may be held up.
        rows = await asyncio.to_thread(trace_rows, feed.journal, after, limit)
        self.answer(TraceRows(traces=rows))


class StopHandler(ApiHandler):
    """``POST /executions/{job_id}/stop``."""

    async def post(self, job_id: str) -> None:
        """Stop an execution; its processes are gone when this answers."""
        execution = await self.parts.runs.stop(job_id)
        self.answer(ExecutionStopped(job_id=execution.id, status=execution.status))


def _status(execution: Execution) -> ExecutionStatus:
    fields = execution.model_dump(include=set(ExecutionStatus.model_fields))
    return ExecutionStatus.model_validate({**fields, "job_id": execution.id})
