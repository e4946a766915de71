"""A run as it goes on, on a terminal: the steps that are over as lines, and below them what is being done."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

import orjson
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from kasal_jupyter.cli.connect import say
from kasal_jupyter.cli.terminal import TraceHighlighter, console_of
from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.events.event import Event
from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.kernel.runs.questions import HumanQuestion, answer_meant, prompt_of
from kasal_jupyter.kernel.views.clean import one_line
from kasal_jupyter.kernel.views.figures import counted, duration_text, place_text, run_cost_text
from kasal_jupyter.kernel.views.rows import MARKS, elapsed_text
from kasal_jupyter.kernel.views.view_text import LineView
from kasal_jupyter.schemas.executions import ToolAnswer

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client


PLAIN_WIDTH = 160
"""Characters of a line where no terminal says how many it has."""

REDRAWS = 8
"""Redraws of the last line, a second."""

BAR = 16
"""Characters of the progress bar."""


class RunView(Protocol):
    """What shows a run; a context manager around the time it goes on.

    Attributes
    ----------
    trace
        What is known of the run.
    position
        Its place in the server's line, where it waits and somebody has asked.
    """

    trace: Trace
    position: int | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def feed(self, event: Event) -> None:
        """Take in the next event."""
        ...

    def pause(self) -> None:
        """Leave the terminal to somebody who types."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...


def view_on(file: IO[str], *, as_json: bool = False, quiet: bool = False) -> RunView:
    """Give the view that a stream can show: JSON for programs, colours and a moving line for terminals."""
    if as_json:
        return JsonView(file)
    if quiet:
        return QuietView()
    console = console_of(file)
    return TerminalView(file) if console.is_terminal and not console.is_dumb_terminal else PlainView(file)


class QuietView:
    """Nothing but what is known at the end."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.position: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def feed(self, event: Event) -> None:
        """Take in the next event."""
        self.trace.feed(event)

    def pause(self) -> None:
        """Leave the terminal to somebody who types."""

    def resume(self) -> None:
        """Go on."""


class JsonView(QuietView):
    """Each event as a line of JSON.

    Parameters
    ----------
    file
        Where the lines go.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file

    def feed(self, event: Event) -> None:
        """Print the next event."""
        super().feed(event)
        print(orjson.dumps(event).decode(), file=self._file, flush=True)


class PlainView(QuietView):
    """The growing tree as lines, for a file, a pipe, or a terminal that can do no more.

    Parameters
    ----------
    file
        Where the lines go.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file
        self._lines = LineView(PLAIN_WIDTH)
        self.trace = self._lines.trace

    def feed(self, event: Event) -> None:
        """Print the lines that the next event adds."""
        for line in self._lines.feed(event):
            print(line, file=self._file, flush=True)


class TerminalView(QuietView):
    """The growing tree in colours, and a last line that tells what is being done and for how long.

    Lines scroll away as they do in a terminal; only the last is drawn again.

    Parameters
    ----------
    file
        The terminal.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._console = console_of(file)
        self._lines = LineView(self._console.width)
        self.trace = self._lines.trace
        self._highlight = TraceHighlighter()
        self._fed_at = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._last_line,
            console=self._console,
            refresh_per_second=REDRAWS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def pause(self) -> None:
        """Take the last line away, which would be drawn over what is typed."""
        self._live.stop()

    def resume(self) -> None:
        """Draw it again."""
        self._live.start()

    def feed(self, event: Event) -> None:
        """Print the lines that the next event adds, above the last."""
        # The width may change at any time.
        self._lines.width = self._console.width
        self._fed_at = time.monotonic()
        for line in self._lines.feed(event):
            self._console.print(self._highlight(Text(line)), soft_wrap=True)

    def _last_line(self) -> Table:
        """Draw it; rich does that from a thread of its own, while events come in."""
        summary = self.trace.summary
        grid = Table.grid(padding=(0, 1))
        # A line that fills the terminal to its last column is one and a half to some.
        grid.width = max(1, self._console.width - 1)
        # The run's clock is the server's; what has passed since its latest event is the same on ours.
        now = self.trace.last_time + time.monotonic() - self._fed_at
        words = [elapsed_text(self.trace, now)] if summary.started_at else []
        if summary.total_tokens:
            words.append(counted(summary.total_tokens, "token"))
        if cost := run_cost_text(self.trace):
            words.append(cost)
        words.append(self._doing(now))
        grid.add_row(
            self._spinner,
            Text(summary.status, style="bold cyan"),
            ProgressBar(total=100, completed=summary.progress, width=BAR),
            Text(" · ".join(words), overflow="ellipsis", no_wrap=True),
        )
        return grid

    def _doing(self, now: float) -> str:
        if self.trace.summary.status == "queued":
            if self.position is not None:
                return f"waiting for its turn: {place_text(self.position)}"
            return "waiting for its turn, or for the engine (CrewAI; it takes some seconds at first)"
        # A copy: the other thread adds to it.
        open_spans = [span for span in list(self.trace.spans.values()) if span.end is None]
        if not open_spans:
            return "between two steps" if self.trace.roots else "beginning"
        if waiting := list(self.trace.summary.questions.values()):
            asked = waiting[0]
            return f"waiting for an answer to {one_line(asked.agent or 'an agent', 40)}"
        deepest = open_spans[-1]
        task = one_line(deepest.task or "", 40)
        words = _words_of(deepest)
        if deepest.kind == "llm" and not deepest.text:
            words += f" · waiting, {duration_text(max(0.0, now - deepest.start))}"
        return f"{task}: {words}" if task and deepest.kind != "task" else words


def _words_of(span: Span) -> str:
    who = f"{one_line(span.agent, 40)} " if span.agent and span.kind in {"llm", "tool"} else ""
    return f"{who}{MARKS[span.kind]} {one_line(span.name, 60)}"


# -- questions ------------------------------------------------------------------------------------------

# Questions of a run that is watched from a terminal, asked there.

_MOST_BYTES = 65_536


class Prompt:
    """Asks one question after the other, while the run's events go on coming.

    Parameters
    ----------
    client
        The server.
    job_id
        The run.
    view
        What shows it; it leaves the terminal alone while somebody types.
    """

    def __init__(self, client: Client, job_id: str, view: RunView) -> None:
        self._client = client
        self._job_id = job_id
        self._view = view
        self._waiting: list[HumanQuestion] = []
        self._asked: HumanQuestion | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reading = False

    def take(self, event: Event) -> None:
        """Take in an event of the run."""
        if event["type"] == "input_request":
            self._waiting.append(HumanQuestion.of(event))
        elif event["type"] in {"tool_result", "tool_failed"}:
            for question in self._waiting:
                if question.span_id == event["span_id"]:
                    question.closed.set()
        elif event["type"] == "input_answer":
            for question in self._waiting:
                if question.call_id == event["call_id"]:
                    question.closed.set()

    def idle(self) -> None:
        """Go on: ask the next question, or send what was typed. To be called now and then."""
        self._waiting = [question for question in self._waiting if not question.closed.is_set()]
        if self._asked is not None and self._asked.closed.is_set():
            say("\nThat question is no longer open.")
            self._end()
        if self._asked is None:
            if self._waiting:
                self._ask(self._waiting[0])
            return
        if self._lines.empty():
            return
        self._reading = False
        line = self._lines.get()
        if line is None:
            # The terminal's end of input: whoever sat there has gone, and somebody else may answer.
            self._waiting.clear()
            self._end()
        elif (answer := answer_meant(line, self._asked.choices, self._asked.kind)) is not None:
            self._send(self._asked, answer)
            self._end()
        else:
            self._show("One of these, or its number: " if self._asked.choices else "An answer, please: ")
            self._read()

    def _ask(self, question: HumanQuestion) -> None:
        self._asked = question
        self._view.pause()
        # What was typed before there was a question is no answer to it.
        while not self._lines.empty():
            self._lines.get()
            self._reading = False
        self._show(prompt_of(question))
        self._read()

    def _show(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def _read(self) -> None:
        """Have a thread wait for a line; the one of a question that was closed still waits, and serves."""
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._wait, name="kasal-answer", daemon=True).start()

    def _wait(self) -> None:
        # Not sys.stdin: a thread that holds its lock at the end of the process makes Python abort.
        try:
            data = os.read(sys.stdin.fileno(), _MOST_BYTES)
        except OSError:
            data = b""
        self._lines.put(data.decode(errors="replace") if data else None)

    def _send(self, question: HumanQuestion, answer: ToolAnswer) -> None:
        try:
            self._client.answer_tool(self._job_id, question.call_id, answer)
        except (Conflict, NotFound):
            say("That question is no longer open.")
        question.closed.set()

    def _end(self) -> None:
        self._asked = None
        self._view.resume()
