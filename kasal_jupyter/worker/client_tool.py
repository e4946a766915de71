"""Tools that the run's client answers for, a notebook's functions for example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.schemas.base import new_id
from kasal_jupyter.schemas.spec import RunToolAnswer
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.worker.spans import Spans
from kasal_jupyter.worker.stop import StopSignal


@dataclass(slots=True)
class ClientCalls:
    """The calls of client tools that wait for their answers, on whatever threads.

    Parameters
    ----------
    spans
        Where a call is announced, within the span of its tool.
    signal
        Ends all waiting when the run must end.
    """

    spans: Spans
    signal: StopSignal
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
        call_id = new_id("call")
        self._answers[call_id] = None
        try:
            span = self.spans.innermost("tool", within="agent")
            if span is None:
                return ToolFailure(message="The run has ended")
            request = {"call_id": call_id, "tool": tool.name, "arguments": arguments}
            self.spans.add(span, {"type": "tool_request", **request})
            self.signal.wait_for(lambda: self._answers[call_id] is not None, tool.timeout)
            answer = self._answers[call_id]
        finally:
            del self._answers[call_id]
        if answer is None:
            return ToolFailure(message=f"{tool.name} did not answer within {tool.timeout:g} seconds")
        if answer.error is not None:
            return ToolFailure(message=answer.error)
        return answer.result or ""

    def answer(self, answer: RunToolAnswer) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        with self.signal.changed:
            if answer.call_id in self._answers:
                self._answers[answer.call_id] = answer
                self.signal.changed.notify_all()
