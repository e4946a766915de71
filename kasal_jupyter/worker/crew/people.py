"""What a run asks people of its own accord: whether a task's result will do, and leave for calls of tools."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.schemas.people import APPROVE, REJECT, rule_for
from kasal_jupyter.schemas.spec import RunSpec, RunTask
from kasal_jupyter.tools.tool import Question
from kasal_jupyter.worker.crew.record import RunRecord
from kasal_jupyter.worker.process.outbox import encode
from kasal_jupyter.worker.process.sizes import shortened
from kasal_jupyter.worker.process.stop import RunFailed

MOST_SHOWN = 200_000
"""Characters of a result that whoever reviews it is shown."""

REJECTED = "REJECTED"


class Call(Protocol):
    """Calls a tool with arguments, which may be other than its agent has given."""

    def __call__(self, arguments: dict[str, Any], call_key: str, *, changed: bool) -> Any:
        """Give what the tool answers, called under a key of the call's own."""
        ...


class Approvals:
    """Calls of tools that are made when a person has allowed them.

    An answer counts for the very call that was asked about: its tool, its arguments, and the version of the
    crew are part of the question's identity. Whatever is no approval is a refusal.

    Parameters
    ----------
    spec
        The run.
    record
        What it asks, and what an earlier one was answered.
    """

    def __init__(self, spec: RunSpec, record: RunRecord) -> None:
        self._people = spec.crew.people
        self._version = spec.crew.version
        self._of_all = spec.crew.needs_approval
        self._of_agents = {agent.name: agent.needs_approval for agent in spec.agents}
        self._record = record

    def needed(self, tool: str, arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Say whether a call needs leave, by the crew's rules or those of the agent that makes it."""
        span = self._record.spans.around()
        own = self._of_agents.get(span.agent or "", []) if span is not None else []
        return rule_for([*self._of_all, *own], tool, arguments, parameters) is not None

    def call(self, tool: str, arguments: dict[str, Any], call: Call, call_key: str) -> Any:
        """Ask for leave, and make the call where it is given; else give why it was not made.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        span = self._record.spans.innermost("tool", within="agent")
        about = {
            "kind": "approval",
            "tool": tool,
            "arguments": arguments,
            "digest": hashlib.sha256(encode(arguments, orjson.OPT_SORT_KEYS)).hexdigest()[:32],
            "crew_version": self._version,
            "on_timeout": self._people.on_timeout,
        }
        question = Question(f"May {tool} be called?", (APPROVE, REJECT), self._people.timeout, about)
        answer = self._record.person(question)
        if answer.result != APPROVE or span is None:
            return ToolFailure(message=_refusal(tool, answer.error or answer.result))
        given = answer.arguments
        taken = arguments if given is None else given
        self._record.spans.add(span, {"type": "tool_approved", "tool": tool, "arguments": taken})
        if (unrecorded := self._record.unrecorded(tool)) is not None:
            return unrecorded
        made = call(taken, call_key, changed=given is not None)
        if given is None or not isinstance(made, str):
            return made
        return f"A person has changed this call's arguments to {encode(given).decode()}. Its result:\n{made}"


def _refusal(tool: str, why: str | None) -> str:
    said = "" if why is None or why == REJECT else f": {why}"
    return f"This call of {tool} was not made, since nobody has allowed it{said}"


class Reviews:
    """Has people look at the results of tasks.

    Parameters
    ----------
    tasks
        The run's tasks, by CrewAI's ids.
    record
        What the run asks, and what an earlier one was answered.
    """

    def __init__(self, tasks: Mapping[str, RunTask], record: RunRecord) -> None:
        self._tasks = tasks
        self._people = record.spec.crew.people
        self._record = record

    def __call__(self, output: str, task_id: str | None) -> str:
        """Give what is to be different in a task's result; nothing where it will do.

        Raises
        ------
        RunFailed
            It was rejected for good.
        """
        task = self._tasks.get(task_id or "")
        title = task.title() if task is not None else "the task"
        about = {
            "kind": "review",
            "output": shortened(output, MOST_SHOWN),
            "on_timeout": self._people.on_timeout,
        }
        words = f"Is this the result that {title!r} should have?"
        answer = self._record.person(Question(words, (APPROVE, REJECT), self._people.timeout, about))
        if answer.result == APPROVE:
            return ""
        if answer.result is None or answer.result == REJECT:
            why = f": {answer.error}" if answer.error else ""
            words = f"The result of {title!r} was rejected in its review{why}"
            error = ErrorInfo(code=REJECTED, message=words)
            self._record.signal.fail(error)
            raise RunFailed(error)
        return answer.result
