"""Crews with their agents and tasks: what changes several tables at once."""

from __future__ import annotations

from collections.abc import Sequence

from kasal_jupyter.errors import Fault, InvalidRequest, NotFound, PreconditionFailed
from kasal_jupyter.schemas.agents import Agent, AgentCreate
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.context import read_contexts
from kasal_jupyter.schemas.crews import Crew, CrewCreate, CrewUpdate, WholeCrew
from kasal_jupyter.schemas.tasks import Task, TaskCreate
from kasal_jupyter.store.assembly import as_crew_agent, as_crew_task, assemble, make_agent
from kasal_jupyter.store.store import Store


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
        # Of one moment: a change may replace the agents and tasks between two reads.
        with self.store.snapshot():
            crew = self.store.crews.get(crew_id)
            agents = self.store.agents.find(crew_id=crew_id)
            tasks = self.store.tasks.find(crew_id=crew_id)
        if crew is None:
            text = f"There is no crew {crew_id}"
            raise NotFound(text, faults=[Fault("crew_id", text)])
        return WholeCrew.model_construct(crew=crew, agents=agents, tasks=tasks)

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
        whole = assemble(crew, body.agents, body.tasks, before=None)

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
                whole = assemble(
                    crew,
                    [as_crew_agent(agent) for agent in before.agents] if body.agents is None else body.agents,
                    [as_crew_task(task) for task in before.tasks] if body.tasks is None else body.tasks,
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
            agent = make_agent(body, whole.crew, owner, position=_next(whole.agents), taken=names)
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


def _touched(crew: Crew) -> Crew:
    return crew.model_copy(update={"version": crew.version + 1, "updated_at": utc_now()})


def _next(members: Sequence[Agent] | Sequence[Task]) -> int:
    return max((member.position for member in members), default=-1) + 1
