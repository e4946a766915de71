"""Running a crew from the notebook: blocking under the cell, or in the background."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from kasal_jupyter.client.cassette import Tape, Turn, tape_of
from kasal_jupyter.client.client import Client, Waiting
from kasal_jupyter.client.connection import print_line
from kasal_jupyter.errors import Conflict, KasalError, NotFound
from kasal_jupyter.kernel.crews.plan import faults_by_name
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.frames import is_frame
from kasal_jupyter.kernel.functions.notebook_tools import NotebookTool, tools_named_by
from kasal_jupyter.kernel.functions.own_loop import OwnLoop
from kasal_jupyter.kernel.functions.tool_calls import RunTools, Serve, call_thread
from kasal_jupyter.kernel.plain_values import NotPlain, plain
from kasal_jupyter.kernel.runs.questions import answer_open
from kasal_jupyter.kernel.runs.result import RunFailed, RunResult, inputs_again
from kasal_jupyter.kernel.views.cards import remark_line
from kasal_jupyter.kernel.views.figures import answered_text, preview_text
from kasal_jupyter.kernel.views.live import LiveView, View, view_of
from kasal_jupyter.schemas.crews import CrewDetails
from kasal_jupyter.schemas.executions import (
    Budget,
    ExecutionAccepted,
    ExecutionFork,
    ExecutionRecorded,
    ExecutionResume,
    OpenQuestion,
)
from kasal_jupyter.schemas.placeholders import names, texts_of
from kasal_jupyter.schemas.tools import ClientTool

T = TypeVar("T")

STOPPED_SECONDS = 10.0
"""How long the last events of a run that was stopped are waited for."""

_launched: dict[str, RunTools] = {}
"""The tools of the runs that this kernel has started and that have not ended, as far as it knows."""


def launch(
    client: Client,
    crew: CrewDetails,
    values: Mapping[str, Any],
    *,
    background: bool = False,
    budget: Budget | None = None,
    once: bool = False,
    tape: Tape | None = None,
    on_start: Callable[[str], object] | None = None,
    view: Callable[[RunResult], View] = view_of,
) -> RunResult:
    """Start a crew, with the notebook's tools that it names, and watch it under the cell.

    Parameters
    ----------
    client
        The server that runs it.
    crew
        The crew.
    values
        Its inputs, as the notebook has them. Of a frame the agents get a description, and tools for it.
    background
        Whether to return at once, a :class:`BackgroundRun`: the view goes on, and calls of the notebook's
        tools are done by a thread. Else they are done here, on the thread of the cell, until the run ends.
    budget
        What it may use up.
    once
        Whether an earlier run that was asked for the same may answer: it is shown at once, and none started.
    tape
        The cassettes that it is replayed from, and recorded for; else those that the environment names.
    on_start
        Told the job id as soon as there is one: a run that fails gives no result.
    view
        Gives what shows a run in the background; else it is a new output.

    Returns
    -------
    RunResult
        The run; in the foreground, one that has completed.

    Raises
    ------
    CellError
        An input cannot be sent.
    KasalError
        The server refuses to run the crew; every fault is named.
    RunFailed
        It ended otherwise than completed. An interrupt of the kernel (■) stops it on the server.
    """
    given = read_values(values, crew)
    run_tools = RunTools(given.tools, bound=frozenset(given.bound))
    tape = tape or tape_of()
    turn = tape.turn(crew.name, given.inputs) if tape is not None else None
    asked: dict[str, Any] = {"once": once} if turn is None else {"cassette": turn.cassette}

    def start() -> ExecutionAccepted | ExecutionRecorded:
        return client.start(crew.id, given.inputs, given.definitions, budget=budget, **asked)

    try:
        accepted, interrupted = undisturbed(start)
    except KasalError as error:
        error.faults = faults_by_name(error.faults, crew)
        raise
    if isinstance(accepted, ExecutionRecorded):
        return _answered(client, accepted, background=background, on_start=on_start, view=view)
    started = _Started(client, accepted, run_tools, crew, turn)
    return started.followed(background=background, interrupted=interrupted, on_start=on_start, view=view)


def replay(
    client: Client, job_id: str, *, background: bool = False, on_start: Callable[[str], object] | None = None
) -> RunResult:
    """Run an execution once more from its record, and watch it under the cell; see :func:`launch`."""
    accepted, interrupted = undisturbed(lambda: client.replay(job_id))
    started = _Started(client, accepted, RunTools({}), None)
    return started.followed(background=background, interrupted=interrupted, on_start=on_start)


def resume(
    client: Client,
    job_id: str,
    values: Mapping[str, Any],
    *,
    model: str | None = None,
    budget: Budget | None = None,
    background: bool = False,
    on_start: Callable[[str], object] | None = None,
) -> RunResult:
    """Go on with an execution that has ended before its time, and watch it under the cell.

    The notebook's tools that its crew names go along as they are now.

    Parameters
    ----------
    client
        The server that runs it.
    job_id
        The execution.
    values
        The inputs that change, as the notebook has them.
    model
        The model that is asked in the place of all that the crew names; None: of none.
    budget
        The bounds that change.
    background, on_start
        See :func:`launch`, as for what is raised.
    """
    before = client.execution(job_id)
    inputs_again(job_id, before.inputs, values, "resume")
    try:
        crew = client.crew(before.crew_id)
    except NotFound:
        crew = None
    given = read_values(values, crew)
    run_tools = RunTools(given.tools, bound=frozenset(given.bound))
    change = ExecutionResume(inputs=given.inputs, model=model, budget=budget, tools=given.definitions)
    try:
        accepted, interrupted = undisturbed(lambda: client.resume(job_id, change))
    except KasalError as error:
        error.faults = faults_by_name(error.faults, crew) if crew is not None else error.faults
        raise
    started = _Started(client, accepted, run_tools, crew)
    return started.followed(background=background, interrupted=interrupted, on_start=on_start)


def fork(
    client: Client,
    job_id: str,
    change: ExecutionFork,
    frames: Mapping[str, Any],
    *,
    background: bool = False,
    on_start: Callable[[str], object] | None = None,
) -> RunResult:
    """Leave an execution at a step, say what that may take, and watch where it goes under the cell.

    The notebook's tools that its crew names go along as they are now.

    Parameters
    ----------
    client, job_id
        The execution, and the server that runs it.
    change
        The step, and what is other there.
    frames
        The inputs that were frames, once more: agents look into them by tools.
    background, on_start
        See :func:`launch`, as for what is raised.
    """
    before = client.execution(job_id)
    inputs_again(job_id, before.inputs, frames, "fork")
    if other := [name for name, value in frames.items() if not is_frame(value)]:
        raise CellError(
            f"{', '.join(other)}: a fork has the inputs of its run, and takes frames alone, once more; "
            "what is changed is one of prompt, answer and result"
        )
    try:
        crew = client.crew(before.crew_id)
    except NotFound:
        crew = None
    given = read_values(frames, crew)
    change = change.model_copy(update={"tools": given.definitions})
    print_line(preview_text(client.preview_fork(job_id, change)))
    accepted, interrupted = undisturbed(lambda: client.fork(job_id, change))
    started = _Started(client, accepted, RunTools(given.tools, bound=frozenset(given.bound)), crew)
    return started.followed(background=background, interrupted=interrupted, on_start=on_start)


def _answered(
    client: Client,
    accepted: ExecutionRecorded,
    *,
    background: bool,
    on_start: Callable[[str], object] | None,
    view: Callable[[RunResult], View],
) -> RunResult:
    """Show the earlier run that answers; one that goes on is somebody else's to stop."""
    print_line(answered_text(accepted.recorded))
    if on_start is not None:
        on_start(accepted.job_id)
    result = (
        follow_in_background(client, accepted.job_id, view)
        if background
        else _watch(client, accepted.job_id, RunTools({}), stops=False)
    )
    result.recorded = accepted.recorded
    return result


@dataclass(frozen=True, slots=True)
class _Started:
    """A run that this kernel has just started.

    Attributes
    ----------
    accepted
        What the server has said of it.
    tools
        The notebook's, which it may call.
    crew
        Its crew, for the remarks' words; None where that is not known.
    turn
        What puts it into a cassette when it has completed.
    """

    client: Client
    accepted: ExecutionAccepted
    tools: RunTools
    crew: CrewDetails | None
    turn: Turn | None = None

    def followed(
        self,
        *,
        background: bool,
        interrupted: bool,
        on_start: Callable[[str], object] | None,
        view: Callable[[RunResult], View] = view_of,
    ) -> RunResult:
        """Watch it, to its end or in the background; stop it where the kernel was interrupted meanwhile."""
        client, job_id = self.client, self.accepted.job_id
        for remark in self.accepted.remarks:
            print_line(remark_line(remark, self.crew))
        if on_start is not None:
            on_start(job_id)
        if interrupted:
            _stop(client, job_id)
            raise RunFailed(f"{job_id} was stopped, on the server as well, before it began")
        _answer_for(job_id, self.tools)
        if background:
            return follow_in_background(client, job_id, view, self.turn)
        return _watch(client, job_id, self.tools, stops=True, turn=self.turn)


def _answer_for(job_id: str, tools: RunTools) -> None:
    """Have this kernel answer for the tools that it has brought to a run, until the run's end."""
    if tools.serves:
        _launched[job_id] = tools
        tools.on_end = lambda: _launched.pop(job_id, None)


def _successor(client: Client, result: RunResult, tools: RunTools | None) -> str | None:
    """Give the run that goes on with one that was cut off; this kernel answers for that, too."""
    by = client.successor(result.job_id) if result.trace.summary.resuming else None
    if by is not None:
        print_line(f"{result.job_id} was cut off with its server; {by} goes on with it")
        _answer_for(by, tools.again() if tools is not None else RunTools({}))
    return by


def follow(client: Client, job_id: str) -> RunResult:
    """Draw a run under the cell until it ends.

    The kernel's interrupt ends the waiting alone, and the run goes on. Where the run was started in this
    kernel and nothing else here does so, its calls of the notebook's tools are done meanwhile.

    Raises
    ------
    RunFailed
        It ended otherwise than completed.
    CellError
        The waiting was interrupted.
    """
    return _watch(client, job_id, _unattended(job_id) or RunTools({}), stops=False)


def follow_in_background(
    client: Client,
    job_id: str,
    view: Callable[[RunResult], View] = view_of,
    turn: Turn | None = None,
) -> BackgroundRun:
    """Draw a run under the cell that asks for it, while the notebook goes on.

    Where the run was started in this kernel, its calls of the notebook's tools are done as well. What a
    ``turn`` puts into a cassette is there when the run has been waited for.
    """
    run = BackgroundRun(job_id)
    run.begin(client, view(run), _unattended(job_id), turn)
    return run


class BackgroundRun(RunResult):
    """A run that goes on while the notebook does; its attributes grow with it."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.drawn()
        self._follower: Follower | None = None
        self._view: View | None = None
        self.successor: BackgroundRun | None = None
        """The run that goes on with this one, where it was cut off with its server."""

    @property
    def lost(self) -> KasalError | None:
        """Why the run could not be followed to its end, where that is so; the run itself goes on."""
        return self._follower.lost if self._follower is not None else None

    def begin(
        self, client: Client, view: View, tools: RunTools | None = None, turn: Turn | None = None
    ) -> None:
        """Follow the run in a thread of its own."""
        self._view = view
        self._follower = Follower(client, self, view, tools, turn)
        if isinstance(view, LiveView):
            view.answering = partial(client.answer_tool, self.job_id)
        self._follower.then = lambda: self._go_on(client, tools)
        if tools is not None:
            # Nobody waits at this kernel: the view says how to answer.
            tools.asks = False
            job_id = self.job_id
            self._follower.in_background(lambda call, loop: tools.serve(client, job_id, call, loop))
        self._follower.start()

    @property
    def pending(self) -> list[OpenQuestion]:
        """What it asks people and nobody has answered yet, the oldest first."""
        return list(self.trace.summary.questions.values())

    def answer(self, text: str, arguments: Mapping[str, Any] | None = None) -> OpenQuestion:
        """Answer the question that has been open for longest, and give it.

        Parameters
        ----------
        text
            The answer. A review and an approval take ``approve``, ``reject``, or what is to be different.
        arguments
            With an approval: what the call is made with.

        Raises
        ------
        CellError
            No question is open, or the text is none of the answers to choose from.
        KasalError
            The server refuses the answer: somebody else was quicker.
        """
        from kasal_jupyter.kernel.session import the_session

        return answer_open(the_session().client, self.job_id, text, arguments)

    def _go_on(self, client: Client, tools: RunTools | None) -> None:
        if (by := _successor(client, self, tools)) is not None:
            self.successor = follow_in_background(client, by)

    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait for the end, at most ``timeout`` seconds, and give the run.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        CellError
            It could not be followed to its end.
        """
        if self._follower is not None:
            self._follower.join(timeout)
            if self.lost is not None:
                raise CellError(self.lost.message)
            self._follower.check()
        if self.successor is not None:
            return self.successor.wait(timeout)
        if self.trace.summary.ended:
            if self._view is not None:
                self._view.settle()
                self._view = None
            _check_end(self)
        return self


def _watch(
    client: Client, job_id: str, tools: RunTools, *, stops: bool, turn: Turn | None = None
) -> RunResult:
    """Follow a run to its end, and on this thread do its calls and ask its questions."""
    tools.asks = True
    result = RunResult(job_id)
    result.asked_here = True
    loop = OwnLoop()
    follower: Follower | None = None
    try:
        try:
            follower = Follower(client, result, view_of(result), tools, turn)
            follower.start()
            while (call := tools.next_call()) is not None:
                tools.serve(client, job_id, call, loop)
            while follower.is_alive():
                # With a time limit: on Windows, a wait without one cannot be interrupted.
                follower.join(0.5)
        finally:
            loop.close()
    except KeyboardInterrupt:
        if not stops:
            raise CellError(f"{job_id} goes on; `%kasal stop {job_id}` stops it") from None
        _stop(client, job_id)
        if follower is not None and follower.is_alive():
            undisturbed(lambda: follower.join(STOPPED_SECONDS))
        if result.status == "completed":
            raise _failed(f"{job_id} was interrupted here, but had completed just before", result) from None
        raise _failed(f"{job_id} was stopped, on the server as well", result) from None
    follower.check()
    if (by := _successor(client, result, tools)) is not None:
        return _watch(client, by, _unattended(by) or RunTools({}), stops=stops)
    _check_end(result)
    return result.drawn()


def _unattended(job_id: str) -> RunTools | None:
    """Give the tools of a run that this kernel has started and that nothing answers for at the moment."""
    tools = _launched.get(job_id)
    return tools if tools is not None and not tools.attended else None


def _stop(client: Client, job_id: str) -> None:
    """Stop a run on the server, however often the kernel is interrupted meanwhile."""

    def stop() -> None:
        try:
            client.stop(job_id)
        except Conflict:
            # It has just ended by itself.
            return

    try:
        undisturbed(stop)
    except KasalError as error:
        raise CellError(
            f"{job_id} may go on: it could not be stopped. {error.message}; try `%kasal stop {job_id}`"
        ) from None


def undisturbed(work: Callable[[], T]) -> tuple[T, bool]:
    """Do something short to its end; say as well whether the kernel was interrupted meanwhile."""
    done: list[T] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that asked
            failed.append(error)

    thread = threading.Thread(target=do, name="kasal-request", daemon=True)
    thread.start()
    interrupted = False
    while thread.is_alive():
        try:
            thread.join(0.5)
        except KeyboardInterrupt:
            interrupted = True
    if failed:
        raise failed[0]
    return done[0], interrupted


def _check_end(result: RunResult) -> None:
    """Raise where a run ended otherwise than completed."""
    if result.status != "completed":
        raise _failed(failure_text(result), result)


def _failed(text: str, result: RunResult) -> RunFailed:
    error = RunFailed(text)
    error.result = result
    return error


def failure_text(result: RunResult) -> str:
    """Say in one line how a run ended, in which task, and why."""
    error = result.trace.summary.error
    if error is None:
        return f"{result.job_id} is {result.status}"
    failed = [span for span in result.trace.roots if span.state == "failed"]
    # The one that the error names: of those that go on at the same time, several may fail.
    span = next((each for each in failed if each.opened.get("task_id") == error.task), None) or next(
        iter(failed), None
    )
    where = f" in task {span.name!r}" if span is not None else ""
    by = f" of {span.agent}" if span is not None and span.agent else ""
    return f"{result.job_id} {result.status}{where}{by}: {error.code}: {error.message}"


# -- the thread that follows ----------------------------------------------------------------------------

# The thread that follows a run from the notebook.


class Follower(threading.Thread):
    """Follows a run: draws it, and takes in the calls of the notebook's tools.

    A thread of its own, so that the view goes on, and the server's pings are answered, while a tool keeps
    the thread of the cell busy.

    Parameters
    ----------
    client
        The server.
    result
        Takes the run's events.
    view
        Shows them; it is used by this thread alone.
    tools
        The tools that this kernel answers for; None where it only looks on.
    turn
        What puts the run into a cassette when it has completed.
    """

    def __init__(
        self,
        client: Client,
        result: RunResult,
        view: View,
        tools: RunTools | None,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(name=f"kasal-{result.job_id}", daemon=True)
        self.lost: KasalError | None = None
        self._broken: Exception | None = None
        self._client = client
        self._result = result
        result.server_url = client.url
        self._view = view
        self._tools = tools
        self._turn = turn
        self._serve: Serve | None = None
        self.then: Callable[[], object] = lambda: None
        """Done when the run has ended."""
        self._waiting = Waiting(client, result.trace)
        # What is printed or displayed meanwhile belongs to the cell that asked for it.
        self._context = contextvars.copy_context()
        if tools is not None:
            tools.reopen()
            result.frames = tools.frames

    def in_background(self, serve: Serve) -> None:
        """Have the calls done by the kernel's thread for them, rather than by whoever asks for the next."""
        self._serve = serve

    def run(self) -> None:
        """Follow; see :class:`threading.Thread`."""
        self._context.run(self._follow)

    def check(self) -> None:
        """Raise what kept the run from being followed to its end.

        Raises
        ------
        KasalError
            The connection was lost for good, or the server refuses.
        """
        if self.lost is not None:
            raise self.lost
        if self._broken is not None:
            raise self._broken

    def _follow(self) -> None:
        tools = self._tools
        if self._serve is not None:
            call_thread.open()
        try:
            for event in self._client.follow(
                self._result.job_id,
                on_idle=self._idle,
                serve=tools is not None and tools.serves,
                on_connect=tools.connected if tools is not None else None,
            ):
                if tools is not None:
                    tools.take(event)
                    self._hand_on()
                self._view.feed(event)
            if self._turn is not None and self._result.status == "completed":
                self._turn.keep(self._client, self._result.job_id)
        except KasalError as error:
            self.lost = error
            self._view.cut_off(f"Not followed any further: {error.message}")
        except Exception as error:
            # The border of a thread: told to whoever waits for it; in the background, nobody does.
            self._broken = error
            if self._serve is not None:
                raise
        finally:
            if tools is not None:
                tools.end()
            if self._serve is not None:
                call_thread.close()
        if self.lost is None and self._broken is None:
            self.then()

    def _idle(self) -> None:
        if self._tools is not None:
            self._tools.caught_up()
            self._hand_on()
        self._waiting.look()
        self._result.queue_position = self._waiting.position
        self._view.tick()

    def _hand_on(self) -> None:
        if self._serve is not None and self._tools is not None:
            for call in self._tools.waiting():
                call_thread.submit(call, self._serve)
            call_thread.mind()


# -- inputs ---------------------------------------------------------------------------------------------

# The values of a notebook as the inputs of a run: what JSON can say, and descriptions of frames.


@dataclass(slots=True)
class GivenInputs:
    """What a run is started with.

    Attributes
    ----------
    inputs
        By name, as JSON knows them. A frame's is its profile card.
    tools
        The notebook's tools that go along, by name: those that the crew names, and those for the frames.
    bound
        Names of those for the frames.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, NotebookTool] = field(default_factory=dict)
    bound: set[str] = field(default_factory=set)

    @property
    def definitions(self) -> list[ClientTool]:
        """What the server is told of the tools."""
        return [tool.definition for tool in self.tools.values()]


def read_values(values: Mapping[str, Any], crew: CrewDetails | None) -> GivenInputs:
    """Turn a notebook's values into a run's inputs, and choose the notebook's tools that go along.

    Texts, numbers, lists and what else JSON can say are sent as they are; for all else see
    :func:`~kasal_jupyter.kernel.plain_values.plain`. Of a frame or a column (pandas, polars, pyarrow,
    anything with the dataframe interchange or Arrow's stream) the run gets a description of at most 2 kB and
    tools to look into it, never the rows.

    Parameters
    ----------
    values
        By name.
    crew
        The crew that they are for: it takes the tools along that its agents and tasks name, and a frame that
        none of its texts mentions is described by a tool. None: it is not known.

    Raises
    ------
    CellError
        One cannot be sent; the message names it, and says what to do.
    """
    given = GivenInputs(tools=tools_named_by(crew) if crew is not None else {})
    for name, value in values.items():
        if not is_frame(value):
            try:
                given.inputs[name] = plain(value, name)
            except NotPlain as error:
                raise CellError(str(error)) from None
            continue
        from kasal_jupyter.kernel.frames.frame_tools import tools_of
        from kasal_jupyter.kernel.frames.frames import profile_card, read_frame

        frame = read_frame(value, name)
        card = given.inputs[name] = profile_card(frame, name)
        # Of these two, agents see nothing.
        unseen = (".guardrail", ".output_file")
        texts = texts_of(crew.agents, crew.tasks) if crew is not None else ()
        shown = any(name in names(text) for text, where in texts if not where.endswith(unseen))
        for tool in tools_of(frame, name, None if shown else card):
            if tool.name in given.tools:
                raise CellError(
                    f"The tools for {name} would be called as another input's or the notebook's own; "
                    f"rename one of them ({tool.name})"
                )
            given.tools[tool.name] = tool
            given.bound.add(tool.name)
    return given
