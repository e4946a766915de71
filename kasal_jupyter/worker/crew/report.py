"""CrewAI's events read as ours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crewai.utilities.string_utils import sanitize_tool_name

from kasal_jupyter.events.event import Edited, ErrorInfo, TokenUsage
from kasal_jupyter.hiding import here
from kasal_jupyter.worker.crew.agent import CrewAgent
from kasal_jupyter.worker.crew.build import BuiltCrew
from kasal_jupyter.worker.crew.spans import OpenSpan, Spans
from kasal_jupyter.worker.crew.task import task_event_readers
from kasal_jupyter.worker.crew.time_limit import time_is_up
from kasal_jupyter.worker.models.llm import answered, asked
from kasal_jupyter.worker.models.model_call import (
    AskedAgain,
    CallGiven,
    CallLeft,
    current_call,
    given_up,
)
from kasal_jupyter.worker.process.failures import describe
from kasal_jupyter.worker.process.sizes import shortened

MAX_TEXT = 200_000
"""Characters of a prompt, a message or a tool's result in an event: they come again and again."""

_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "stop_sequences": "stop",
    "stream": "stream",
}


_DELEGATING = {"delegate_work_to_coworker", "ask_question_to_coworker"}
"""CrewAI's tools that have other agents work: what those ask is recorded, and not what they give."""


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Where the run failed, and why."""

    error: ErrorInfo
    task_id: str | None
    agent: str | None


class Report:
    """A stream sink for CrewAI: called with each event, at once, on the thread it happens on.

    Parameters
    ----------
    built
        The crew the events are about.
    spans
        What they open and close.
    """

    def __init__(self, built: BuiltCrew, spans: Spans) -> None:
        self.failure: TaskFailure | None = None
        self.latest_result: str | None = None
        """What the last task that was done has given."""
        self._cause: TaskFailure | None = None
        self._built = built
        self._spans = spans
        self._calls: dict[str, OpenSpan] = {}
        self._failed_calls: dict[str, OpenSpan] = {}
        self._remarks: dict[int, str | None] = {}
        self._readers: dict[str, Callable[[Any, Any], None]] = {
            "task_started": self._task_started,
            "task_completed": self._task_completed,
            "task_failed": self._task_failed,
            "agent_execution_started": self._agent_started,
            "agent_execution_completed": self._agent_completed,
            "agent_execution_error": self._agent_failed,
            "llm_call_started": self._llm_started,
            "llm_stream_chunk": self._llm_chunk,
            "llm_call_completed": self._llm_completed,
            "llm_call_failed": self._llm_failed,
            "tool_usage_started": self._tool_started,
            "tool_usage_finished": self._tool_finished,
            "tool_usage_error": self._tool_failed,
            "kasal_llm_left": self._llm_left,
            "kasal_llm_given": self._llm_given,
            "kasal_llm_retry": self._llm_retried,
            **task_event_readers(built.tasks, spans),
        }

    def __call__(self, source: Any, event: Any) -> None:
        """Take in an event."""
        if (reader := self._readers.get(event.type)) and not (time_is_up() or given_up()):
            reader(source, event)

    def run_failed(self, error: ErrorInfo) -> None:
        """Note what ends the run, on the thread it happens on: other tasks will notice, and fail of it."""
        if task := self._spans.innermost("task"):
            agent = self._spans.innermost("agent") or task
            self._cause = TaskFailure(error=error, task_id=task.task_id, agent=agent.agent)

    def _task_started(self, _source: Any, event: Any) -> None:
        task = self._built.tasks.get(str(event.task.id))
        if task is None:
            return  # The planner's: its work is no task of the crew.
        self._spans.open(
            "task",
            {"type": "task_start"},
            task_id=task.id,
            task=task.title(),
            agent=_agent_name(event.task.agent),
        )

    def _task_completed(self, _source: Any, event: Any) -> None:
        if span := self._spans.innermost("task"):
            ended: dict[str, Any] = {"type": "task_complete", "result": event.output.raw}
            if remark := self._remarks.pop(span.id, None):
                ended["remark"] = remark
            self.latest_result = event.output.raw
            task = self._built.tasks.get(str(event.task.id))
            if task is not None and task.output_schema is not None:
                ended["structured"] = _structured(event.output)
            self._spans.complete(span, ended)

    def _task_failed(self, _source: Any, event: Any) -> None:
        if span := self._spans.innermost("task"):
            error = _error(event, code="TASK_FAILED")
            if self.failure is None:
                here = TaskFailure(error=error, task_id=span.task_id, agent=span.agent)
                # What ends the run belongs to where it was found, and not to the task that notices it first.
                self.failure = self._cause or here
            self._spans.fail(span, error)

    def _agent_started(self, _source: Any, event: Any) -> None:
        executor = event.agent.agent_executor
        tools = (executor.original_tools if executor is not None else None) or event.tools or ()
        span = self._spans.open(
            "agent",
            {
                "type": "agent_start",
                "prompt": shortened(event.task_prompt, MAX_TEXT),
                "tools": [self._tool_name(tool.name) for tool in tools],
            },
            agent=_agent_name(event.agent),
        )
        if span is not None and isinstance(event.agent, CrewAgent) and (reminded := event.agent.reminded()):
            self._spans.add(span, reminded)

    def _agent_completed(self, _source: Any, event: Any) -> None:
        if span := self._spans.innermost("agent", within="tool"):
            self._spans.complete(span, {"type": "agent_complete", "result": event.output})

    def _agent_failed(self, _source: Any, event: Any) -> None:
        if span := self._spans.innermost("agent", within="tool"):
            self._spans.fail(span, _error(event, code="TASK_FAILED"))

    def _llm_started(self, source: Any, event: Any) -> None:
        model = getattr(source, "label", "") or event.model
        settings = {ours: getattr(event, theirs) for theirs, ours in _SETTINGS.items()}
        cost = source.cost(None, datetime.now(UTC))
        span = self._spans.open(
            "llm",
            {
                "type": "llm_call",
                "messages": [_message(message) for message in asked.get()],
                "tools": [self._tool_name(_function(tool)["name"]) for tool in event.tools or ()],
                "settings": {name: value for name, value in settings.items() if value is not None},
                **({} if cost is None else {"free": True}),
                **_key(),
                **_edited(),
            },
            extra={"model": model},
        )
        if span is not None:
            # Whoever has sent a request may have to pay for it, whatever becomes of it.
            span.unfinished = _taken(None, cost)
            self._calls[event.call_id] = span

    def _llm_chunk(self, _source: Any, event: Any) -> None:
        # A chunk with a tool call holds a piece of its arguments, which is no text to show.
        if event.tool_call is None and event.chunk and (span := self._calls.get(event.call_id)):
            self._spans.add(span, {"type": "llm_chunk", "text": event.chunk})

    def _llm_completed(self, _source: Any, event: Any) -> None:
        if span := self._calls.pop(event.call_id, None):
            answer = answered.get()
            # What is said beside tool calls, CrewAI drops.
            said = answer.heard.text or None if answer.tool_calls else _text(event.response)
            ended = {
                "type": "llm_response",
                "text": said,
                "tool_calls": list(answer.tool_calls),
                "usage": answer.usage,
                "cost": answer.cost,
                "finish_reason": event.finish_reason,
                **_key(),
            }
            if answer.heard.reasoning:
                ended["reasoning"] = shortened(answer.heard.reasoning, MAX_TEXT)
            if answer.remark is not None:
                ended["remark"] = answer.remark
            self._spans.complete(span, ended)
            self._note_remark(answer.remark)

    def _note_remark(self, remark: str | None) -> None:
        task = self._spans.innermost("task")
        if task is not None and self._spans.innermost("agent", within="task") is not None:
            # A task's result is what its agent's last call has said; guardrails speak after it.
            self._remarks[task.id] = remark

    def _llm_failed(self, source: Any, event: Any) -> None:
        if span := self._calls.pop(event.call_id, None):
            if (attempt := current_call()) is not None and attempt.unpaid:
                span.unfinished = _taken(None, 0.0)
            self._spans.fail(span, _error(event, code="MODEL_ERROR", model=getattr(source, "label", None)))

    def _llm_left(self, _source: Any, event: CallLeft) -> None:
        if event.call_id is not None and (span := self._calls.pop(event.call_id, None)):
            self._failed_calls[event.call_id] = span
            span.unfinished = {
                **_taken(event.usage, event.cost),
                **({"failure": event.failure} if event.failure else {}),
                **({"key": event.key} if event.key is not None else {}),
            }
            self._spans.fail(span, event.error)

    def _llm_given(self, _source: Any, event: CallGiven) -> None:
        call, answer = event.given.call, dict(event.given.answer)
        about = {"key": event.key, "recorded": True}
        span = self._spans.open(
            "llm", {"type": "llm_call", **call, "key": event.key}, extra={"model": call["model"]}
        )
        if span is None:
            return
        if event.given.answered == "llm_failed":
            self._failed_calls[event.key] = span
            error = answer.pop("error")
            span.unfinished = {**answer, **about}
            self._spans.fail(span, error)
        else:
            self._spans.complete(span, {"type": "llm_response", **answer, **about})
            self._note_remark(answer.get("remark"))

    def _llm_retried(self, _source: Any, event: AskedAgain) -> None:
        span = self._failed_calls.get(event.call_id or "")
        if span is None:
            return
        self._spans.emit(
            {
                "type": "llm_retry",
                "model": event.model,
                "attempt": event.attempt,
                "wait": event.wait,
                "error": event.error,
                **span.fields(),
            }
        )

    def _tool_started(self, _source: Any, event: Any) -> None:
        arguments, tool = _arguments(event.tool_args), self._tool_name(event.tool_name)
        key: str | None = None
        if self._built.record is not None and sanitize_tool_name(event.tool_name) not in _DELEGATING:
            key = self._built.record.tool_key(tool, arguments)
        keyed = {} if key is None else {"key": key}
        span = self._spans.open(
            "tool", {"type": "tool_call", "arguments": arguments, **keyed}, extra={"tool": tool}
        )
        if span is not None:
            span.key, span.arguments = key, arguments

    def _tool_finished(self, _source: Any, event: Any) -> None:
        if (span := self._spans.innermost("tool", within="agent")) is None:
            return
        about: dict[str, Any] = {}
        if span.answered and span.key is not None:
            about = {"key": span.key, **({"recorded": True} if span.recorded else {})}
            if span.edited is not None:
                about["edited"] = span.edited
        if event.failure is not None:
            span.unfinished = about
            self._spans.fail(span, ErrorInfo(code="TOOL_ERROR", message=event.failure.message))
            return
        result, cut = _whole_or_cut(str(event.output))
        ended = {"type": "tool_result", "result": result, **about}
        if about and span.said is not None and here().hide(span.said) != event.output:
            ended["given"], more = _whole_or_cut(span.said)
            cut += more
        self._spans.complete(span, ended | ({"cut": cut} if cut else {}))

    def _tool_failed(self, _source: Any, event: Any) -> None:
        if span := self._spans.innermost("tool", within="agent"):
            self._spans.fail(span, _error(event, code="TOOL_ERROR"))

    def _tool_name(self, name: str) -> str:
        return self._built.tool_names.get(name, name)


def _key() -> dict[str, str]:
    """Give the identity of the call that this thread makes, as its events have it."""
    attempt = current_call()
    return {} if attempt is None or attempt.key is None else {"key": attempt.key}


def _edited() -> dict[str, Edited]:
    """Say whose prompt it is that this thread asks."""
    attempt = current_call()
    return {} if attempt is None or attempt.edited is None else {"edited": attempt.edited}


def _whole_or_cut(text: str) -> tuple[str, int]:
    """Give a tool's result as an event has it, and how many characters are left out."""
    return shortened(text, MAX_TEXT), max(0, len(text) - MAX_TEXT)


def _taken(usage: TokenUsage | None, cost: float | None) -> dict[str, Any]:
    return {"usage": usage, "cost": cost}


def _agent_name(agent: Any) -> str | None:
    return None if agent is None else getattr(agent, "display_name", "") or agent.role


def _error(event: Any, *, code: str, model: str | None = None) -> ErrorInfo:
    """Describe the exception an event is about: CrewAI is handling it, and passes on its text only."""
    handled = event.error if isinstance(event.error, BaseException) else sys.exc_info()[1]
    if handled is None:
        return ErrorInfo(code=code, message=str(event.error))
    return describe(handled, model=model, code=code, of_tool=code == "TOOL_ERROR")


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Give what the chat API knows of a message, without CrewAI's own marks."""
    kept = {
        name: message[name]
        for name in ("role", "content", "name", "tool_call_id", "tool_calls")
        if message.get(name) is not None
    }
    if isinstance(content := kept.get("content"), str):
        kept["content"] = shortened(content, MAX_TEXT)
    return kept


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = tool.get("function", tool)
    return function


def _arguments(given: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    try:
        read = json.loads(given)
    except ValueError:
        read = given
    return read if isinstance(read, dict) else {"input": read}


def _text(response: Any) -> str:
    return response if isinstance(response, str) else json.dumps(response, default=str, ensure_ascii=False)


def _structured(output: Any) -> Any:
    """Give a task's result as JSON: as the model wrote it, or as CrewAI could read it."""
    return json.loads(output.pydantic.model_dump_json() if output.pydantic is not None else output.raw)
