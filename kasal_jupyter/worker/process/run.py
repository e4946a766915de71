"""One run, from its spec to its last event, in a process of its own."""

from __future__ import annotations

import contextvars
import logging
import os
import random
import shutil
import signal as signals
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from crewai.events.stream_context import add_stream_sink
from crewai.hooks.dispatch import InterceptionPoint, scoped_hooks
from crewai.hooks.llm_hooks import LLMCallHookContext
from crewai.hooks.tool_hooks import ToolCallHookContext
from pydantic import ValidationError

from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.hiding import Hider, keep_here, secrets_among
from kasal_jupyter.memory.insights import Insight
from kasal_jupyter.schemas.base import Clock
from kasal_jupyter.schemas.spec import UNSENT, RunSource, RunSpec
from kasal_jupyter.warden import end_children
from kasal_jupyter.worker.crew.build import BuiltCrew, build_crew
from kasal_jupyter.worker.crew.client_tool import ClientCalls
from kasal_jupyter.worker.crew.mcp_sessions import McpServers
from kasal_jupyter.worker.crew.people import Reviews
from kasal_jupyter.worker.crew.remembering import Keepsakes, Reminders
from kasal_jupyter.worker.crew.report import Report
from kasal_jupyter.worker.crew.spans import Spans
from kasal_jupyter.worker.crew.task import write_whole
from kasal_jupyter.worker.crew.time_limit import BackgroundWork, check_time
from kasal_jupyter.worker.crewai_seams import review_by
from kasal_jupyter.worker.models.budget import LAST_SECONDS, in_time
from kasal_jupyter.worker.models.run_models import hold_own_addresses
from kasal_jupyter.worker.process.continued import Continued
from kasal_jupyter.worker.process.failures import ModelFailed, describe
from kasal_jupyter.worker.process.outbox import Outbox, say_end
from kasal_jupyter.worker.process.setup import LineReader, RunLog
from kasal_jupyter.worker.process.sizes import MOST_RESULT, shortened
from kasal_jupyter.worker.process.stop import StopSignal

LOG_NAME = "output.log"
"""Where what CrewAI and the tools print goes, in the run's folder."""

PART = ".kasal-part"
"""How the name of a file ends that is not whole yet."""

STOP_GRACE = 0.2
"""Seconds a stopped run has to come to rest; the server kills it after 0.3."""

QUIET_SECONDS = 300.0
"""How long a run that has ended waits for a server that takes nothing of what it has to say."""

log = logging.getLogger(__name__)

T = TypeVar("T")


def serve_run(sock: socket.socket) -> NoReturn:
    """Take a run from a socket, do it, and end this process.

    The exit status is 0 when the run has said how it ended, 1 when it was stopped, and
    :data:`~kasal_jupyter.schemas.spec.UNSENT` when the server has not taken what it had to say.
    """
    reader = LineReader(sock)
    hider = Hider(())
    try:
        message = reader.read()
        if message is None or message.spec is None:
            os._exit(0)  # Nothing was asked of this process.
        spec = message.spec
        # Proxies' passwords are in the environment, and what the deployer has passed on there.
        hider = Hider([*spec.secrets(), *secrets_among(os.environ.items())])
        keep_here(hider)
        process = _Process(sock, reader, spec, hider)
    except BaseException as error:
        # Nothing is there yet that could end the run in order. The traceback goes to the engine's log.
        say_end(sock, describe(error), hider, Clock())
        raise
    random.seed()
    # Only where it was used before the fork: the mere attribute would import it, for 10 ms.
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    process.run()


class _Process:
    """The process of a run: the run itself, and the threads that speak with the server.

    Parameters
    ----------
    sock
        The run's socket.
    reader
        Reads what the server sends on it.
    spec
        The run.
    hider
        Knows its secrets.
    """

    def __init__(self, sock: socket.socket, reader: LineReader, spec: RunSpec, hider: Hider) -> None:
        self._spec = spec
        self._reader = reader
        self._printed = RunLog(Path(spec.folder) / LOG_NAME, hider)
        self._stop = StopSignal()
        self._done = threading.Event()
        self._outbox = Outbox(sock, hider, Clock(spec.clock), most=spec.journal_bytes)
        if spec.own is not None:
            self._outbox.passing = Continued(spec.own)
        self._outbox.on_full = partial(_end_of_record, spec, self._stop)
        self._outbox.on_broken = self._cut_short
        self._calls = ClientCalls(Spans(self._outbox), self._stop, job_id=spec.job_id)
        threading.Thread(target=self._obey, name="control", daemon=True).start()

    def run(self) -> NoReturn:
        """Do the run, and end the process."""
        with _one_end(self._outbox, self._stop):
            hold_own_addresses(self._spec)
            self._calls.servers = McpServers(self._spec, self._stop)
            learn = execute(self._spec, self._outbox, self._stop, self._calls)
            self._calls.servers.close()
            if learn is not None:
                learn()
        self._done.set()
        leave(self._outbox, self._printed, status=1 if self._stop.stopped else 0)

    def _obey(self) -> None:
        """Hand on what the server says of the run's calls and models, until it says stop, or vanishes."""
        try:
            while (message := self._reader.read()) is not None and message.type != "stop":
                if message.answer is not None:
                    self._calls.answer(message.answer)
                if message.note is not None:
                    self._calls.take_note(message.note)
                self._stop.hold(message.hold)
                if message.reserved is not None:
                    self._calls.take_reserved(message.reserved)
            if message is None:
                kill_own_group()
            # What fails from here on fails because it was told to, which is no news to anybody.
            self._outbox.mute()
            self._stop.stop()
            if not self._done.wait(STOP_GRACE):
                leave(self._outbox, self._printed, status=1)
        except BaseException as error:  # noqa: BLE001 - the border of the thread
            # A run that nobody can answer or stop any more must end.
            try:
                log.exception("The run can no longer be told anything.")
            finally:
                self._cut_short(error)

    def _cut_short(self, error: BaseException) -> None:
        """End the run because this process is broken: in order, or else without."""
        described = describe(error)
        try:
            self._stop.fail(described)
        finally:
            if not self._done.wait(LAST_SECONDS):
                self._outbox.end("failed", error=described)
                leave(self._outbox, self._printed, status=0)


@contextmanager
def _one_end(outbox: Outbox, stop: StopSignal) -> Iterator[None]:
    """See to it that a run has an end, whatever fails: this is the border of the process."""
    try:
        yield
    except BaseException as error:
        log.exception("The run's own code failed.")
        if not stop.stopped:
            # Of several ends, the first counts.
            outbox.end("failed", error=describe(error))


def execute(spec: RunSpec, outbox: Outbox, stop: StopSignal, calls: ClientCalls) -> Callable[[], None] | None:
    """Run a crew and emit everything that happens, until its end.

    A run that was stopped has no end event: the server, which stopped it, writes that.

    Returns
    -------
    Callable or None
        Has a model say what was learnt, where one is to: the result is there, so nobody waits for that.
    """
    outbox.emit({"type": "execution_status", "status": "running"})
    spans = calls.spans
    report: Report | None = None
    keepsakes: Keepsakes | None = None
    try:
        built = _built(spec, stop, calls)
        report = Report(built, spans)
        stop.on_failure = report.run_failed
        assert built.record is not None, "its events are read"
        keepsakes = Keepsakes(spec, built.crew, built.tasks, built.record)
        if spec.memory is not None:
            Reminders(spec.memory, spec.crew.id, spec.allowed_hosts, built.record).give_to(built.crew)
        if spec.source is not None and spec.own is None:
            _take_over_files(spec.source, Path(spec.folder))
        # In a fresh context, since CrewAI keeps its sinks, scopes and counters in context variables.
        context = contextvars.Context()
        # A replay takes no time that anybody has set bounds to.
        budget = None if built.record.replays else spec.budget
        work = partial(context.run, _kickoff, built, report, stop, outbox.hider)
        spent = spec.own.seconds if spec.own is not None else 0.0
        result = in_time(budget, stop, work, lambda: spans.waited(spent))
    except BaseException as error:  # The border of the process; a tool may even raise SystemExit.
        log.exception("The run failed.")
        if not stop.stopped:
            _fail(error, spec, outbox, spans=spans, report=report, keepsakes=keepsakes)
        return None
    if stop.stopped:
        return None
    spans.end(ErrorInfo(code="INTERNAL_ERROR", message="It was left unfinished."))
    if keepsakes.model is None:
        # With the end: whoever starts the next run because of it finds what this one has left.
        _keep(outbox, keepsakes.event(keepsakes.by_rule()))
        outbox.end("completed", **_told(result, spec, outbox))
        return None
    outbox.end("completed", **_told(result, spec, outbox))
    assert spec.memory is not None, "there is something to learn for"
    seconds = spec.memory.learn_seconds
    return partial(_learn, keepsakes, built, spans.following(), outbox, stop=stop, seconds=seconds)


def _learn(
    keepsakes: Keepsakes,
    built: BuiltCrew,
    spans: Spans,
    outbox: Outbox,
    *,
    stop: StopSignal,
    seconds: float,
) -> None:
    """Have a model say what was learnt, and tell what the crew will remember, within some seconds.

    Where that fails, what happened is remembered nevertheless; how the run ended is told already.
    """
    assert keepsakes.model is not None, "there is a model to ask"
    report = Report(built, spans)
    model = built.models.llm(keepsakes.model, persistent=False)
    work = partial(_observed, report, stop, outbox.hider, lambda: keepsakes.learnt(model), built)
    asked = BackgroundWork(lambda: contextvars.Context().run(work), "learning")
    insights: list[Insight] = []
    failure: BaseException | None = None
    try:
        if asked.wait(seconds):
            insights = asked.result()
        else:
            failure = TimeoutError(f"{keepsakes.model} has not answered within {seconds:g} seconds.")
    except BaseException as error:
        log.info("The run could not be distilled.", exc_info=True)
        failure = error
    spans.end(ErrorInfo(code="MODEL_TIMEOUT", message="It was not waited for any longer."))
    _keep(outbox, keepsakes.event(insights, failure))


def _take_over_files(source: RunSource, folder: Path) -> None:
    """Have a run find the files that the earlier one has written: who has done so is not called again."""
    if source.before is not None:
        # It may have been cut off before it had taken them all over.
        _take_over_files(source.before, folder)
    theirs = Path(source.journal).with_suffix("")
    if theirs == folder or not theirs.is_dir():
        # A cassette has no files: it lies beside the run's own folder.
        return

    def internal(within: str, names: list[str]) -> list[str]:
        parts = [name for name in names if name.endswith(PART)]
        return [LOG_NAME, f"{LOG_NAME}.gz", *parts] if Path(within) == theirs else parts

    try:
        shutil.copytree(
            theirs, folder, symlinks=True, ignore=internal, dirs_exist_ok=True, copy_function=_copied_whole
        )
    except (shutil.Error, OSError):
        log.exception("Not all files of %s could be taken over.", source.job_id)


def _copied_whole(source: str, copy: str) -> str:
    """Copy a file so that it is there whole, or not at all: this run may be cut off, and gone on with."""
    part = f"{copy}{PART}"
    shutil.copy2(source, part, follow_symlinks=False)
    Path(part).replace(copy)
    return copy


def _built(spec: RunSpec, stop: StopSignal, calls: ClientCalls) -> BuiltCrew:
    try:
        return build_crew(spec, stop, calls)
    except ValidationError as error:
        raise ModelFailed(
            f"CrewAI refuses this crew: {error.errors()[0]['msg']}", code="CREW_INVALID"
        ) from error


def _kickoff(built: BuiltCrew, report: Report, stop: StopSignal, hider: Hider) -> str:
    output: Any = _observed(report, stop, hider, built.crew.kickoff, built)
    return str(output.raw)


def _observed(report: Report, stop: StopSignal, hider: Hider, work: Callable[[], T], built: BuiltCrew) -> T:
    """Do what asks models or calls tools: all of it is reported, and ends where the run does."""
    add_stream_sink(report)
    hooks: dict[InterceptionPoint, list[Any]] = {
        InterceptionPoint.PRE_MODEL_CALL: [stop.check, check_time],
        InterceptionPoint.PRE_TOOL_CALL: [check_time],
    }
    for point, hook in hiding_hooks(hider).items():
        hooks.setdefault(point, []).append(hook)
    if built.record is not None:
        review_by(Reviews(built.tasks, built.record))
    with scoped_hooks(hooks):
        return work()


def _keep(outbox: Outbox, event: Mapping[str, Any] | None) -> None:
    if event is not None:
        outbox.emit(event)


def _told(result: str, spec: RunSpec, outbox: Outbox) -> dict[str, Any]:
    """Give what the last event tells of the result: of a very long one its beginning, and its file."""
    if len(result) <= MOST_RESULT:
        return {"result": result}
    # Before anything is cut off: of the beginning of a secret, nobody could tell that it is one.
    result = outbox.hider.hide(result)
    kept = shortened(result, MOST_RESULT)
    told: dict[str, Any] = {"result": kept, "cut": len(result) - MOST_RESULT}
    try:
        told["result_file"] = write_whole(Path(spec.folder), result)
    except OSError:
        log.exception("The whole result could not be written.")  # The disk is full, say.
    return told


def _end_of_record(spec: RunSpec, stop: StopSignal) -> None:
    """End a run that has recorded all that it may."""
    stop.fail(
        ErrorInfo(
            code="JOURNAL_FULL",
            message=f"The run has recorded {spec.journal_bytes:,} bytes of events, which is all that one run "
            "may (KasalApp.max_journal_bytes).",
        )
    )


def _fail(
    error: BaseException,
    spec: RunSpec,
    outbox: Outbox,
    *,
    spans: Spans,
    report: Report | None,
    keepsakes: Keepsakes | None,
) -> None:
    failure = report.failure if report is not None else None
    described = failure.error if failure is not None else describe(error)
    spans.end(described)
    event: dict[str, Any] = {"type": "error", **described}
    if failure is not None:
        event |= {"task_id": failure.task_id, "agent": failure.agent}
    outbox.emit(event)
    if keepsakes is not None:
        _keep(outbox, keepsakes.event(()))
    ended: dict[str, Any] = {"error": described}
    if report is not None and report.latest_result is not None:
        ended |= _told(report.latest_result, spec, outbox)
    outbox.end("failed", **ended)


def leave(outbox: Outbox, printed: RunLog, *, status: int) -> NoReturn:
    """End the process at once: CrewAI's own clean-up at exit takes a second and does nothing for us."""
    try:
        if status:
            outbox.close(STOP_GRACE)
        # A run that ended by itself waits for a slow server.
        elif not outbox.close(QUIET_SECONDS, patient=True):
            status = UNSENT
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        printed.close(STOP_GRACE)
    except BaseException:
        log.exception("The process could not put away all it has.")
        # Whether the server has the run's end, nobody knows.
        status = status or UNSENT
    finally:
        os._exit(status)


def kill_own_group() -> NoReturn:
    """End this process and all it has started."""
    if hasattr(os, "fork"):
        end_children()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signals.SIGKILL)
    os._exit(1)


# -- what is hidden ------------------------------------------------------------------------------------------


def hiding_hooks(hider: Hider) -> dict[InterceptionPoint, Any]:
    """Give CrewAI's hooks that hide secrets in what models say, and in tools' arguments and results."""
    if not hider:
        return {}

    def changed(text: str | None) -> str | None:
        # None: it stays as it is.
        hidden = hider.hide(text) if text is not None else None
        return None if hidden == text else hidden

    def answer(context: LLMCallHookContext) -> str | None:
        return changed(context.response)

    def arguments(context: ToolCallHookContext) -> None:
        # CrewAI keeps the dictionary itself.
        for name, value in list(context.tool_input.items()):
            context.tool_input[name] = hider.hide(value)

    def result(context: ToolCallHookContext) -> str | None:
        return changed(context.tool_result)

    return {
        InterceptionPoint.POST_MODEL_CALL: answer,
        InterceptionPoint.PRE_TOOL_CALL: arguments,
        InterceptionPoint.POST_TOOL_CALL: result,
    }
