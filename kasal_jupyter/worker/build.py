"""From a run spec to CrewAI's objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crewai import Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool
from crewai.utilities.i18n import I18N_DEFAULT
from crewai.utilities.string_utils import sanitize_tool_name

from kasal_jupyter.models.catalog import KEYLESS
from kasal_jupyter.schemas.agents import Agent, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.spec import PLACEHOLDER, RunSpec, RunTask
from kasal_jupyter.tools.catalog import find_tool
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.http_tool import http_tool
from kasal_jupyter.tools.tool import ToolContext
from kasal_jupyter.worker.agent import CrewAgent
from kasal_jupyter.worker.client_tool import ClientCalls
from kasal_jupyter.worker.openai_llm import OpenAILLM
from kasal_jupyter.worker.sandbox_llm import SandboxLLM
from kasal_jupyter.worker.stop import StopSignal
from kasal_jupyter.worker.tool import crew_tool, model_of


@dataclass(frozen=True, slots=True)
class BuiltCrew:
    """A crew ready to be kicked off, and what is needed to read its events.

    Attributes
    ----------
    inputs
        What to pass to ``kickoff``: None where nothing is to be filled in.
    tasks
        Our tasks, by the ids CrewAI gave them.
    tool_names
        Our tools' names, by CrewAI's spelling of them.
    """

    crew: Crew
    inputs: dict[str, Any] | None
    tasks: dict[str, RunTask]
    tool_names: dict[str, str]


def build_crew(spec: RunSpec, signal: StopSignal, calls: ClientCalls | None = None) -> BuiltCrew:
    """Make the crew a spec describes.

    Parameters
    ----------
    spec
        The run.
    signal
        What the run's models look at before each call.
    calls
        How the tools that the client brought are called; None will do where it brought none.
    """
    return _Builder(spec, signal, calls).built()


class _Builder:
    def __init__(self, spec: RunSpec, signal: StopSignal, calls: ClientCalls | None) -> None:
        self._spec = spec
        self._signal = signal
        self._calls = calls
        self._context = ToolContext(Path(spec.folder))
        self._custom = {tool.name: tool for tool in spec.tools}
        self._clients = {tool.name: tool for tool in spec.client_tools}
        self._for_all = [tool.name for tool in spec.client_tools if tool.for_all]
        self._guard = HostGuard(spec.allowed_hosts)
        self._tools: dict[str, BaseTool] = {}
        # Every LLM holds this one dictionary; it is filled as the tasks are made.
        self._answer_schemas: dict[str, dict[str, Any]] = {}

    def built(self) -> BuiltCrew:
        hierarchical = self._spec.crew.process == "hierarchical"
        agents = {agent.id: self._agent(agent) for agent in self._spec.agents}
        tasks: dict[str, Task] = {}
        for task in self._spec.tasks:
            tasks[task.id] = self._task(task, None if hierarchical else agents, tasks)
        crew = Crew(
            name=self._spec.crew.name,
            agents=list(agents.values()),
            tasks=list(tasks.values()),
            process=Process.hierarchical if hierarchical else Process.sequential,
            manager_agent=self._manager() if hierarchical else None,
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
            inputs=self._inputs(),
            tasks={str(tasks[task.id].id): task for task in self._spec.tasks},
            tool_names={sanitize_tool_name(name): name for name in self._tools},
        )

    def _inputs(self) -> dict[str, Any] | None:
        """Give the inputs; braces that name none of them stand for themselves.

        With no inputs CrewAI leaves all braces alone, with some it refuses those it does not know.
        """
        if not self._spec.inputs:
            return None
        texts = [text for agent in self._spec.agents for text in (agent.role, agent.goal, agent.backstory)]
        texts += [
            text
            for task in self._spec.tasks
            for text in (task.description, task.expected_output, *task.context_texts)
        ]
        literal = {name: f"{{{name}}}" for text in texts for name in PLACEHOLDER.findall(text)}
        return {**literal, **self._spec.inputs}

    def _agent(self, agent: Agent) -> CrewAgent:
        optional: dict[str, Any] = {} if agent.max_iter is None else {"max_iter": agent.max_iter}
        assert agent.model is not None, "the server fills in its default model"
        return CrewAgent(
            display_name=agent.name,
            role=agent.role,
            goal=agent.goal,
            backstory=agent.backstory,
            llm=self._llm(agent.model, agent.settings, agent.sandbox),
            tools=[self._tool(name) for name in dict.fromkeys([*agent.tools, *self._for_all])],
            allow_delegation=agent.allow_delegation,
            # One failure of a model is one failure of its task: see OpenAILLM on retries.
            max_retry_limit=0,
            cache=False,
            verbose=False,
            **optional,
        )

    def _manager(self) -> CrewAgent:
        """Make the manager as CrewAI would, but as an agent of ours and without its retries."""
        texts = {
            part: I18N_DEFAULT.retrieve("hierarchical_manager_agent", part)
            for part in ("role", "goal", "backstory")
        }
        assert self._spec.manager_model is not None, "the server fills in its default model"
        return CrewAgent(
            display_name=texts["role"],
            **texts,
            llm=self._llm(self._spec.manager_model, ModelSettings(), SandboxSettings()),
            allow_delegation=True,
            max_retry_limit=0,
            cache=False,
            verbose=False,
        )

    def _llm(self, name: str, settings: ModelSettings, sandbox: SandboxSettings) -> BaseLLM:
        """Make a model for one agent: CrewAI counts usage by instance."""
        model = self._spec.models[name]
        if model.provider == "sandbox":
            llm = SandboxLLM(
                model=model.model,
                label=name,
                stream=settings.stream,
                settings=sandbox,
                inputs=self._spec.inputs,
                signal=self._signal,
            )
            llm.expect_answers(self._answer_schemas)
            return llm
        given = settings.model_dump(exclude_none=True)
        if model.base_url is None and "max_tokens" in given:
            # OpenAI's newer models refuse the old name, which is all that other servers may know.
            given["max_completion_tokens"] = given.pop("max_tokens")
        return OpenAILLM(
            model=model.model,
            label=name,
            provider="openai",
            # The client insists on a key; servers without keys take any.
            api_key=model.api_key or KEYLESS,
            base_url=model.base_url,
            # A model of another server must not be sent on to OpenAI's Responses API.
            custom_openai=model.base_url is not None,
            signal=self._signal,
            **given,
        )

    def _tool(self, name: str) -> BaseTool:
        if name not in self._tools:
            self._tools[name] = self._new_tool(name)
        return self._tools[name]

    def _new_tool(self, name: str) -> BaseTool:
        if (clients := self._clients.get(name)) is not None:
            calls = self._calls
            assert calls is not None, "a client has brought this tool"
            return crew_tool(clients, lambda **arguments: calls.call(clients, arguments))
        custom = self._custom.get(name)
        tool = http_tool(custom, self._guard) if custom is not None else find_tool(name)
        return crew_tool(tool, partial(tool.run, self._context))

    def _task(self, task: RunTask, agents: dict[str, CrewAgent] | None, earlier: dict[str, Task]) -> Task:
        agent = agents[task.agent_id] if agents is not None and task.agent_id is not None else None
        description = task.description
        if task.context_texts:
            description += "\n\nContext:\n" + "\n".join(f"- {text}" for text in task.context_texts)
        optional: dict[str, Any] = {}
        if task.context_tasks:
            optional["context"] = [earlier[one] for one in task.context_tasks]
        if task.output_schema is not None:
            # As pydantic output: for JSON output CrewAI mends a broken answer with a client of its own.
            optional["output_pydantic"] = model_of(task.output_schema, f"{task.title()}_result")
        made = Task(
            name=task.title(),
            description=description,
            expected_output=task.expected_output,
            agent=agent,
            async_execution=task.async_execution,
            **optional,
        )
        own = [self._tool(name) for name in task.tools]
        # A task's tools replace its agent's in CrewAI; here they come on top.
        inherited = agent.tools or [] if agent is not None else []
        made.tools = [*inherited, *(tool for tool in own if tool not in inherited)]
        if task.output_schema is not None:
            self._answer_schemas[str(made.id)] = task.output_schema
        return made
