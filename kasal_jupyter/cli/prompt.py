"""Questions of a run that is watched from a terminal, asked there."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING

from kasal_jupyter.cli.connect import say
from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.kernel.runs.questions import HumanQuestion, chosen, prompt_of
from kasal_jupyter.schemas.executions import ToolAnswer

if TYPE_CHECKING:
    from kasal_jupyter.cli.run_view import RunView
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.events.event import Event

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
        elif (answer := chosen(line, self._asked.choices)) is not None:
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

    def _send(self, question: HumanQuestion, answer: str) -> None:
        try:
            self._client.answer_tool(self._job_id, question.call_id, ToolAnswer(result=answer))
        except (Conflict, NotFound):
            say("That question is no longer open.")
        question.closed.set()

    def _end(self) -> None:
        self._asked = None
        self._view.resume()
