"""The calls of a run for the notebook's tools, and its questions: taken in, done each once, and answered."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kasal_jupyter.errors import Conflict, KasalError, NotFound, TooManyRequests, Unavailable
from kasal_jupyter.kernel.functions.notebook_tools import NotebookTool, error_text, registered, result_text
from kasal_jupyter.kernel.functions.own_loop import OwnLoop, TimeLimitReached
from kasal_jupyter.kernel.runs.questions import HumanQuestion, Pending, ask_here
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.wellformed import well_formed

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.events.event import Event
    from kasal_jupyter.schemas.executions import ToolAnswer

HOLD_SECONDS = 2.0
"""How long after a connection was made requests are held back at the most, while events keep coming: those of
the past come first, and may have been answered long ago."""

RETRY_SECONDS = 0.5
"""Pause before an answer that did not get through is sent again."""


@dataclass(slots=True, eq=False)
class ToolCall(Pending):
    """A call that an agent has made.

    Attributes
    ----------
    deadline
        When it must be done, by this kernel's clock.
    closed
        Set when the agent waits no more: it was answered, or its time is over.
    """

    call_id: str
    tool: str
    arguments: dict[str, Any]
    span_id: int
    deadline: float
    closed: threading.Event = field(default_factory=threading.Event)


class RunTools:
    """The tools that this kernel has brought to one run, and the run's calls for them.

    Parameters
    ----------
    tools
        By name. A function that was decorated again since is called as it is now.
    bound
        Names of those that belong to this run alone.
    """

    def __init__(self, tools: Mapping[str, NotebookTool], bound: frozenset[str] = frozenset()) -> None:
        self.frames: dict[str, list[Any]] = {}
        self.attended = False
        """Whether a connection of this kernel answers for the run."""
        self.asks = False
        """Whether its questions for humans are asked here: somebody waits for the run at this kernel."""
        self.on_end: Callable[[], object] = lambda: None
        """Called when the run has ended."""
        self._tools = dict(tools)
        self._bound = bound
        self._calls: dict[str, ToolCall | HumanQuestion] = {}
        self._held: list[ToolCall | HumanQuestion] | None = None
        self._held_since = 0.0
        self._queue: queue.SimpleQueue[ToolCall | HumanQuestion | None] = queue.SimpleQueue()
        # What is printed goes to the cell that started the run, whatever thread prints it.
        self._context = contextvars.copy_context()

    @property
    def serves(self) -> bool:
        """Whether there are tools of this kernel's that the run may call."""
        return bool(self._tools)

    def again(self) -> RunTools:
        """Give the same for a run that goes on with this one."""
        return RunTools(self._tools, self._bound)

    # -- on the thread that follows the run ------------------------------------------------------------

    def reopen(self) -> None:
        """Go on after an :meth:`end` that was not the run's: what is still to be done stays so."""
        self.attended = True
        for call in self.waiting():
            self._queue.put(call)

    def connected(self) -> None:
        """Begin to hold requests back: what comes first over a new connection is the past."""
        self._held = self._held or []
        self._held_since = time.monotonic()

    def take(self, event: Event) -> None:
        """Take in an event of the run; each request is handed on once, however often it comes."""
        if event["type"] == "tool_request":
            tool = self._tools.get(event["tool"])
            if event["call_id"] not in self._calls and tool is not None:
                deadline = time.monotonic() + tool.definition.timeout
                call = ToolCall(
                    event["call_id"], event["tool"], event["arguments"], event["span_id"], deadline
                )
                self._add(call)
        elif event["type"] == "input_request":
            if self.asks and event["call_id"] not in self._calls:
                self._add(HumanQuestion.of(event))
        elif event["type"] in {"tool_result", "tool_failed"}:
            for done in self._calls.values():
                if done.span_id == event["span_id"]:
                    done.closed.set()
        elif event["type"] == "input_answer":
            if (answered := self._calls.get(event["call_id"])) is not None:
                answered.closed.set()
        elif event["type"] == "execution_status" and event["status"] in ENDED:
            for done in self._calls.values():
                done.closed.set()
            self.on_end()
        if self._held is not None and time.monotonic() - self._held_since > HOLD_SECONDS:
            self.caught_up()

    def _add(self, call: ToolCall | HumanQuestion) -> None:
        self._calls[call.call_id] = call
        if self._held is None:
            self._queue.put(call)
        else:
            self._held.append(call)

    def caught_up(self) -> None:
        """Hand on the requests that were held back and that nobody has answered."""
        for call in self._held or ():
            if not call.closed.is_set():
                self._queue.put(call)
        self._held = None

    def waiting(self) -> list[ToolCall | HumanQuestion]:
        """Give the calls that are to be done, for a thread that does not wait for them."""
        calls = []
        while not self._queue.empty():
            if (call := self._queue.get_nowait()) is not None:
                calls.append(call)
        return calls

    def end(self) -> None:
        """Hear that no more calls will come: whoever waits for the next is sent home."""
        self.attended = False
        self._queue.put(None)

    # -- on the thread that does the calls -------------------------------------------------------------

    def next_call(self) -> ToolCall | HumanQuestion | None:
        """Wait for the next call or question; None when there will be none."""
        while True:
            try:
                # With a time limit: on Windows, a wait without one cannot be interrupted.
                return self._queue.get(timeout=0.5)
            except queue.Empty:
                continue

    def serve(self, client: Client, job_id: str, call: ToolCall | HumanQuestion, loop: OwnLoop) -> None:
        """Do a call, or ask a question, and answer it. One that nobody waits for any more is passed over.

        Raises
        ------
        KeyboardInterrupt
            The user has interrupted the function.
        """
        if call.closed.is_set() or call.seconds_left <= 0:
            return
        if isinstance(call, HumanQuestion):
            if (said := ask_here(call)) is not None:
                _send(client, job_id, call, said)
            return
        frames: list[Any] = []
        answer = self._context.copy().run(self._answer, call, loop, frames)
        if not call.closed.is_set() and _send(client, job_id, call, answer) and frames:
            self.frames.setdefault(call.tool, []).extend(frames)

    def _answer(self, call: ToolCall, loop: OwnLoop, frames: list[Any]) -> ToolAnswer:
        from kasal_jupyter.kernel.functions.tool_schema import ArgumentsRefused
        from kasal_jupyter.schemas.executions import ToolAnswer

        tool = self._tools[call.tool]
        if call.tool not in self._bound:
            tool = registered().get(call.tool, tool)
        try:
            args, kwargs = tool.signature.bind(call.arguments)
            value = loop.call(tool.function, args, kwargs, call.seconds_left)
            return ToolAnswer(result=well_formed(result_text(value, tool.max_chars, frames)))
        except ArgumentsRefused as error:
            return ToolAnswer(error=f"Wrong arguments: {error}")
        except TimeLimitReached:
            return ToolAnswer(error=f"{call.tool} took longer than {tool.definition.timeout:g} seconds")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a user's function may raise anything, SystemExit too
            return ToolAnswer(error=error_text(error))


def _send(client: Client, job_id: str, call: ToolCall | HumanQuestion, answer: ToolAnswer) -> bool:
    """Send an answer until it gets through, or nobody waits for it; say whether it did."""
    from kasal_jupyter.schemas.executions import ToolAnswer

    while True:
        try:
            client.answer_tool(job_id, call.call_id, answer)
        except (Conflict, NotFound):
            # It was too late. Or it did get through, and only the server's word for that was lost.
            return False
        except (Unavailable, TooManyRequests) as error:
            if call.seconds_left <= 0 or call.closed.wait(error.retry_after or RETRY_SECONDS):
                return False
        except KasalError as error:
            if answer.error is not None:
                return False
            answer = ToolAnswer(error=f"The result cannot be sent: {error.message}")
        else:
            return True


# -- the thread of calls in the background --------------------------------------------------------------

# The one thread that does the calls of all runs in the background.

Call = ToolCall | HumanQuestion
Serve = Callable[[Call, OwnLoop], None]
"""Does a call and answers it."""


@dataclass(slots=True)
class _Worker:
    """A thread that does calls, until it is replaced or there is nothing to do any more."""

    thread: threading.Thread | None = None
    busy_with: Call | None = None
    replaced: bool = False


@dataclass(slots=True)
class CallThread:
    """Does one call after the other, so that the notebook's functions need not be made for several threads.

    A function that does not end in its time cannot be interrupted there: it is left to itself, and another
    thread does the calls that come after it.
    """

    _waiting: deque[tuple[Call, Serve]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _runs: int = 0
    _worker: _Worker | None = None

    def open(self) -> None:
        """Note that a run in the background goes on: the thread is kept for it."""
        with self._changed:
            self._runs += 1

    def close(self) -> None:
        """Note that one has ended; behind the last, the thread ends too."""
        with self._changed:
            self._runs -= 1
            self._changed.notify_all()

    def submit(self, call: Call, serve: Serve) -> None:
        """Have a call done."""
        with self._changed:
            self._waiting.append((call, serve))
            self._changed.notify_all()
            if self._worker is None:
                self._begin()

    def mind(self) -> None:
        """Replace the thread where it is held up. To be called now and then."""
        with self._changed:
            worker = self._worker
            if worker is None or worker.busy_with is None:
                return
            if worker.busy_with.closed.is_set() or worker.busy_with.seconds_left <= 0:
                worker.replaced = True
                self._begin()

    def _begin(self) -> None:
        worker = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="kasal-tools", daemon=True)
        self._worker = worker
        worker.thread.start()

    def _work(self, worker: _Worker) -> None:
        loop = OwnLoop()
        try:
            while (next_one := self._next(worker)) is not None:
                call, serve = next_one
                serve(call, loop)
        finally:
            loop.close()

    def _next(self, worker: _Worker) -> tuple[Call, Serve] | None:
        with self._changed:
            worker.busy_with = None
            self._changed.wait_for(lambda: worker.replaced or self._waiting or not self._runs)
            if worker.replaced:
                return None
            if not self._waiting:
                self._worker = None
                return None
            call, serve = self._waiting.popleft()
            worker.busy_with = call
            return call, serve


call_thread = CallThread()
"""This kernel's."""
