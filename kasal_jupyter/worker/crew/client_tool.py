"""What somebody outside answers: the client's tools, people, and the server, of what may be spent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.schemas.allowances import Reserved, Wish
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
    job_id
        The run.
    """

    spans: Spans
    signal: StopSignal
    servers: McpServers | None = None
    job_id: str = ""
    _noted: int = 0
    _wishes: int = 0
    _reserved: dict[int, Reserved] = field(default_factory=dict)
    _answers: dict[str, RunToolAnswer] = field(default_factory=dict)

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

    def person(self, question: Question, key: str, given: RunToolAnswer | None = None) -> RunToolAnswer:
        """Ask a person, and give what comes of it. How long is waited, the server sees to.

        Parameters
        ----------
        question
            What is asked.
        key
            Which question of the run it is.
        given
            The answer, where an earlier run has it: nobody is asked again.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        request = {
            "type": "input_request",
            "question": question.text,
            "choices": list(question.choices),
            "timeout": question.timeout,
            **question.about,
        }
        call_id = self._call_id(key)
        span = self.spans.innermost("tool", within="agent") or self.spans.innermost("agent")
        if span is None:
            return RunToolAnswer(call_id=call_id, error="The run has ended")
        self.spans.add(span, {**request, "key": key, "call_id": call_id})
        if given is not None:
            answer = given.model_copy(update={"call_id": call_id})
            about = {**answer.model_dump(exclude_none=True), "key": key, "by": None, "recorded": True}
            self.spans.add(span, {"type": "input_answer", **about})
            return answer
        with self.spans.waiting(span):
            self.signal.wait_for(lambda: call_id in self._answers, None)
        return self._answers.pop(call_id)

    def _call_id(self, key: str) -> str:
        """Make a question's id, the same one whenever this run comes to it."""
        return f"call_{hashlib.sha256(f'{self.job_id}:{key}'.encode()).hexdigest()[:12]}"

    def _answered(self, request: dict[str, Any], seconds: float) -> RunToolAnswer:
        """Announce a request within the span of its tool, and wait for the answer.

        Raises
        ------
        TimeoutError
            There is none in time.
        """
        call_id = new_id("call")
        span = self.spans.innermost("tool", within="agent")
        if span is None:
            return RunToolAnswer(call_id=call_id, error="The run has ended")
        self.spans.add(span, {**request, "call_id": call_id})
        self.signal.wait_for(lambda: call_id in self._answers, seconds)
        answer = self._answers.pop(call_id, None)
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

    def wish(self, wish: Wish) -> int:
        """Tell the server what is used of shared budgets, and what is wanted; give the wish's number."""
        if wish.reserve:
            self._wishes += 1
            wish = wish.model_copy(update={"reserve": self._wishes})
        self.spans.tell(wish.model_dump_json().encode() + b"\n")
        return wish.reserve

    def refused(self, number: int) -> str | None:
        """Wait until the server has answered a wish; say why it is not granted, else None.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        self.signal.wait_for(lambda: number in self._reserved, NOTE_SECONDS)
        answer = self._reserved.pop(number, None)
        if answer is None:
            return f"The server has not reserved what the next call may cost within {NOTE_SECONDS:g} seconds."
        return answer.refusal

    def take_reserved(self, answer: Reserved) -> None:
        """Hear what the server says to a wish."""
        with self.signal.changed:
            self._reserved[answer.number] = answer
            self.signal.changed.notify_all()

    def answer(self, answer: RunToolAnswer) -> None:
        """Take an answer; it may come before anybody waits for it."""
        with self.signal.changed:
            self._answers[answer.call_id] = answer
            self.signal.changed.notify_all()


def said(answer: RunToolAnswer) -> str:
    """Give what a person has said.

    Raises
    ------
    ValueError
        There is no answer, in words for the agent.
    """
    if answer.error is not None:
        raise ValueError(answer.error)
    return answer.result or ""
