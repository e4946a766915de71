"""A synchronous client of the Kasal API, for notebooks and the command line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from kasal_jupyter import errors
from kasal_jupyter.client.connection import Connection, print_line, refusal_of
from kasal_jupyter.events.event import Event
from kasal_jupyter.outward import NoWayOut, client_options, proxy_for
from kasal_jupyter.schemas.archive import ExecutionImported
from kasal_jupyter.schemas.base import MOST_LISTED, Updated
from kasal_jupyter.schemas.batches import (
    MOST_ROWS_GIVEN,
    Batch,
    BatchChange,
    BatchCreate,
    BatchList,
    BatchRow,
    BatchRows,
    BatchState,
    RowState,
)
from kasal_jupyter.schemas.cassettes import Cassette
from kasal_jupyter.schemas.cluster import ClusterReport
from kasal_jupyter.schemas.crews import (
    ChangeQuery,
    CrewCheck,
    CrewChecked,
    CrewCreate,
    CrewCreated,
    CrewDetails,
    CrewList,
    CrewRestored,
    CrewSummary,
    CrewUpdate,
    CrewVersionDetails,
    CrewVersionInfo,
    CrewVersionList,
)
from kasal_jupyter.schemas.datasets import (
    Dataset,
    DatasetCreate,
    DatasetList,
    DatasetRow,
    DatasetRows,
    DatasetUpdate,
    RatedRuns,
    Rating,
    RatingGiven,
    RowList,
)
from kasal_jupyter.schemas.difference import ExecutionDiff
from kasal_jupyter.schemas.exchange import (
    CrewExported,
    CrewGenerate,
    CrewGenerated,
    CrewImport,
    CrewImported,
    CrewRead,
    ExportFormat,
)
from kasal_jupyter.schemas.executions import (
    ArtifactInfo,
    ArtifactList,
    Budget,
    ExecutionAccepted,
    ExecutionBegun,
    ExecutionCreate,
    ExecutionFork,
    ExecutionForked,
    ExecutionList,
    ExecutionRecorded,
    ExecutionResult,
    ExecutionResume,
    ExecutionStatus,
    ExecutionStopped,
    ForkPreview,
    ToolAnswer,
    ToolAnswered,
    TraceRow,
    TraceRows,
)
from kasal_jupyter.schemas.mcp import (
    McpRefreshed,
    McpRegistered,
    McpServerCreate,
    McpServerDetails,
    McpServerList,
)
from kasal_jupyter.schemas.memory import (
    CrewMemory,
    KnowledgeCreate,
    MemoryClear,
    MemoryCreate,
    MemoryDetails,
    MemoryHits,
    MemoryList,
    MemoryType,
    SourceDetails,
    SourceList,
    WholeSource,
)
from kasal_jupyter.schemas.models import (
    ModelInfo,
    ModelList,
    ProviderInfo,
    ProviderList,
    ProviderSet,
    ProviderTest,
    ProviderTested,
    Scope,
)
from kasal_jupyter.schemas.retention import PruneReport, PruneRequest
from kasal_jupyter.schemas.schedules import (
    ScheduleCreate,
    ScheduleDetails,
    ScheduleList,
    ScheduleRun,
    ScheduleUpdate,
)
from kasal_jupyter.schemas.tools import ClientTool, ToolInfo, ToolList
from kasal_jupyter.schemas.usage import GroupBy, UsageList
from kasal_jupyter.schemas.users import Me
from kasal_jupyter.wellformed import text_of, well_formed

if TYPE_CHECKING:
    import httpx

    from kasal_jupyter.events.trace import Trace

M = TypeVar("M", bound=BaseModel)

REQUEST_SECONDS = 30.0

LONG_SECONDS = 600.0
"""How long an answer may take before which files are packed, sent or deleted by the thousand."""

MCP_SECONDS = 120.0
"""How long an answer may take before which an MCP server is started, or downloaded and started."""

BATCH_SECONDS = 300.0
"""How long an answer may take before which all rows of a batch are checked and stored, or written."""

TEST_SECONDS = 120.0

SUCCESSOR_SECONDS = 60.0
"""How long is waited for an execution that goes on with one that was cut off."""

"""How long the test of a provider may take: a model's answer, behind what waits in the queue."""


class Client:
    """A server's crews and executions.

    Parameters
    ----------
    connection
        Where the server is.
    seconds
        How long an answer may take, where a method is not told otherwise.

    Notes
    -----
    Every method raises a :class:`~kasal_jupyter.errors.KasalError` that says what the server refused, or
    that it cannot be reached.
    """

    def __init__(self, connection: Connection, *, seconds: float = REQUEST_SECONDS) -> None:
        self._connection = connection
        self._seconds = seconds
        self._http: httpx.Client | None = None
        # A run in the background, and the cells, ask at the same time.
        self._making = threading.Lock()

    @property
    def url(self) -> str:
        """The Jupyter server's base URL."""
        return self._connection.url

    @property
    def connection(self) -> Connection:
        """Where the server is; another one, once a private server has ended and was started again."""
        return self._connection

    def crews(self, name: str | None = None, *, seconds: float | None = None) -> list[CrewSummary]:
        """Give the crews, newest first; with ``name``, those of exactly that name.

        ``seconds`` is how long the answer may take.
        """
        query: dict[str, str | int] = {"per_page": MOST_LISTED} | ({"name": name} if name else {})
        return CrewList.model_validate_json(
            self._request("GET", "/crews", query=query, seconds=seconds)
        ).items

    def crew(self, crew_id: str) -> CrewDetails:
        """Give a crew whole."""
        return self._get(CrewDetails, f"/crews/{quote(crew_id, safe='')}")

    @cached_property
    def owner(self) -> str:
        """Whose the crews are that are made by this client."""
        return self.me().owner

    def create_crew(self, crew: CrewCreate, change: ChangeQuery | None = None) -> CrewCreated:
        """Create a crew; ``change`` tells its history where from."""
        body = crew.model_dump_json(exclude_unset=True).encode()
        return CrewCreated.model_validate_json(
            self._request("POST", "/crews", body, query=_source_of(change))
        )

    def update_crew(
        self,
        crew_id: str,
        crew: CrewCreate | CrewUpdate,
        *,
        version: int | None = None,
        change: ChangeQuery | None = None,
    ) -> Updated:
        """Change a crew; given lists of agents and tasks replace the old ones.

        A :class:`CrewCreate` is the whole crew: what it leaves out gets its default again.

        Parameters
        ----------
        crew_id
            The crew.
        crew
            What it shall be.
        version
            The version it must still have, as :class:`CrewDetails` gives it; any, by default.
        change
            Where the change comes from, for its history.

        Raises
        ------
        PreconditionFailed
            Somebody has changed it since.
        """
        path = f"/crews/{quote(crew_id, safe='')}"
        body = written(crew, whole=isinstance(crew, CrewCreate))
        answer = self._request("PUT", path, body, query=_source_of(change), headers=_if_match(version))
        return Updated.model_validate_json(answer)

    def crew_versions(self, crew_id: str) -> list[CrewVersionInfo]:
        """Give a crew's versions as far as they are kept, the newest first."""
        path = f"/crews/{quote(crew_id, safe='')}/versions"
        return self._get(CrewVersionList, path, {"per_page": MOST_LISTED}).items

    def crew_version(self, crew_id: str, version: int) -> CrewVersionDetails:
        """Give a crew as it was in a version."""
        return self._get(CrewVersionDetails, f"/crews/{quote(crew_id, safe='')}/versions/{version}")

    def restore_crew(
        self,
        crew_id: str,
        version: int,
        *,
        present: int | None = None,
        change: ChangeQuery | None = None,
    ) -> CrewRestored:
        """Bring a crew back to a version; where ``present`` is given, if that is still its newest."""
        path = f"/crews/{quote(crew_id, safe='')}/versions/{version}/restore"
        answer = self._request("POST", path, query=_source_of(change), headers=_if_match(present))
        return CrewRestored.model_validate_json(answer)

    def check(
        self, crew_id: str, inputs: dict[str, Any] | None = None, tools: Sequence[ClientTool] = ()
    ) -> CrewChecked:
        """Check whether a crew could run now, and say what keeps it from that."""
        body = CrewCheck(inputs=inputs or {}, tools=list(tools))
        return self._send(CrewChecked, "POST", f"/crews/{quote(crew_id, safe='')}/check", body)

    def import_crew(self, body: CrewImport) -> CrewImported | CrewRead:
        """Have the server make a crew of another format; with ``save=False``, have it read only."""
        if body.save:
            return self._send(CrewImported, "POST", "/crews/import", body)
        return self._send(CrewRead, "POST", "/crews/import", body)

    def export_crew(self, crew_id: str, format: ExportFormat = "yaml") -> CrewExported:  # noqa: A002
        """Have the server write a crew in a format: its files, and what could not be carried over."""
        path = f"/crews/{quote(crew_id, safe='')}/export"
        accept = {"Accept": "application/json"}
        answer = self._request("GET", path, query={"format": format}, headers=accept)
        return CrewExported.model_validate_json(answer)

    def generate_crew(self, body: CrewGenerate) -> CrewGenerated:
        """Have a model make a crew of a sentence; see :class:`CrewGenerate`."""
        data = written(body)
        seconds = body.timeout + self._seconds
        answer = self._request("POST", "/crews/generate", data, seconds=seconds)
        return CrewGenerated.model_validate_json(answer)

    def delete_crew(self, crew_id: str) -> None:
        """Delete a crew with its agents, tasks, versions, memory and knowledge."""
        self._request("DELETE", f"/crews/{quote(crew_id, safe='')}")

    def start(
        self,
        crew_id: str,
        inputs: dict[str, Any] | None = None,
        tools: Sequence[ClientTool] = (),
        *,
        budget: Budget | None = None,
        once: bool = False,
        cassette: Cassette | None = None,
    ) -> ExecutionAccepted | ExecutionRecorded:
        """Start an execution; the given tools are this client's to answer for.

        It ends before the model call that would pass the budget, where there is one. With ``once``, an
        earlier one that was asked for the same may answer: then it is that, and nothing was started. What
        a ``cassette`` has recorded is not asked again.
        """
        body = ExecutionCreate(crew_id=crew_id, inputs=inputs or {}, tools=list(tools), budget=budget)
        if once:
            # An older server knows no such field.
            body = body.model_copy(update={"once": True})
        if cassette is not None:
            body = body.model_copy(update={"cassette": cassette})
        answer = self._request("POST", "/executions", written(body))
        model = ExecutionRecorded if once and "recorded" in orjson.loads(answer) else ExecutionAccepted
        return model.model_validate_json(answer)

    def replay(self, job_id: str) -> ExecutionBegun:
        """Run an execution that has ended once more from its record."""
        path = f"/executions/{quote(job_id, safe='')}/replay"
        return ExecutionBegun.model_validate_json(self._request("POST", path))

    def record(self, job_id: str) -> bytes:
        """Give what an execution that has ended was asked and answered, as lines of a cassette."""
        return self._request("GET", f"/executions/{quote(job_id, safe='')}/record")

    def resume(self, job_id: str, change: ExecutionResume) -> ExecutionBegun:
        """Go on with an execution that has ended before its time."""
        return self._send(ExecutionBegun, "POST", f"/executions/{quote(job_id, safe='')}/resume", change)

    def fork(self, job_id: str, change: ExecutionFork) -> ExecutionForked:
        """Leave an execution that has ended at a step, and go another way from there."""
        return self._send(ExecutionForked, "POST", f"/executions/{quote(job_id, safe='')}/fork", change)

    def preview_fork(self, job_id: str, change: ExecutionFork) -> ForkPreview:
        """Say where a fork would begin, what it may take, and what can be changed there."""
        asked = change.model_copy(update={"dry_run": True})
        return self._send(ForkPreview, "POST", f"/executions/{quote(job_id, safe='')}/fork", asked)

    def diff(self, job_id: str, other_id: str) -> ExecutionDiff:
        """Say in what two executions differ."""
        return self._get(
            ExecutionDiff, f"/executions/{quote(job_id, safe='')}/diff/{quote(other_id, safe='')}"
        )

    def usage(
        self,
        group_by: GroupBy = "day",
        *,
        since: str | None = None,
        until: str | None = None,
        crew_id: str | None = None,
        user: str | None = None,
    ) -> UsageList:
        """Say what runs have used, told apart by day, crew, user, model, agent or task.

        ``since`` and ``until`` are days, ``2024-01-15``, both included; by default the last 30. Days come in
        their order, anything else with what costs most first.
        """
        query: dict[str, Any] = {"group_by": group_by, "since": since, "until": until, "crew_id": crew_id}
        query |= {"user": user, "per_page": MOST_LISTED, "sort": "name" if group_by == "day" else "-cost"}
        return self._get(
            UsageList, "/usage", {name: value for name, value in query.items() if value is not None}
        )

    def schedules(self, crew_id: str | None = None) -> list[ScheduleDetails]:
        """Give the schedules, newest first: all, or one crew's."""
        query: dict[str, Any] = {"per_page": MOST_LISTED} | ({"crew_id": crew_id} if crew_id else {})
        return self._get(ScheduleList, "/schedules", query).items

    def add_schedule(self, body: ScheduleCreate) -> ScheduleDetails:
        """Have a crew be run by the clock."""
        return self._send(ScheduleDetails, "POST", "/schedules", body)

    def update_schedule(self, schedule_id: str, body: ScheduleUpdate) -> ScheduleDetails:
        """Change what is given of a schedule."""
        return self._send(ScheduleDetails, "PUT", f"/schedules/{quote(schedule_id, safe='')}", body)

    def turn_schedule(self, schedule_id: str, turn: Literal["pause", "resume"]) -> ScheduleDetails:
        """Start no more runs of a schedule, or again."""
        answer = self._request("POST", f"/schedules/{quote(schedule_id, safe='')}/{turn}")
        return ScheduleDetails.model_validate_json(answer)

    def run_schedule(self, schedule_id: str) -> ScheduleRun:
        """Start a run of a schedule now."""
        answer = self._request("POST", f"/schedules/{quote(schedule_id, safe='')}/run")
        return ScheduleRun.model_validate_json(answer)

    def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay."""
        self._request("DELETE", f"/schedules/{quote(schedule_id, safe='')}")

    def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Give the files that an execution has written, by name."""
        found: list[ArtifactInfo] = []
        while True:
            query = {"per_page": MOST_LISTED, "page": len(found) // MOST_LISTED + 1}
            page = self._get(ArtifactList, f"/executions/{quote(job_id, safe='')}/artifacts", query)
            found += page.items
            if not page.items or len(found) >= page.total:
                return found

    def artifact(self, job_id: str, name: str) -> Iterator[bytes]:
        """Give the content of a file that an execution has written, piece by piece."""
        return self._poured(f"/executions/{quote(job_id, safe='')}/artifacts/{quote(name, safe='')}")

    def archive(self, job_id: str) -> Iterator[bytes]:
        """Give an execution that has ended as one archive, piece by piece."""
        return self._poured(f"/executions/{quote(job_id, safe='')}/archive")

    def import_execution(self, archive: IO[bytes]) -> ExecutionImported:
        """Have the server take in an execution that another has exported."""
        headers = {"Content-Type": "application/zip"}
        answer = self._request("POST", "/executions/import", archive, headers=headers, seconds=LONG_SECONDS)
        return ExecutionImported.model_validate_json(answer)

    def prune(self, body: PruneRequest) -> PruneReport:
        """Have the server take away what of executions is kept no longer, or say what would be."""
        answer = self._request("POST", "/prune", written(body), seconds=LONG_SECONDS)
        return PruneReport.model_validate_json(answer)

    def _poured(self, path: str) -> Iterator[bytes]:
        """Give an answer that is a file, piece by piece."""
        with self._streamed(path, self._seconds) as answer:
            yield from answer.iter_bytes()

    @contextmanager
    def _streamed(self, path: str, timeout: float | httpx.Timeout) -> Iterator[httpx.Response]:
        """Ask for what comes piece by piece."""
        import httpx

        try:
            with self._connected().stream("GET", f"{self.url}/v1{path}", timeout=timeout) as answer:
                if answer.status_code >= 400:
                    raise refusal_of(answer.status_code, answer.read())
                yield answer
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None

    def answer_tool(self, job_id: str, call_id: str, answer: ToolAnswer) -> None:
        """Answer a ``tool_request`` of a run that was started with tools of this client's."""
        path = f"/executions/{quote(job_id, safe='')}/tool_calls/{quote(call_id, safe='')}"
        self._send(ToolAnswered, "POST", path, answer)

    def numbered_job(self, number: int, listed: Sequence[str] = ()) -> str:
        """Give the run of a number: in a list that was shown, else among the latest.

        Raises
        ------
        NotFound
            There are not so many.
        """
        if not listed and 1 <= number <= MOST_LISTED:
            listed = [each.job_id for each in self.executions(number)]
        if not 1 <= number <= len(listed):
            raise errors.NotFound(f"There is no run number {number}; the list has {len(listed)}")
        return listed[number - 1]

    def execution(self, job_id: str) -> ExecutionStatus:
        """Give an execution's state."""
        return self._get(ExecutionStatus, f"/executions/{quote(job_id, safe='')}")

    def result(self, job_id: str) -> ExecutionResult:
        """Give what came of an execution that has ended, its answer whole.

        Raises
        ------
        Conflict
            It goes on.
        """
        return self._get(ExecutionResult, f"/executions/{quote(job_id, safe='')}/result")

    def executions(
        self, per_page: int = 20, *, crew_id: str | None = None, status: str | None = None
    ) -> list[ExecutionStatus]:
        """Give the latest executions, newest first: all, or one crew's, or those in one state."""
        query: dict[str, Any] = {"per_page": per_page, "crew_id": crew_id, "status": status}
        given = {name: value for name, value in query.items() if value is not None}
        return self._get(ExecutionList, "/executions", given).items

    def delete_execution(self, job_id: str) -> None:
        """Delete an execution that has ended, with its journal."""
        self._request("DELETE", f"/executions/{quote(job_id, safe='')}")

    def rate(self, job_id: str, rating: Rating) -> RatingGiven:
        """Say what is to be made of an execution that has ended, in the place of what was said before."""
        return self._send(RatingGiven, "PUT", f"/executions/{quote(job_id, safe='')}/rating", rating)

    def unrate(self, job_id: str) -> None:
        """Take back what was said of an execution."""
        self._request("DELETE", f"/executions/{quote(job_id, safe='')}/rating")

    def datasets(self, name: str | None = None) -> list[Dataset]:
        """Give the datasets, newest first; with ``name``, those of exactly that name."""
        query: dict[str, Any] = {"per_page": MOST_LISTED} | ({"name": name} if name else {})
        return self._get(DatasetList, "/datasets", query).items

    def dataset_rows(self, dataset_id: str) -> list[DatasetRow]:
        """Give all rows of a dataset, in their order."""
        path, rows = f"/datasets/{quote(dataset_id, safe='')}/rows", list[DatasetRow]()
        while True:
            page = self._get(RowList, path, {"after": len(rows), "limit": MOST_LISTED})
            rows += page.rows
            if page.next is None:
                return rows

    def create_dataset(
        self, name: str, rows: Sequence[DatasetRow] = (), rated: RatedRuns | None = None
    ) -> Dataset:
        """Keep rows under a name: given ones, and those that rated executions make."""
        body = DatasetCreate(name=name, **({} if rated is None else {"rated": rated}))
        made = self._send(Dataset, "POST", "/datasets", body)
        try:
            return self._with_rows(made, rows)
        except BaseException:
            self.delete_dataset(made.id)
            raise

    def replace_dataset(
        self, dataset_id: str, rows: Sequence[DatasetRow] = (), rated: RatedRuns | None = None
    ) -> Dataset:
        """Give a dataset other rows in the place of all that it has."""
        path = f"/datasets/{quote(dataset_id, safe='')}"
        emptied = self._send(Dataset, "PUT", path, DatasetUpdate(rows=[]))
        if rated is not None:
            emptied = self._send(Dataset, "POST", f"{path}/rows", DatasetRows(rated=rated))
        return self._with_rows(emptied, rows)

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset with its rows."""
        self._request("DELETE", f"/datasets/{quote(dataset_id, safe='')}")

    def _with_rows(self, dataset: Dataset, rows: Sequence[DatasetRow]) -> Dataset:
        path = f"/datasets/{quote(dataset.id, safe='')}/rows"
        for part in _portions(rows):
            dataset = self._send(Dataset, "POST", path, DatasetRows(rows=part))
        return dataset

    def traces(self, job_id: str, **only: str | int | None) -> list[TraceRow]:
        """Give what an execution's agents did, a row a step.

        Parameters
        ----------
        job_id
            The execution.
        **only
            Which rows: ``kind``, ``agent``, ``task``, ``limit``, ``after``, as the API takes them.
        """
        query = {name: value for name, value in only.items() if value is not None}
        return self._get(TraceRows, f"/executions/{quote(job_id, safe='')}/traces", query).traces

    def stop(self, job_id: str) -> ExecutionStopped:
        """Stop an execution; its processes are gone when this returns."""
        path = f"/executions/{quote(job_id, safe='')}/stop"
        return ExecutionStopped.model_validate_json(self._request("POST", path))

    def follow(
        self,
        job_id: str,
        after: int = 0,
        on_idle: Callable[[], None] | None = None,
        *,
        serve: bool = False,
        on_connect: Callable[[], None] | None = None,
    ) -> Iterator[Event]:
        """Give an execution's events as they come, to its end: in order, without a gap, each once.

        A lost connection is made again, and goes on where it broke off.

        Parameters
        ----------
        job_id
            The execution.
        after
            The ``seq`` of the last event already known.
        on_idle
            Called some times a second while no event comes.
        serve
            Whether this client answers the calls of the tools that it brought.
        on_connect
            Called before the first events of each connection, the past among them.

        Raises
        ------
        Unavailable
            The connection was lost, and did not come back in half a minute.
        """
        from kasal_jupyter.client.stream import Following, follow_events

        following = Following(job_id, after, serve=serve, on_idle=on_idle, on_connect=on_connect)
        return follow_events(self._connection, following)

    def successor(self, job_id: str) -> str | None:
        """Give the execution that goes on with one that was cut off and is resumed, as its end tells.

        It is waited for, and may not come: None, then.
        """
        end = time.monotonic() + SUCCESSOR_SECONDS
        while time.monotonic() < end:
            with suppress(errors.Unavailable):
                if (by := self.execution(job_id).resumed_by) is not None:
                    return by
            time.sleep(0.5)
        return None

    # Batches.

    def start_batch(self, body: BatchCreate) -> Batch:
        """Run a crew over rows; with the name and rows of a batch that was not stopped, go on with that."""
        data = written(body)
        return Batch.model_validate_json(self._request("POST", "/batches", data, seconds=BATCH_SECONDS))

    def batches(
        self,
        per_page: int = 20,
        *,
        name: str | None = None,
        crew_id: str | None = None,
        status: BatchState | None = None,
    ) -> list[Batch]:
        """Give the latest batches, newest first: all, those of one name, of one crew, or in one state."""
        query = {"per_page": per_page, "name": name, "crew_id": crew_id, "status": status}
        given = {key: value for key, value in query.items() if value is not None}
        return self._get(BatchList, "/batches", given).items

    def batch(self, batch_id: str) -> Batch:
        """Give a batch as it stands."""
        return self._get(Batch, _batch(batch_id))

    def change_batch(self, batch_id: str, change: BatchChange) -> Batch:
        """Change how many rows of a batch go on at the same time, its budget, or its name."""
        return self._send(Batch, "PATCH", _batch(batch_id), change)

    def tell_batch(self, batch_id: str, what: Literal["pause", "resume", "stop", "retry"]) -> Batch:
        """Have a batch stand still, go on, end, or do the rows again that have failed.

        Raises
        ------
        Conflict
            It cannot do that as it stands.
        """
        return Batch.model_validate_json(self._request("POST", f"{_batch(batch_id)}/{what}"))

    def delete_batch(self, batch_id: str) -> None:
        """Delete a batch that does not run, with its rows and results; its executions stay."""
        self._request("DELETE", _batch(batch_id))

    def batch_rows(
        self, batch_id: str, *, status: RowState | None = None, most: int | None = None
    ) -> Iterator[BatchRow]:
        """Give a batch's rows in the order of the input: all, or those in one state, at the most so many."""
        after: int | None = -1
        while after is not None and (most is None or most > 0):
            limit = MOST_ROWS_GIVEN if most is None else min(most, MOST_ROWS_GIVEN)
            query = {"after": after, "limit": limit, **({"status": status} if status else {})}
            page = self._get(BatchRows, f"{_batch(batch_id)}/rows", query)
            yield from page.rows
            after = page.next
            most = None if most is None else most - len(page.rows)

    def batch_results(self, batch_id: str, format: Literal["jsonl", "csv", "parquet"]) -> bytes:  # noqa: A002
        """Give all of a batch's rows as a file, as they are at this moment."""
        path = f"{_batch(batch_id)}/results"
        return self._request("GET", path, query={"format": format}, seconds=BATCH_SECONDS)

    def follow_batch(self, batch_id: str, on_idle: Callable[[], None] | None = None) -> Iterator[Batch]:
        """Give a batch whenever it has changed, until nothing of it goes on; lost connections are made again.

        Parameters
        ----------
        batch_id
            The batch.
        on_idle
            Called some times a second while nothing comes.

        Raises
        ------
        Unavailable
            The connection was lost, and did not come back in half a minute.
        """
        from kasal_jupyter.client.stream import follow_batch

        return follow_batch(self.batch, self._batch_lines, batch_id, on_idle)

    @contextmanager
    def _batch_lines(self, batch_id: str, silence: float) -> Iterator[Iterator[str]]:
        """Open the stream of a batch's changes; give its lines."""
        import httpx

        timeout = httpx.Timeout(REQUEST_SECONDS, read=silence)
        with self._streamed(f"{_batch(batch_id)}/events", timeout) as answer:
            yield answer.iter_lines()

    def tools(self) -> list[ToolInfo]:
        """Give the tools that the server's agents can use."""
        return self._get(ToolList, "/tools", {"per_page": MOST_LISTED}).items

    def mcp_servers(self) -> list[McpServerDetails]:
        """Give the MCP servers that one's crews can use, with their tools."""
        return self._get(McpServerList, "/tools/mcp", {"per_page": MOST_LISTED}).items

    def add_mcp_server(self, server: McpServerCreate) -> McpRegistered:
        """Register an MCP server, to which the server connects first."""
        body = written(server)
        return McpRegistered.model_validate_json(
            self._request("POST", "/tools/mcp", body, seconds=MCP_SECONDS)
        )

    def refresh_mcp_server(self, server_id: str) -> McpRefreshed:
        """List an MCP server's tools anew, and say what is different."""
        path = f"/tools/mcp/{quote(server_id, safe='')}/refresh"
        return McpRefreshed.model_validate_json(self._request("POST", path, seconds=MCP_SECONDS))

    def delete_mcp_server(self, server_id: str, *, force: bool = False) -> None:
        """Delete an MCP server; where its tools are used, only by force."""
        query = {"force": "true"} if force else None
        self._request("DELETE", f"/tools/mcp/{quote(server_id, safe='')}", query=query)

    def models(self, *, seconds: float | None = None) -> list[ModelInfo]:
        """Give the models that the server knows, with whether they can run."""
        return ModelList.model_validate_json(
            self._request("GET", "/models", query={"per_page": MOST_LISTED}, seconds=seconds)
        ).items

    def providers(self) -> list[ProviderInfo]:
        """Give the providers of models and searches, with whether they are set; never a key."""
        return self._get(ProviderList, "/providers").providers

    def set_provider(self, name: str, body: ProviderSet) -> ProviderInfo:
        """Store a provider's key, address and options, in place of what was stored."""
        return self._send(ProviderInfo, "PUT", f"/providers/{quote(name, safe='')}", body)

    def test_provider(self, name: str, model: str | None = None) -> ProviderTested:
        """Have the server ask a provider something small; give what that has shown."""
        path = f"/providers/{quote(name, safe='')}/test"
        data = self._request("POST", path, written(ProviderTest(model=model)), seconds=TEST_SECONDS)
        return ProviderTested.model_validate_json(data)

    def delete_provider(self, name: str, *, scope: Scope = "user") -> None:
        """Delete what is stored for a provider: one's own, or everybody's."""
        self._request("DELETE", f"/providers/{quote(name, safe='')}", query={"scope": scope})

    def me(self) -> Me:
        """Give who we are to the server."""
        return self._get(Me, "/auth/me")

    def health(self) -> dict[str, Any]:
        """Give the server's state."""
        return cast("dict[str, Any]", orjson.loads(self._request("GET", "/health")))

    def backend(self) -> ClusterReport:
        """Give what executions are run on."""
        return self._get(ClusterReport, "/backend")

    def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            self._http.close()

    # What crews remember and know.

    def memory(self, crew_id: str) -> CrewMemory:
        """Give what a crew remembers."""
        return self._get(CrewMemory, _memory(crew_id))

    def memories(self, crew_id: str, type: MemoryType | None = None) -> list[MemoryDetails]:  # noqa: A002
        """List a crew's memories one by one, the newest first; at most 500."""
        query = {"per_page": MOST_LISTED, **({"type": type} if type else {})}
        return self._get(MemoryList, f"{_memory(crew_id)}/entries", query).items

    def search_memory(
        self,
        crew_id: str,
        text: str,
        *,
        type: MemoryType | Literal["knowledge"] | None = None,  # noqa: A002
        limit: int = 10,
    ) -> MemoryHits:
        """Find what of a crew's memories and knowledge is near to a text."""
        query = {"query": text, "limit": limit, **({"type": type} if type else {})}
        return self._get(MemoryHits, f"{_memory(crew_id)}/search", query)

    def add_memory(self, crew_id: str, body: MemoryCreate) -> MemoryDetails:
        """Have a crew remember something."""
        return self._send(MemoryDetails, "POST", _memory(crew_id), body)

    def delete_memory(self, crew_id: str, memory_id: str) -> None:
        """Have a crew forget one memory."""
        self._request("DELETE", f"{_memory(crew_id)}/{quote(memory_id, safe='')}")

    def clear_memory(self, crew_id: str, body: MemoryClear) -> None:
        """Have a crew forget its memories of a type, or all."""
        self._request("POST", f"{_memory(crew_id)}/clear", written(body, whole=True))

    def knowledge(self, crew_id: str) -> list[SourceDetails]:
        """List the files and texts that a crew was given; at most 500."""
        return self._get(SourceList, _knowledge(crew_id), {"per_page": MOST_LISTED}).items

    def source(self, crew_id: str, source_id: str) -> WholeSource:
        """Give a source with the first 500 of its passages."""
        path = f"{_knowledge(crew_id)}/{quote(source_id, safe='')}"
        return self._get(WholeSource, path, {"per_page": MOST_LISTED})

    def add_knowledge(self, crew_id: str, body: KnowledgeCreate) -> SourceDetails:
        """Give a crew a text or a file to know."""
        return self._send(SourceDetails, "POST", _knowledge(crew_id), body)

    def delete_knowledge(self, crew_id: str, source_id: str) -> None:
        """Take a source away from a crew."""
        self._request("DELETE", f"{_knowledge(crew_id)}/{quote(source_id, safe='')}")

    def _get(self, model: type[M], path: str, query: dict[str, Any] | None = None) -> M:
        return model.model_validate_json(self._request("GET", path, query=query))

    def _send(self, model: type[M], method: str, path: str, body: BaseModel) -> M:
        data = written(body)
        return model.model_validate_json(self._request(method, path, data))

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] | None = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> bytes:
        import httpx

        headers = ({"Content-Type": "application/json"} if body is not None else {}) | (headers or {})

        def ask() -> httpx.Response:
            return self._connected().request(
                method,
                f"{self.url}/v1{path}",
                content=body,
                params=query,
                headers=headers,
                timeout=seconds or self._seconds,
            )

        try:
            try:
                answer = ask()
            except httpx.ConnectError:
                # Nothing was sent. A private server ends when it is idle, and is started again.
                if not self._connection.private:
                    raise
                self._join_again()
                answer = ask()
        except httpx.HTTPError as error:
            raise self._no_answer(error) from None
        if answer.status_code >= 400:
            raise refusal_of(answer.status_code, answer.content)
        return answer.content

    def _connected(self) -> httpx.Client:
        import httpx

        with self._making:
            if self._http is None:
                try:
                    self._http = httpx.Client(headers=self._connection.headers, **client_options(self.url))
                except NoWayOut as error:
                    raise errors.Unavailable(f"The server at {self.url} cannot be asked: {error}") from None
            return self._http

    def _no_answer(self, error: httpx.HTTPError) -> errors.Unavailable:
        proxy = proxy_for(self.url)
        through = f", asked through the proxy {proxy.shown}," if proxy is not None else ""
        return errors.Unavailable(
            f"The server at {self.url}{through} does not answer: {error or type(error).__name__}"
        )

    def _join_again(self) -> None:
        """Go on with the user's private server that there is now, where the one before has ended."""
        from kasal_jupyter.client.private_server import private_server

        self.close()
        self._http = None
        self._connection = private_server(print_line)


MOST_SENT, MOST_COMMAS = 500_000, 20_000
"""Bytes, and about how many values, of rows that are sent at once: a body may have only so many."""


def _portions(rows: Sequence[DatasetRow]) -> Iterator[list[DatasetRow]]:
    """Give rows in portions that one body takes."""
    part: list[DatasetRow] = []
    size = commas = 0
    for row in rows:
        text = written(row)
        if part and (size + len(text) > MOST_SENT or commas + text.count(b",") > MOST_COMMAS):
            yield part
            part, size, commas = [], 0, 0
        part.append(row)
        size, commas = size + len(text), commas + text.count(b",") + 1
    if part:
        yield part


def written(body: BaseModel, *, whole: bool = False) -> bytes:
    """Write a request's body: what of it was set, or the whole."""
    try:
        return body.model_dump_json(exclude_unset=not whole).encode()
    except PydanticSerializationError:
        # What no UTF-8 can hold, in an input or a frame's cell.
        return json.dumps(well_formed(body.model_dump(exclude_unset=not whole)), default=text_of).encode()


def _batch(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"


def _memory(crew_id: str) -> str:
    return f"/memory/{quote(crew_id, safe='')}"


def _knowledge(crew_id: str) -> str:
    return f"/crews/{quote(crew_id, safe='')}/knowledge"


def _source_of(change: ChangeQuery | None) -> dict[str, str] | None:
    return change.model_dump(exclude_none=True) if change is not None else None


def _if_match(version: int | None) -> dict[str, str]:
    return {"If-Match": f'"{version}"'} if version is not None else {}


LOOK_SECONDS = 1.0
"""How often a run's place in the line is asked for, at the most."""


class Waiting:
    """Where a run stands in its server's line, which no event tells, since others come and go.

    It is asked for while the run waits; whoever follows the run calls :meth:`look` while nothing comes.

    Parameters
    ----------
    client
        The server.
    trace
        What is known of the run.

    Attributes
    ----------
    position
        Its place, counted from 1; None where it does not wait, or nobody knows.
    """

    def __init__(self, client: Client, trace: Trace) -> None:
        self.position: int | None = None
        self._client = client
        self._trace = trace
        self._next = 0.0

    def look(self) -> None:
        """Ask the server, if the run waits and it is time to."""
        # Before its first event nothing is known of it, not even that it waits.
        if self._trace.summary.status != "queued" or not self._trace.summary.seq:
            self.position = None
            return
        if time.monotonic() < self._next:
            return
        # A server that is away is told of by the stream that follows the run.
        with suppress(errors.KasalError):
            self.position = self._client.execution(self._trace.job_id).queue_position
        self._next = time.monotonic() + LOOK_SECONDS
