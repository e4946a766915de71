"""An agent that may be asked twice at the same time."""

from __future__ import annotations

import threading
from typing import Any

from crewai import Agent as CrewAIAgent
from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState
from pydantic import Field, PrivateAttr


class CrewExecutor(AgentExecutor):
    """CrewAI's executor, without the class it makes for each of its instances.

    CrewAI derives a pydantic class for the initial state of every executor, which takes 8 ms of
    schema building, and then puts a plain ``AgentExecutorState`` in its place.
    """

    # A flow's steps are read from the class that defines them, and not from those above it.
    _flow_definition = AgentExecutor.flow_definition()

    def _create_initial_state(self) -> AgentExecutorState:
        return AgentExecutorState()


class CrewAgent(CrewAIAgent):
    """CrewAI's agent, with a name, and with a twin for work that comes while it is busy.

    CrewAI's executor refuses a second task at once (*Executor is already running*): two async
    tasks on one agent, or two delegations in one turn, would fail.
    """

    executor_class: type[AgentExecutor] = CrewExecutor
    display_name: str = Field(default="", description="What the crew's owner calls the agent.")

    _turn: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def execute_task(self, task: Any, context: str | None = None, tools: list[Any] | None = None) -> Any:
        """Do a task, or have a twin do it."""
        if not self._turn.acquire(blocking=False):
            return self._twin().execute_task(task, context, tools)
        try:
            return super().execute_task(task, context, tools)
        finally:
            self._turn.release()

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
            cache=False,
            verbose=False,
        )
        twin.crew = self.crew
        return twin
