"""Agents and tasks as Python objects: what a :class:`~kasal_jupyter.kernel.crews.crew.Crew` is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kasal_jupyter.errors import Fault
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.agents import CrewAgent, ModelSettings, SandboxSettings, agent_places
from kasal_jupyter.schemas.tasks import CrewTask, TaskCondition, task_title

M = TypeVar("M", bound=BaseModel)

Tool = str | Callable[..., Any]
"""A tool's name, or a function of the notebook that ``@kasal.tool`` stands above."""

OutputSchema = Mapping[str, Any] | type[BaseModel]
"""A JSON schema of an object, or a pydantic model that has one."""


class Agent:
    """Someone who does tasks: a role, a goal, a model and tools.

    Parameters
    ----------
    role, goal, backstory
        What the model is told of itself; they may have ``{placeholders}``.
    name
        What tasks call it by; its role where none is given.
    llm
        The model's name, such as ``gpt-4.1-mini`` or ``sandbox``; the server's default where none is given.
        CrewAI calls it so, the API ``model``: either will do.
    tools
        Tools by name, or functions decorated with ``@kasal.tool``.
    allow_delegation
        Whether it may hand work to the others.
    max_iter
        Most model calls for one task.
    max_execution_time
        Most seconds for one task; it then fails.
    fallbacks
        Models to ask, in their order, where the one before cannot answer.
    needs_approval
        Calls of tools that a person is asked about first: ``"http_request(method=POST)"``, by patterns.
    settings
        How the model is called: ``{"temperature": 0.2, "max_tokens": 500}``.
    sandbox
        How the sandbox model behaves: ``{"latency": 0.5}``; other models pass it over.
    model
        The same as ``llm``.

    Raises
    ------
    CellError
        Something in it is wrong; it names the field.
    """

    def __init__(
        self,
        role: str,
        goal: str,
        backstory: str = "",
        *,
        name: str | None = None,
        llm: str | None = None,
        tools: Sequence[Tool] = (),
        allow_delegation: bool = False,
        max_iter: int | None = None,
        max_execution_time: int | None = None,
        fallbacks: Sequence[str] = (),
        needs_approval: Sequence[str] = (),
        settings: ModelSettings | Mapping[str, Any] | None = None,
        sandbox: SandboxSettings | Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> None:
        self.role = role
        self.goal = goal
        self.backstory = backstory
        self.name = name
        self.llm = one_model("llm", llm, "model", model)
        self.tools: list[Tool] = [tool_name(each) for each in _listed("tools", tools)]
        self.allow_delegation = allow_delegation
        self.max_iter = max_iter
        self.max_execution_time = max_execution_time
        self.fallbacks = list(_listed("fallbacks", fallbacks))
        self.needs_approval = list(_listed("needs_approval", needs_approval))
        self.settings = settings
        self.sandbox = sandbox
        self.definition()

    @property
    def model(self) -> str | None:
        """The model's name, as the API calls it: the same as ``llm``."""
        return self.llm

    @model.setter
    def model(self, name: str | None) -> None:
        self.llm = name

    def definition(self) -> CrewAgent:
        """Give the agent as the API takes it.

        Raises
        ------
        CellError
            Something in it is wrong; it names the field.
        """
        fields = {
            "name": self.name,
            "role": self.role,
            "goal": self.goal,
            "backstory": self.backstory,
            "model": self.llm,
            "tools": [tool_name(each) for each in self.tools],
            "allow_delegation": self.allow_delegation,
            "max_iter": self.max_iter,
            "max_execution_time": self.max_execution_time,
            "fallbacks": self.fallbacks,
            "needs_approval": self.needs_approval,
            "settings": _fields(self.settings),
            "sandbox": _fields(self.sandbox),
        }
        return checked(CrewAgent, fields, f"agent {self.name or self.role!r}")

    @classmethod
    def of(cls, body: CrewAgent) -> Agent:
        """Make it of what the API knows of it."""
        return cls(
            body.role,
            body.goal,
            body.backstory,
            name=body.name,
            llm=body.model,
            tools=body.tools,
            allow_delegation=body.allow_delegation,
            max_iter=body.max_iter,
            max_execution_time=body.max_execution_time,
            fallbacks=body.fallbacks,
            needs_approval=body.needs_approval,
            settings=body.settings,
            sandbox=body.sandbox,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Agent) and self.definition() == other.definition()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return written("Agent", self.definition(), {"model": "llm"})


class Task:
    """Something to do, and who does it.

    Parameters
    ----------
    description
        What to do; it may have ``{placeholders}``.
    expected_output
        What shall come out.
    agent
        Who does it, the object or its name; None in a hierarchical crew, where the manager chooses.
    name
        What other tasks call it by.
    context
        Earlier tasks whose results it is given, the objects or their names; other text is given as it is. A
        task without is given the results of all before it, one with an empty list, ``[]``, none.
    tools
        Tools besides its agent's.
    async_execution
        Whether the next task starts without waiting for it.
    output_schema
        A pydantic model, or a JSON schema, for a result that is an object.
    output_file
        A file of the run's folder that the result is written to; it may have ``{placeholders}``.
    guardrail
        What the result must be like, in words. The agent's model checks it, and the task is done again where
        it refuses.
    guardrail_max_retries
        How often it is done again; then the run fails.
    human_input
        Whether a person reviews its result, and may have it done again with what they say.
    condition
        When it is done at all, by the last result before it: ``{"contains": "urgent"}``, ``lacks``,
        ``matches`` (a regular expression of RE2) or ``equals``, of the whole or of a ``field`` of a
        structured one. Else it is skipped.

    Raises
    ------
    CellError
        Something in it is wrong; it names the field.
    """

    def __init__(
        self,
        description: str,
        expected_output: str,
        agent: Agent | str | None = None,
        *,
        name: str | None = None,
        context: Sequence[Task | str] | None = None,
        tools: Sequence[Tool] = (),
        async_execution: bool = False,
        output_schema: OutputSchema | None = None,
        output_file: str | None = None,
        guardrail: str | None = None,
        guardrail_max_retries: int = 3,
        human_input: bool = False,
        condition: TaskCondition | Mapping[str, Any] | None = None,
    ) -> None:
        self.description = description
        self.expected_output = expected_output
        self.agent = agent
        self.name = name
        self.context: list[Task | str] | None = None if context is None else list(_listed("context", context))
        self.tools: list[Tool] = [tool_name(each) for each in _listed("tools", tools)]
        self.async_execution = async_execution
        self.output_schema = output_schema
        self.output_file = output_file
        self.guardrail = guardrail
        self.guardrail_max_retries = guardrail_max_retries
        self.human_input = human_input
        self.condition = condition
        self.definition()

    def definition(self, agent: str | None = None, context: Sequence[str] | None = None) -> CrewTask:
        """Give the task as the API takes it.

        Parameters
        ----------
        agent, context
            What its crew calls those whom the task has as objects.

        Raises
        ------
        CellError
            Something in it is wrong; it names the field.
        """
        schema = self.output_schema
        if isinstance(schema, type):
            schema = schema.model_json_schema()
        fields = {
            "name": self.name,
            "description": self.description,
            "expected_output": self.expected_output,
            "agent": agent,
            "context": None if context is None else list(context),
            "tools": [tool_name(each) for each in self.tools],
            "async_execution": self.async_execution,
            "output_schema": dict(schema) if schema is not None else None,
            "output_file": self.output_file,
            "guardrail": self.guardrail,
            "guardrail_max_retries": self.guardrail_max_retries,
            "human_input": self.human_input,
            "condition": None if self.condition is None else _fields(self.condition),
        }
        return checked(CrewTask, fields, f"task {self.name or str(self.description)[:40]!r}")

    def __repr__(self) -> str:
        named = self.agent if isinstance(self.agent, str) or self.agent is None else self.agent.name
        who = named or (self.agent.role if isinstance(self.agent, Agent) else None)
        context = self.context
        before = None if context is None else [e if isinstance(e, str) else e.title() for e in context]
        return written("Task", self.definition(who, before))

    def title(self) -> str:
        """Give the task's name, or the first line of its description, at most 80 characters."""
        return task_title(self.name, self.description)


def tool_name(tool: Tool) -> str:
    """Give the name by which agents know a tool.

    Raises
    ------
    CellError
        It is a function that is no tool.
    """
    if isinstance(tool, str):
        return tool
    from kasal_jupyter.kernel.functions.notebook_tools import registered

    for name, each in registered().items():
        if each.function is tool:
            return name
    called = getattr(tool, "__name__", repr(tool))
    raise CellError(f"{called} is no tool yet: put @kasal.tool above the function")


def one_model(first: str, one: str | None, second: str, other: str | None) -> str | None:
    """Give a model that may be named by either of two words.

    Raises
    ------
    CellError
        Both are given, and differ.
    """
    if one is not None and other is not None and one != other:
        raise CellError(f"{first}={one!r} and {second}={other!r} are two names of one thing; give one")
    return one if one is not None else other


def checked(kind: type[M], fields: Mapping[str, Any], what: str) -> M:
    """Make the API's model of some fields.

    Raises
    ------
    CellError
        With every fault, by field.
    """
    try:
        return kind.model_validate(fields, strict=True)
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
            for item in error.errors(include_url=False, include_input=False)
        ]
        first = faults[0]
        raise CellError(f"The {what}: {first.field}: {first.reason}", faults=faults) from None


def written(name: str, body: BaseModel, spellings: Mapping[str, str] | None = None) -> str:
    """Write an object as the call that makes it, without what is a default anyway."""
    given = body.model_dump(exclude_defaults=True)
    words = [f"{(spellings or {}).get(key, key)}={value!r}" for key, value in given.items()]
    return f"{name}({', '.join(words)})"


def _listed(field: str, values: Sequence[Any]) -> Sequence[Any]:
    # A text is a sequence as well: of letters.
    if isinstance(values, str):
        raise CellError(f"{field}={values!r}: write a list, [{values!r}]")
    return values


def _fields(settings: BaseModel | Mapping[str, Any] | None) -> dict[str, Any]:
    if settings is None:
        return {}
    return settings.model_dump() if isinstance(settings, BaseModel) else dict(settings)


# -- as the API takes them ------------------------------------------------------------------------------

# The agents and tasks of a crew as the API takes them, by name: as objects they need not have one.


class CrewBody:
    """The members of a crew, and what each is called.

    Parameters
    ----------
    crew
        The crew's name, for what is said of a fault.
    agents
        All of its agents, those included that only a task has.
    tasks
        Its tasks, in their order.
    """

    def __init__(self, crew: str, agents: Sequence[Agent], tasks: Sequence[Task]) -> None:
        self._crew = crew
        self._agents, self._tasks = agents, tasks
        self._names = _agent_names(agents)
        self._keys = _agent_keys(agents, self._names)
        self._titles = _task_names(tasks)

    def called(self, agent: Agent | str | None) -> str | None:
        """Give the name of an agent that is given as an object, by name or by role."""
        if isinstance(agent, Agent):
            return self._names.get(id(agent))
        return self._keys.get(agent or "", agent)

    def agents(self, *, named: bool) -> list[CrewAgent]:
        """Give the agents; with a name where they have one or need one, or all of them."""
        roles = [agent.role for agent in self._agents]
        bodies = []
        for agent in self._agents:
            body = agent.definition()
            needed = named or agent.name is not None or roles.count(agent.role) > 1
            bodies.append(body.model_copy(update={"name": self._names[id(agent)]}) if needed else body)
        return bodies

    def tasks(self, named: Callable[[Task], bool]) -> list[CrewTask]:
        """Give the tasks; with a name where they have one, or are to be named.

        Raises
        ------
        CellError
            Something in one of them is wrong; it names the field.
        """
        bodies = []
        for task in self._tasks:
            body = task.definition(self.called(task.agent), self._context(task))
            needed = task.name is not None or named(task)
            bodies.append(body.model_copy(update={"name": self._titles[id(task)]}) if needed else body)
        return bodies

    def _context(self, task: Task) -> list[str] | None:
        if task.context is None:
            return None
        entries = []
        for each in task.context:
            if isinstance(each, Task) and id(each) not in self._titles:
                raise CellError(
                    f"The context of {task.title()!r} has the task {each.title()!r}, which is not among the "
                    f"tasks of {self._crew!r}; add it before this one"
                )
            entries.append(each if isinstance(each, str) else self._titles[id(each)])
        return entries


def _agent_names(agents: Sequence[Agent]) -> dict[int, str]:
    """Give each agent's name: its own, else its role, numbered where there are several; as the API does."""
    taken = {agent.name for agent in agents if agent.name}
    names: dict[int, str] = {}
    for agent in agents:
        name = agent.name
        if name is None:
            role = " ".join(agent.role.split())[:180]
            name, number = role, 1
            while name in taken:
                number += 1
                name = f"{role} {number}"
        taken.add(name)
        names[id(agent)] = name
    return names


def _agent_keys(agents: Sequence[Agent], names: Mapping[int, str]) -> dict[str, str]:
    """Give the names of agents by all that tasks may call them."""
    keys = {key: names[id(agents[place])] for key, place in agent_places(agents).items()}
    return keys | {name: name for name in names.values()}


def _task_names(tasks: Sequence[Task]) -> dict[int, str]:
    """Give each task's name: its own, else one after its place."""
    taken = {task.name for task in tasks if task.name}
    names: dict[int, str] = {}
    for number, task in enumerate(tasks, 1):
        name = task.name or f"task_{number}"
        while task.name is None and name in taken:
            name += "_"
        taken.add(name)
        names[id(task)] = name
    return names
