"""A crew run over a frame, a run a row: from the notebook, blocking under the cell or in the background."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kasal_jupyter.client.connection import print_line
from kasal_jupyter.errors import Conflict, Fault, KasalError, Unavailable
from kasal_jupyter.kernel.crews.plan import faults_by_name, inputs_of
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.batch_frames import (
    ResultColumns,
    Table,
    frame_of,
    missing_note,
    plan_inputs,
    with_rows,
)
from kasal_jupyter.kernel.functions.notebook_tools import NotebookTool, tools_named_by
from kasal_jupyter.kernel.functions.tool_calls import RunTools, call_thread
from kasal_jupyter.kernel.runs.result import Drawn
from kasal_jupyter.kernel.runs.runner import undisturbed
from kasal_jupyter.kernel.views.batches import MOST_FAILED, BatchView, html_of, text_of, view_of, way_on
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.schemas.batches import FINISHED, MOST_ROWS, Batch, BatchCreate, BatchRow, RowGiven
from kasal_jupyter.schemas.tools import ClientTool

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.executions import Budget

LOOK_SECONDS = 1.0
"""How often is looked which rows run that may call the notebook's functions: a run whose calls nobody
answers fails after five seconds."""


_FOR_VIEWS = frozenset(
    {"bundle", "check", "drawn", "drawn_here", "failure", "failures", "follow", "remark", "take"}
)


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How a crew is run over rows.

    Attributes
    ----------
    name
        What the batch is called: with the same name, crew and rows it goes on.
    columns
        Inputs by name whose column has another.
    concurrency
        Rows that go on at the same time, at the most.
    budget, run_budget
        What all rows together may use up, and each of them.
    dedupe
        Whether equal rows share one run.
    retry_failed
        Whether the rows that have failed are done again, and no others.
    fresh
        Whether all rows are run anew, whatever earlier runs have answered.
    """

    name: str | None = None
    columns: Mapping[str, str] | None = None
    concurrency: int | None = None
    budget: Budget | None = None
    run_budget: Budget | None = None
    dedupe: bool = False
    retry_failed: bool = False
    fresh: bool = False


class BatchFailed(CellError):
    """A batch that did not come to its end, or of which no row has completed.

    Attributes
    ----------
    result
        The batch, with what came of its rows.
    """

    result: BatchResult | None = None


class BatchResult(Drawn):
    """A batch: how it stands, and what has come of its rows.

    Shown in a notebook it is the bar with its figures. In the background it grows.

    Attributes
    ----------
    batch
        How it stands, as far as that is known here.

    Examples
    --------
    >>> done = crew.map(df)  # doctest: +SKIP
    >>> done.frame.groupby("status").cost.sum()  # doctest: +SKIP
    """

    def __init__(
        self, client: Client, batch: Batch, table: Table | None = None, before: Sequence[int] | None = None
    ) -> None:
        self.batch = batch
        self._client = client
        self._table = table
        self._retried = before
        self._follower: BatchFollower | None = None
        self._view: BatchView | None = None
        self._tools: Mapping[str, NotebookTool] = {}
        self._rows: list[BatchRow] | None = None
        self._failed: list[BatchRow] | None = None
        self._noted = False

    def __dir__(self) -> list[str]:
        """Give what Tab offers: nothing that only the views use."""
        return [name for name in super().__dir__() if name not in _FOR_VIEWS]

    @property
    def id(self) -> str:
        """The batch's id."""
        return self.batch.id

    @property
    def status(self) -> str:
        """``running``, ``paused``, ``completed``, ``stopped`` or ``failed``."""
        return self.batch.status

    @property
    def cost(self) -> float | None:
        """US dollars so far; None where that of one row is unknown."""
        return self.batch.cost

    @property
    def rows(self) -> list[BatchRow]:
        """The rows as the server has them, in the input's order."""
        if self._rows is not None:
            return self._rows
        found = list(self._client.batch_rows(self.id))
        # What is over stays as it is.
        if is_settled(self.batch):
            self._rows = found
        return found

    @property
    def frame(self) -> Any:
        """The input with what has come of each row, of the same library, in its order and with its index.

        Beside the input's columns: ``output``, the fields of a structured output, ``status``, ``error``,
        ``tokens``, ``cost`` (US dollars), ``duration`` (seconds) and ``job_id``. While the batch goes on,
        it is what there is of it.
        """
        return self._frame_of(self.rows)

    def _frame_of(self, rows: Sequence[BatchRow]) -> Any:
        if self._table is None:
            native = frame_of([row.inputs for row in rows])
            self._table = Table.of(native, "rows")
        columns = ResultColumns(set(self._table.columns))
        found = self._table.with_columns(columns.of(rows))
        if (note := columns.note(self._table.name)) and not self._noted:
            self._noted = True
            print_line(note)
        return found

    @property
    def failed(self) -> Any:
        """The rows of the frame that have failed or were stopped."""
        rows = self.rows
        return with_rows(self._frame_of(rows), [row.status in {"failed", "stopped"} for row in rows])

    @property
    def retried(self) -> Any | None:
        """The rows of the frame that were done again because they had failed; None where none was."""
        if self._retried is None:
            return None
        again = set(self._retried)
        rows = self.rows
        return with_rows(self._frame_of(rows), [row.index in again for row in rows])

    @property
    def lost(self) -> KasalError | None:
        """Why the batch could not be followed to its end, where that is so; it goes on by itself."""
        return self._follower.lost if self._follower is not None else None

    def wait(self, timeout: float | None = None) -> BatchResult:
        """Wait for the end, at most ``timeout`` seconds, and give the batch.

        Raises
        ------
        BatchFailed
            It stands still, was stopped or cannot go on, or no row of it has completed.
        CellError
            It could not be followed to its end.
        """
        if self._follower is not None:
            self._follower.join(timeout)
            if self._follower.is_alive():
                return self
            self._follower.check()
            if self._view is not None and not self.drawn_here:
                # What runs notebooks without a page hears the running cell alone.
                self._view.end(self.bundle())
                self._view = None
        self.check()
        return self

    def pause(self) -> BatchResult:
        """Begin no more rows; those that run go on to their end."""
        return self._told(lambda: self._client.tell_batch(self.id, "pause"))

    def resume(self) -> BatchResult:
        """Go on with a batch that stands still, in the background."""
        self._told(lambda: self._client.tell_batch(self.id, "resume"))
        return self._followed()

    def retry(self) -> BatchResult:
        """Do the rows again that have failed, and no others, in the background."""
        self._told(lambda: self._client.tell_batch(self.id, "retry"))
        return self._followed()

    def stop(self) -> BatchResult:
        """End it: rows that run are stopped."""
        return self._told(lambda: self._client.tell_batch(self.id, "stop"))

    def _told(self, tell: Callable[[], Batch]) -> BatchResult:
        try:
            self.take(tell())
        except Conflict as error:
            raise CellError(error.message) from None
        return self

    def _followed(self) -> BatchResult:
        """Have it be followed again, where nobody does."""
        if self._follower is None or not self._follower.is_alive():
            self.drawn()
            self.follow(view_of(self), self._tools, patient=True)
        return self

    def take(self, batch: Batch) -> None:
        """Take in how it stands."""
        self.batch = batch
        self._rows = self._failed = None

    def follow(self, view: BatchView, tools: Mapping[str, NotebookTool], *, patient: bool) -> BatchFollower:
        """Begin to follow it in a thread of its own; ``patient``, also while it is paused."""
        self._view, self._tools = view, tools
        self._follower = BatchFollower(self._client, self, view, tools, patient=patient)
        self._follower.start()
        return self._follower

    def failures(self) -> list[BatchRow]:
        """Give some of the rows that have failed."""
        if self._failed is None:
            most = MOST_FAILED if self.batch.counts.failed else 0
            self._failed = list(self._client.batch_rows(self.id, status="failed", most=most))
        return self._failed

    def remark(self) -> str:
        """Say what became of the rows that were done again; nothing where none was."""
        return retried_text(self._client, self.batch, self._retried)

    def check(self) -> None:
        """Raise where the batch stands still, was ended, or no row of it has completed."""
        batch = self.batch
        if batch.status == "running":
            return
        done = batch.counts.completed + batch.counts.shared
        if batch.status == "completed" and (done or not batch.counts.failed):
            return
        if batch.status == "completed":
            first = next(iter(self.failures()), None)
            why = f": {first.failure}" if first is not None else ""
            raise self.failure(f"All {counted(batch.total, 'row')} of {batch.id} failed{why}")
        reason = f": {batch.reason.code}: {batch.reason.message}" if batch.reason is not None else ""
        raise self.failure(f"{batch.id} is {batch.status}{reason.rstrip('.')}; {way_on(batch)}")

    def failure(self, text: str) -> BatchFailed:
        """Give the exception that fails a cell."""
        error = BatchFailed(clean(text))
        error.result = self
        return error

    def __repr__(self) -> str:
        return text_of(self.batch, self.failures() if is_settled(self.batch) else (), self.remark() or None)

    def _repr_html_(self) -> str:
        return html_of(self.batch, self.failures() if is_settled(self.batch) else (), self.remark() or None)

    def bundle(self) -> dict[str, Any]:
        """Give it in every form that a notebook may show."""
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}


def is_settled(batch: Batch) -> bool:
    """Say whether no row of a batch goes on, as long as nobody tells it to."""
    return batch.status != "running" and not batch.counts.running


def map_frame(
    client: Client,
    crew: CrewDetails,
    frame: Any,
    options: MapOptions,
    *,
    source: str = "df",
    values: Mapping[str, Any] | None = None,
    background: bool = False,
    on_start: Callable[[str], object] | None = None,
) -> BatchResult:
    """Run a crew over the rows of a frame, and watch the batch under the cell.

    Parameters
    ----------
    client
        The server that runs it.
    crew
        The crew.
    frame
        The rows: a frame of any library, or a list of mappings.
    options
        How.
    source
        What the frame is called, for errors.
    values
        Inputs that are the same in each row.
    background
        Whether to return at once; the view goes on.
    on_start
        Told the batch's id as soon as there is one.

    Raises
    ------
    CellError
        Columns and inputs do not fit, or a value cannot be sent: it names row and column. Nothing was sent.
    KasalError
        The server refuses the batch; every fault is named.
    BatchFailed
        It stands still, was ended, or no row of it has completed. An interrupt of the kernel (■) pauses it.
    """
    table = Table.of(frame, source)
    if len(table) > MOST_ROWS:
        raise CellError(f"{source} has {len(table):,} rows; a batch takes {MOST_ROWS:,}: map it in parts")
    plan = plan_inputs(
        crew.name, inputs_of(crew), table.columns, source=source, columns=options.columns, values=values
    )
    rows = table.inputs(plan)
    if (note := missing_note(rows, source)) is not None:
        print_line(note)
    tools = tools_named_by(crew)
    body = batch_of(crew, rows, options, [tool.definition for tool in tools.values()])

    def start() -> tuple[Batch, list[int] | None]:
        return start_batch(client, body, retry_failed=options.retry_failed)

    try:
        (batch, before), interrupted = undisturbed(start)
    except KasalError as error:
        error.faults = faults_by_name([_by_row(each, table) for each in error.faults], crew)
        raise
    if options.retry_failed and before is None:
        print_line(none_failed_text(batch))
    result = BatchResult(client, batch, table, before)
    if on_start is not None:
        on_start(batch.id)
    if interrupted:
        raise _paused(client, result)
    if background:
        result.drawn()
        result.follow(view_of(result), tools, patient=True)
        return result
    return watch(client, result, tools)


def batch_of(
    crew: CrewDetails,
    rows: Sequence[dict[str, Any]],
    options: MapOptions,
    tools: Sequence[ClientTool] = (),
) -> BatchCreate:
    """Give what a batch is asked for with."""
    given: dict[str, Any] = {
        "concurrency": options.concurrency,
        "budget": options.budget,
        "run_budget": options.run_budget,
        "tools": list(tools) or None,
        "dedupe": options.dedupe or None,
        "once": False if options.fresh else None,
    }
    return BatchCreate(
        crew_id=crew.id,
        # It always has a name: a cell that is run again goes on where it was.
        name=options.name or crew.name,
        rows=[RowGiven(inputs=each) for each in rows],
        **{name: value for name, value in given.items() if value is not None},
    )


def start_batch(
    client: Client, body: BatchCreate, *, retry_failed: bool = False
) -> tuple[Batch, list[int] | None]:
    """Start a batch, or go on with it; give the rows as well that are done again because they have failed."""
    batch = client.start_batch(body)
    if not retry_failed or not batch.counts.failed + batch.counts.stopped:
        return batch, None
    again = [
        row.index for state in ("failed", "stopped") for row in client.batch_rows(batch.id, status=state)
    ]
    return client.tell_batch(batch.id, "retry"), again


def retried_text(client: Client, batch: Batch, again: Sequence[int] | None) -> str:
    """Say what became of the rows that were done again; nothing where none was, or they go on."""
    if again is None or not is_settled(batch):
        return ""
    left = len({row.index for row in client.batch_rows(batch.id, status="failed")}.intersection(again))
    words = [f"{len(again) - left:,} completed now"] if left < len(again) else []
    words += [f"{left:,} failed again"] if left else []
    return f"{counted(len(again), 'row')} done again that had failed: {', '.join(words)}"


def none_failed_text(batch: Batch) -> str:
    """Say of a batch whose failed rows were to be done again that it has none."""
    rest = (
        "there is nothing to do again"
        if batch.status == "completed"
        else "it goes on with those that are left"
    )
    return f"No row of {batch.id} has failed; {rest}"


def watch(client: Client, result: BatchResult, tools: Mapping[str, NotebookTool]) -> BatchResult:
    """Draw a batch under the cell until nothing of it goes on.

    Raises
    ------
    BatchFailed
        It stands still, was ended, or no row of it has completed. An interrupt of the kernel (■) pauses it.
    """
    try:
        follower = result.follow(view_of(result), tools, patient=False)
        while follower.is_alive():
            # With a time limit: on Windows, a wait without one cannot be interrupted.
            follower.join(0.5)
    except KeyboardInterrupt:
        raise _paused(client, result) from None
    follower.check()
    result.check()
    return result.drawn()


def _paused(client: Client, result: BatchResult) -> BatchFailed:
    """Pause a batch, however often the kernel is interrupted meanwhile, and say what became of it."""

    def pause() -> Batch:
        try:
            return client.tell_batch(result.id, "pause")
        except Conflict:
            # It has just ended by itself.
            return client.batch(result.id)

    try:
        batch, _ = undisturbed(pause)
    except KasalError as error:
        return result.failure(
            f"{result.id} may go on: it could not be paused. {error.message}; "
            f"try `%kasal batches pause {result.id}`"
        )
    result.take(batch)
    if batch.status in FINISHED:
        return result.failure(f"{batch.id} was interrupted here, but is {batch.status} already")
    runs = batch.counts.running
    rest = (
        f"; {counted(runs, 'row')} that had begun {'goes' if runs == 1 else 'go'} on to the end"
        if runs
        else ""
    )
    return result.failure(
        f"{batch.id} is paused{rest}. Run the cell again to go on, or `%kasal batches stop {batch.id}`"
    )


def _by_row(fault: Fault, table: Table) -> Fault:
    """Name a fault's row as the frame does."""
    head, _, rest = fault.field.partition("].")
    number = head.removeprefix("rows[")
    if not rest or not number.isdecimal() or int(number) >= len(table):
        return fault
    return Fault(f"row {table.label(int(number))}: {rest}", fault.reason)


# -- the thread that follows ------------------------------------------------------------------------------


class BatchFollower(threading.Thread):
    """Follows a batch: draws it, and has the calls of its rows for the notebook's functions done.

    Parameters
    ----------
    client
        The server.
    result
        Takes in how it stands.
    view
        Shows it; it is used by this thread alone.
    tools
        The notebook's functions that rows may call.
    patient
        Whether it is followed also while it is paused: somebody may have it go on.
    """

    def __init__(
        self,
        client: Client,
        result: BatchResult,
        view: BatchView,
        tools: Mapping[str, NotebookTool],
        *,
        patient: bool,
    ) -> None:
        super().__init__(name=f"kasal-{result.id}", daemon=True)
        self.lost: KasalError | None = None
        self._broken: Exception | None = None
        self._client = client
        self._result = result
        self._view = view
        self._patient = patient
        self._calls = RowCalls(client, result.id, tools) if tools else None
        # What is displayed meanwhile belongs to the cell that asked for it.
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Follow; see :class:`threading.Thread`."""
        self._context.run(self._follow)

    def check(self) -> None:
        """Raise what kept the batch from being followed to its end."""
        if self.lost is not None:
            raise self.lost
        if self._broken is not None:
            raise self._broken

    def _follow(self) -> None:
        try:
            for batch in self._client.follow_batch(self._result.id, self._idle):
                self._result.take(batch)
                self._view.show(batch)
                if is_settled(batch) and not self._patient:
                    break
                self._idle()
            self._view.end(self._result.bundle())
        except KasalError as error:
            self.lost = error
            self._view.cut_off(f"Not followed any further: {error.message}")
        except Exception as error:
            # The border of a thread: told to whoever waits for it; in the background, nobody does.
            self._broken = error
            if self._patient:
                raise
        finally:
            if self._calls is not None:
                self._calls.close()

    def _idle(self) -> None:
        self._view.tick()
        if self._calls is not None:
            self._calls.look()


class RowCalls:
    """Has the calls of a batch's rows for the notebook's functions done: one after the other.

    Parameters
    ----------
    client
        The server.
    batch_id
        The batch.
    tools
        The functions.
    """

    def __init__(self, client: Client, batch_id: str, tools: Mapping[str, NotebookTool]) -> None:
        self._client = client
        self._batch_id = batch_id
        self._tools = tools
        self._served: set[str] = set()
        self._looked_at = 0.0
        call_thread.open()

    def look(self) -> None:
        """Answer for the rows that have begun since, if it is time to look for them."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            running = list(self._client.batch_rows(self._batch_id, status="running"))
        except Unavailable:
            # Whoever follows the batch tells of that.
            return
        for row in running:
            if row.job_id is not None and row.job_id not in self._served:
                self._served.add(row.job_id)
                context = contextvars.copy_context()
                threading.Thread(
                    target=context.run,
                    args=(self._serve, row.job_id),
                    name=f"kasal-{row.job_id}",
                    daemon=True,
                ).start()

    def close(self) -> None:
        """Note that no more rows will be looked for."""
        call_thread.close()

    def _serve(self, job_id: str) -> None:
        """Follow a row's run, and hand its calls on to the thread that does them."""
        tools = RunTools(self._tools)
        tools.reopen()
        call_thread.open()

        def hand_on() -> None:
            for call in tools.waiting():
                call_thread.submit(call, lambda call, loop: tools.serve(self._client, job_id, call, loop))
            call_thread.mind()

        def idle() -> None:
            tools.caught_up()
            hand_on()

        try:
            for event in self._client.follow(job_id, on_idle=idle, serve=True, on_connect=tools.connected):
                tools.take(event)
                hand_on()
        except KasalError:
            # The row fails, and says so.
            self._served.discard(job_id)
        finally:
            tools.end()
            call_thread.close()
