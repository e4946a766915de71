"""Crews with their agents and tasks: what changes several tables at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound, PreconditionFailed
from kasal_jupyter.schemas.agents import Agent, AgentCreate, AgentFields, CrewAgent
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.context import read_contexts
from kasal_jupyter.schemas.crews import Crew, CrewCreate, CrewUpdate, WholeCrew
from kasal_jupyter.schemas.tasks import CrewTask, Task, TaskCreate
from kasal_jupyter.store.store import Store

INVALID_CREW = "Invalid crew configuration"
"""The message of the reference's own example of an error."""


class Crews:
    """The crews of a store. Every change is one transaction: all of it is stored, or nothing.

    Parameters
    ----------
    store
        The opened data folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def whole(self, crew_id: str) -> WholeCrew:
        """Give a crew with its agents and tasks, in their order.

        Raises
        ------
        NotFound
            There is no such crew.
        """
        crew = self.store.crews.get(crew_id)
        if crew is None:
            raise NotFound(
                f"There is no crew {crew_id}", faults=[Fault("crew_id", f"There is no crew {crew_id}")]
            )
        return WholeCrew.model_construct(
            crew=crew,
            agents=sorted(self.store.agents.find(crew_id=crew_id), key=lambda agent: agent.position),
            tasks=sorted(self.store.tasks.find(crew_id=crew_id), key=lambda task: task.position),
        )

    async def create(self, body: CrewCreate, owner: str) -> WholeCrew:
        """Store a new crew.

        Raises
        ------
        InvalidRequest
            With every fault by field; nothing was stored.
        """
        now = utc_now()
        crew = Crew(
            **body.model_dump(exclude={"agents", "tasks"}),
            id=new_id("crew"),
            owner=owner,
            created_at=now,
            updated_at=now,
        )
        whole = _assemble(crew, body.agents, body.tasks, before=None)

        def insert() -> None:
            self.store.crews.insert(crew)
            self._insert_members(whole)

        await self.store.change(insert)
        return whole

    async def update(self, crew_id: str, body: CrewUpdate, *, version: int | None = None) -> Crew:
        """Change what the body gives; a given list of agents or tasks replaces the whole list.

        Agents and tasks keep their ids where the new list has the same id or name.

        Parameters
        ----------
        crew_id
            The crew.
        body
            What changes.
        version
            Refuse unless the crew still has this version.

        Raises
        ------
        NotFound, InvalidRequest
            Nothing was changed.
        PreconditionFailed
            Somebody else changed the crew in the meantime.
        """

        def change() -> Crew:
            before = self.whole(crew_id)
            if version is not None and before.crew.version != version:
                raise PreconditionFailed(
                    f"The crew is at version {before.crew.version}; read it again and repeat the change"
                )
            given = body.model_dump(exclude_unset=True, exclude={"agents", "tasks"})
            fields = {
                name: value for name, value in given.items() if value is not None or name == "manager_model"
            }
            crew = _touched(before.crew).model_copy(update=fields)
            self.store.crews.replace(crew)
            if body.agents is not None or body.tasks is not None:
                whole = _assemble(
                    crew,
                    [_as_member(agent) for agent in before.agents] if body.agents is None else body.agents,
                    [_as_crew_task(task) for task in before.tasks] if body.tasks is None else body.tasks,
                    before=before,
                )
                self.store.agents.delete_where(crew_id=crew_id)
                self.store.tasks.delete_where(crew_id=crew_id)
                self._insert_members(whole)
            return crew

        return await self.store.change(change)

    async def delete(self, crew_id: str) -> None:
        """Delete a crew with its agents and tasks; its past executions stay.

        Raises
        ------
        NotFound
            There is no such crew.
        """

        def delete() -> None:
            self.whole(crew_id)
            self.store.tasks.delete_where(crew_id=crew_id)
            self.store.agents.delete_where(crew_id=crew_id)
            self.store.crews.delete(crew_id)

        await self.store.change(delete)

    async def add_agent(self, body: AgentCreate, owner: str) -> Agent:
        """Add an agent to a crew.

        Raises
        ------
        NotFound
            There is no such crew.
        InvalidRequest
            The crew has an agent of this name.
        """

        def insert() -> Agent:
            whole = self.whole(body.crew_id)
            names = {agent.name for agent in whole.agents}
            if body.name in names:
                raise InvalidRequest(
                    "Invalid agent",
                    faults=[Fault("name", f"The crew has an agent {body.name!r}; choose another name")],
                )
            agent = _agent(body, whole.crew, owner, position=_next(whole.agents), taken=names)
            self.store.agents.insert(agent)
            self.store.crews.replace(_touched(whole.crew))
            return agent

        return await self.store.change(insert)

    async def add_task(self, body: TaskCreate, owner: str) -> Task:
        """Add a task to the end of its agent's crew.

        Raises
        ------
        NotFound
            There is no such agent.
        InvalidRequest
            The crew has a task of this name, or the context cannot work.
        """

        def insert() -> Task:
            agent = self.store.agents.get(body.agent_id)
            if agent is None:
                text = f"There is no agent {body.agent_id}"
                raise NotFound(text, faults=[Fault("agent_id", text)])
            whole = self.whole(agent.crew_id)
            if body.name is not None and body.name in {task.name for task in whole.tasks}:
                raise InvalidRequest(
                    "Invalid task",
                    faults=[Fault("name", f"The crew has a task {body.name!r}; choose another name")],
                )
            now = utc_now()
            task = Task(
                **body.model_dump(),
                id=new_id("task"),
                crew_id=agent.crew_id,
                position=_next(whole.tasks),
                owner=owner,
                created_at=now,
                updated_at=now,
            )
            _, faults = read_contexts([*whole.tasks, task])
            own = f"tasks[{len(whole.tasks)}]."
            if mine := [
                Fault(each.field.removeprefix(own), each.reason)
                for each in faults
                if each.field.startswith(own)
            ]:
                raise InvalidRequest("Invalid task", faults=mine)
            self.store.tasks.insert(task)
            self.store.crews.replace(_touched(whole.crew))
            return task

        return await self.store.change(insert)

    def _insert_members(self, whole: WholeCrew) -> None:
        for agent in whole.agents:
            self.store.agents.insert(agent)
        for task in whole.tasks:
            self.store.tasks.insert(task)


def _assemble(
    crew: Crew, agents: Sequence[CrewAgent], tasks: Sequence[CrewTask], *, before: WholeCrew | None
) -> WholeCrew:
    """Make a crew's documents of what a body says, or refuse it with every fault."""
    faults: list[Fault] = []
    if not agents:
        faults.append(Fault("agents", "At least one agent required"))
    faults += _duplicates("agents", [agent.name for agent in agents])
    faults += _duplicates("tasks", [task.name for task in tasks])
    old_agents = {key: agent for agent in (before.agents if before else []) for key in (agent.id, agent.name)}
    old_tasks = {
        key: task for task in (before.tasks if before else []) for key in (task.id, task.name) if key
    }
    taken = {agent.name for agent in agents if agent.name}
    made_agents: list[Agent] = []
    for place, agent in enumerate(agents):
        old = old_agents.get(agent.id or agent.name or agent.role)
        if agent.id is not None and old is None:
            faults.append(Fault(f"agents[{place}].id", f"The crew has no agent {agent.id}; leave the id out"))
        made = _agent(agent, crew, crew.owner, position=place, taken=taken, old=old)
        taken.add(made.name)
        made_agents.append(made)
    by_key = {key: agent.id for agent in reversed(made_agents) for key in (agent.role, agent.name, agent.id)}
    made_tasks: list[Task] = []
    for place, task in enumerate(tasks):
        agent_id = by_key.get(task.agent) if task.agent else None
        if task.agent and agent_id is None:
            names = ", ".join(agent.name for agent in made_agents)
            faults.append(
                Fault(f"tasks[{place}].agent", f"The crew has no agent {task.agent!r}; it has {names}")
            )
        old_task = old_tasks.get(task.id or task.name or "")
        if task.id is not None and old_task is None:
            faults.append(Fault(f"tasks[{place}].id", f"The crew has no task {task.id}; leave the id out"))
        made_tasks.append(
            Task(
                **task.model_dump(exclude={"id", "agent"}),
                id=old_task.id if old_task else new_id("task"),
                crew_id=crew.id,
                agent_id=agent_id,
                position=place,
                owner=crew.owner,
                created_at=old_task.created_at if old_task else crew.updated_at,
                updated_at=crew.updated_at,
            )
        )
    faults += read_contexts(made_tasks)[1]
    if faults:
        raise InvalidRequest(INVALID_CREW, faults=faults)
    return WholeCrew.model_construct(crew=crew, agents=made_agents, tasks=made_tasks)


def _agent(
    body: AgentFields, crew: Crew, owner: str, *, position: int, taken: set[str], old: Agent | None = None
) -> Agent:
    fields: dict[str, Any] = body.model_dump(exclude={"id", "crew_id"})
    fields["name"] = body.name or _free_name(body.role, taken)
    now = utc_now()
    return Agent(
        **fields,
        id=old.id if old else new_id("agent"),
        crew_id=crew.id,
        position=position,
        owner=owner,
        created_at=old.created_at if old else now,
        updated_at=now,
    )


def _free_name(role: str, taken: set[str]) -> str:
    """Name an agent after its role, numbered where the crew has that name already."""
    name = " ".join(role.split())[:180]
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def _duplicates(field: str, names: Sequence[str | None]) -> list[Fault]:
    return [
        Fault(f"{field}[{place}].name", f"{name!r} is used twice; names are unique in a crew")
        for place, name in enumerate(names)
        if name is not None and name in names[:place]
    ]


def _as_member(agent: Agent) -> CrewAgent:
    return CrewAgent.model_validate(agent.model_dump(include=set(CrewAgent.model_fields)))


def _as_crew_task(task: Task) -> CrewTask:
    fields = task.model_dump(include=set(CrewTask.model_fields))
    return CrewTask.model_validate({**fields, "agent": task.agent_id})


def _touched(crew: Crew) -> Crew:
    return crew.model_copy(update={"version": crew.version + 1, "updated_at": utc_now()})


def _next(members: Sequence[Agent] | Sequence[Task]) -> int:
    return max((member.position for member in members), default=-1) + 1
