"""From a run spec to CrewAI's objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crewai import Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.utilities.i18n import I18N_DEFAULT

from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.crews import managing_agent
from kasal_jupyter.schemas.placeholders import AGENT_TEXTS, fill
from kasal_jupyter.schemas.spec import RunSpec, RunTask
from kasal_jupyter.worker.crew.agent import CrewAgent
from kasal_jupyter.worker.crew.client_tool import ClientCalls
from kasal_jupyter.worker.crew.planning import PlannedCrew
from kasal_jupyter.worker.crew.record import RunRecord
from kasal_jupyter.worker.crew.task import (
    CrewConditionalTask,
    ResultFile,
    WordedGuardrail,
    last_answer,
    object_of,
)
from kasal_jupyter.worker.crew.tool import Toolset, model_of
from kasal_jupyter.worker.crewai_seams import end_by
from kasal_jupyter.worker.models.run_models import Models
from kasal_jupyter.worker.process.stop import StopSignal


@dataclass(frozen=True, slots=True)
class BuiltCrew:
    """A crew ready to be kicked off, and what is needed to read its events.

    Attributes
    ----------
    crew
        Its texts have the inputs filled in: CrewAI, which would do so again in what they say, is given none.
    tasks
        Our tasks, by the ids CrewAI gave them.
    tool_names
        Our tools' names, by CrewAI's spelling of them.
    models
        Makes the run's models.
    record
        What it asks, and what an earlier run was answered; None where nobody reads its events.
    """

    crew: Crew
    tasks: dict[str, RunTask]
    tool_names: dict[str, str]
    models: Models
    record: RunRecord | None


def build_crew(spec: RunSpec, signal: StopSignal, calls: ClientCalls | None = None) -> BuiltCrew:
    """Make the crew a spec describes.

    Parameters
    ----------
    spec
        The run.
    signal
        What the run's models look at before each call.
    calls
        How the tools that the client brought are called, and where events go; None will do where it brought
        none, and nobody reads them.
    """
    end_by(object_of, last_answer)
    return _Builder(spec, signal, calls).built()


class _Builder:
    def __init__(self, spec: RunSpec, signal: StopSignal, calls: ClientCalls | None) -> None:
        self._spec = spec
        self._record = (
            RunRecord(spec, calls.spans, signal, calls.person, calls.noted) if calls is not None else None
        )
        self._models = Models(spec, signal, self._record, calls)
        self._tools = Toolset(spec, calls, self._record)

    def built(self) -> BuiltCrew:
        managing = managing_agent(self._spec.crew, self._spec.agents)
        agents = {agent.id: self._agent(agent) for agent in self._spec.agents if agent is not managing}
        hierarchical = self._spec.crew.process == "hierarchical"
        manager = self._manager(managing) if hierarchical else None
        tasks: dict[str, Task] = {}
        for task in self._spec.tasks:
            tasks[task.id] = self._task(task, agents, manager, tasks)
        planning = self._spec.planning_model
        crew = PlannedCrew(
            name=self._spec.crew.name,
            agents=list(agents.values()),
            tasks=list(tasks.values()),
            process=Process.hierarchical if hierarchical else Process.sequential,
            manager_agent=manager,
            planning=planning is not None,
            planning_llm=self._models.llm(planning) if planning is not None else None,
            verbose=False,
            memory=False,
            cache=False,
            tracing=False,
        )
        if hierarchical:
            # The manager delegates a task that has an agent to that one. Known only now: a task with an agent
            # takes over its tools when it is made, and the manager would do the work with them.
            for task in self._spec.tasks:
                tasks[task.id].agent = agents[task.agent_id] if task.agent_id is not None else None
        return BuiltCrew(
            crew=crew,
            tasks={str(tasks[task.id].id): task for task in self._spec.tasks},
            tool_names=self._tools.names(),
            models=self._models,
            record=self._record,
        )

    def _filled(self, text: str) -> str:
        return fill(text, self._spec.inputs)

    def _agent(self, agent: Agent, *, manages: bool = False) -> CrewAgent:
        limits = {"max_iter": agent.max_iter, "max_execution_time": agent.max_execution_time}
        assert agent.model is not None, "the server fills in its default model"
        return CrewAgent(
            display_name=agent.name,
            role=self._filled(agent.role),
            goal=self._filled(agent.goal),
            backstory=self._filled(agent.backstory),
            llm=self._models.llm(agent.model, agent.settings, agent.sandbox, agent.fallbacks),
            # CrewAI gives a manager the tools to delegate with, and refuses one that has others.
            tools=[] if manages else self._tools.of_agent(agent.tools),
            allow_delegation=manages or agent.allow_delegation,
            # One failure of a model is one failure of its task: see AgentLLM on retries.
            max_retry_limit=0,
            cache=False,
            verbose=False,
            **{name: limit for name, limit in limits.items() if limit is not None},
        )

    def _manager(self, managing: Agent | None) -> CrewAgent:
        """Make the crew's own manager, or CrewAI's, but as an agent of ours and without its retries."""
        if managing is not None:
            return self._agent(managing, manages=True)
        texts = {part: I18N_DEFAULT.retrieve("hierarchical_manager_agent", part) for part in AGENT_TEXTS}
        assert self._spec.manager_model is not None, "the server fills in its default model"
        return CrewAgent(
            display_name=texts["role"],
            **texts,
            llm=self._models.llm(self._spec.manager_model),
            allow_delegation=True,
            max_retry_limit=0,
            cache=False,
            verbose=False,
        )

    def _task(
        self, task: RunTask, agents: dict[str, CrewAgent], manager: CrewAgent | None, earlier: dict[str, Task]
    ) -> Task:
        own_agent = agents[task.agent_id] if task.agent_id is not None else None
        agent = own_agent if manager is None else None
        description = self._filled(task.description)
        if task.context_texts:
            texts = (self._filled(text) for text in task.context_texts)
            description += "\n\nContext:\n" + "\n".join(f"- {text}" for text in texts)
        optional: dict[str, Any] = {}
        if task.context_tasks is not None:
            optional["context"] = [earlier[one] for one in task.context_tasks]
        if task.output_schema is not None:
            # As pydantic output: for JSON output CrewAI mends a broken answer with a client of its own.
            optional["output_pydantic"] = model_of(task.output_schema, f"{task.title()}_result")
        if task.guardrail is not None:
            checking = own_agent or manager
            assert checking is not None, "a task without an agent needs a manager"
            assert isinstance(checking.llm, BaseLLM), "every agent was given a model of ours"
            optional["guardrail"] = WordedGuardrail(
                self._filled(task.guardrail), checking.llm, task.guardrail_max_retries
            )
            optional["guardrail_max_retries"] = task.guardrail_max_retries
        if task.output_file is not None:
            optional["callback"] = ResultFile(Path(self._spec.folder), self._filled(task.output_file))
        made = (CrewConditionalTask if task.condition is not None else Task)(
            name=task.title(),
            description=description,
            expected_output=self._filled(task.expected_output),
            agent=agent,
            async_execution=task.async_execution,
            human_input=task.human_input,
            **optional,
        )
        if isinstance(made, CrewConditionalTask) and task.condition is not None:
            made.look_at(task.condition, list(earlier.values()))
        own = [self._tools.tool(name) for name in task.tools]
        # A task's tools replace its agent's in CrewAI; here they come on top.
        inherited = agent.tools or [] if agent is not None else []
        made.tools = [*inherited, *(tool for tool in own if tool not in inherited)]
        if task.output_schema is not None:
            self._models.expect_answer(str(made.id), task.output_schema)
        return made
