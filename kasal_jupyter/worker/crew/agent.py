"""An agent that may be asked twice at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from kasal_jupyter.worker.crew.time_limit import TaskTimedOut, within
from kasal_jupyter.worker.crewai_seams import SeamedAgent

Remind = Callable[[str, str], tuple[str, Mapping[str, Any]]]
"""Takes a task and its context; gives what to put into the prompt, and the event that tells of it."""


class CrewAgent(SeamedAgent):
    """CrewAI's agent, with a name, and with a twin for work that comes while it is busy.

    CrewAI's executor refuses a second task at once (*Executor is already running*): two async
    tasks on one agent, or two delegations in one turn, would fail.
    """

    display_name: str = Field(default="", description="What the crew's owner calls the agent.")

    _turn: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _remind: Remind | None = PrivateAttr(default=None)
    _reminded: Mapping[str, Any] | None = PrivateAttr(default=None)

    def be_reminded(self, remind: Remind | None) -> None:
        """Have the agent be reminded, before each task, of what its crew remembers and knows."""
        self._remind = remind

    def reminded(self) -> Mapping[str, Any] | None:
        """Give the event that tells what it was reminded of for the task it is at; None without a memory."""
        return self._reminded

    def reminder(self, task: Any, context: str | None) -> str:
        """Give what the agent is reminded of; the event can only follow once it has begun."""
        if self._remind is None:
            return ""
        reminder, self._reminded = self._remind(task.description, context or "")
        return reminder

    def execute_task(self, task: Any, context: str | None = None, tools: list[Any] | None = None) -> Any:
        """Do a task, or have a twin do it."""
        if not self._turn.acquire(blocking=False):
            return self._twin().execute_task(task, context, tools)
        try:
            result = super().execute_task(task, context, tools)
        except TaskTimedOut:
            # Its executor is at work still, for nobody: whoever asks this agent again gets a twin.
            raise
        except BaseException:
            self._turn.release()
            raise
        self._turn.release()
        return result

    def within(self, seconds: int, work: Callable[[], Any]) -> Any:
        """Do a task in time, or leave it behind."""
        return within(seconds, work)

    def _twin(self) -> CrewAgent:
        """Make an agent like this one, with the very same model: calls and usage are counted together."""
        twin = CrewAgent(
            display_name=self.display_name,
            role=self.role,
            goal=self.goal,
            backstory=self.backstory,
            llm=self.llm,
            tools=self.tools,
            allow_delegation=self.allow_delegation,
            max_iter=self.max_iter,
            max_retry_limit=self.max_retry_limit,
            max_execution_time=self.max_execution_time,
            cache=False,
            verbose=False,
        )
        twin.be_reminded(self._remind)
        twin.crew = self.crew
        return twin
