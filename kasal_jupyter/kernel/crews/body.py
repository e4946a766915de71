"""The agents and tasks of a crew as the API takes them, by name: as objects they need not have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kasal_jupyter.kernel.crews.members import Agent, Task
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.agents import CrewAgent, agent_places
from kasal_jupyter.schemas.tasks import CrewTask


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
