"""What somebody outside answers: calls of the client's tools, and questions that agents ask humans."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.spec import RunToolAnswer
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.tools.tool import Question
from kasal_jupyter.worker.crew.mcp_sessions import McpServers
from kasal_jupyter.worker.crew.spans import Spans
from kasal_jupyter.worker.process.stop import StopSignal

NOTE_SECONDS = 60.0
"""How long the server may take to record what it is told."""


@dataclass(slots=True)
class ClientCalls:
    """The calls and questions of a run that wait for their answers, on whatever threads.

    Parameters
    ----------
    spans
        Where a call is announced, within the span of its tool.
    signal
        Ends all waiting when the run must end.
    servers
        The run's MCP servers, where it has any.
    """

    spans: Spans
    signal: StopSignal
    servers: McpServers | None = None
    _noted: int = 0
    _answers: dict[str, RunToolAnswer | None] = field(default_factory=dict)

    def call(self, tool: ClientTool, arguments: dict[str, Any]) -> str | ToolFailure:
        """Ask the client, and wait for its answer.

        Returns
        -------
        str or ToolFailure
            The result, or why there is none. It is no exception, which CrewAI answers in ReAct mode by
            calling the tool again, up to three times: a notebook's function may have done half of its work.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        request = {"type": "tool_request", "tool": tool.name, "arguments": arguments}
        try:
            answer = self._answered(request, tool.timeout)
        except TimeoutError:
            return ToolFailure(message=f"{tool.name} did not answer within {tool.timeout:g} seconds")
        if answer.error is not None:
            return ToolFailure(message=answer.error)
        return answer.result or ""

    def ask(self, question: Question) -> str:
        """Ask a human, and wait for the answer; see :data:`kasal_jupyter.tools.tool.Ask`.

        Raises
        ------
        ValueError
            Nobody has answered in time, or somebody has said that nobody will.
        RunStopped, RunFailed
            The run must end.
        """
        request = {
            "type": "input_request",
            "question": question.text,
            "choices": list(question.choices),
            "timeout": question.timeout,
        }
        try:
            answer = self._answered(request, question.timeout)
        except TimeoutError:
            raise ValueError(f"Nobody answered within {question.timeout:g} seconds") from None
        if answer.error is not None:
            raise ValueError(answer.error)
        return answer.result or ""

    def _answered(self, request: dict[str, Any], seconds: float) -> RunToolAnswer:
        """Announce a request within the span of its tool, and wait for the answer.

        Raises
        ------
        TimeoutError
            There is none in time.
        """
        call_id = new_id("call")
        self._answers[call_id] = None
        try:
            span = self.spans.innermost("tool", within="agent")
            if span is None:
                return RunToolAnswer(call_id=call_id, error="The run has ended")
            self.spans.add(span, {**request, "call_id": call_id})
            self.signal.wait_for(lambda: self._answers[call_id] is not None, seconds)
            answer = self._answers[call_id]
        finally:
            del self._answers[call_id]
        if answer is None:
            raise TimeoutError
        return answer

    def noted(self) -> bool:
        """Wait until the server has recorded all that was told, and say whether it has.

        What is told waits for its turn on the way to the server, and there for the disk: whatever is done
        meanwhile, and must not be done twice, nobody would know of if either of the two died.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        note = self.spans.note()
        self.signal.wait_for(lambda: self._noted >= note, NOTE_SECONDS)
        return self._noted >= note

    def take_note(self, note: int) -> None:
        """Hear that the server has recorded all that was told before a note."""
        with self.signal.changed:
            self._noted = max(self._noted, note)
            self.signal.changed.notify_all()

    def answer(self, answer: RunToolAnswer) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        with self.signal.changed:
            if answer.call_id in self._answers:
                self._answers[answer.call_id] = answer
                self.signal.changed.notify_all()
