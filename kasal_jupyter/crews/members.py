"""The agents and tasks of crews, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from kasal_jupyter.crews.assembly import make_agent
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.versions import Change
from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, NotFound
from kasal_jupyter.schemas.agents import Agent, AgentCreate, AgentUpdate
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.readiness import read_contexts
from kasal_jupyter.schemas.tasks import Task, TaskCreate, TaskUpdate

N = TypeVar("N", Agent, Task)


class Members:
    """The agents and tasks of a store's crews.

    Every change counts as one of the crew, whose status and version it brings up to date in the same
    transaction; ``made`` says who makes it, the crew's owner by default. What belongs to a crew belongs to
    the crew's owner, whoever adds it.

    Parameters
    ----------
    crews
        The store's crews.
    """

    def __init__(self, crews: Crews) -> None:
        self.crews = crews
        self.store = crews.store

    async def add_agent(self, body: AgentCreate, made: Change | None = None) -> Agent:
        """Add an agent to a crew.

        Raises
        ------
        NotFound
            There is no such crew.
        InvalidRequest
            The crew has an agent of this name.
        """

        def insert() -> Agent:
            whole = self.crews.whole(body.crew_id)
            _refuse_taken(body.name, whole.agents, "agent")
            agent = make_agent(
                body,
                whole.crew,
                whole.crew.owner,
                position=_next(whole.agents),
                taken={agent.name for agent in whole.agents},
            )
            self.store.agents.insert(agent)
            self._touch(whole, made, agents=[*whole.agents, agent])
            return agent

        return await self.store.change(insert, bounded=True)

    async def update_agent(self, agent_id: str, body: AgentUpdate, made: Change | None = None) -> Agent:
        """Change what the body gives.

        Raises
        ------
        NotFound
            There is no such agent.
        InvalidRequest
            The crew has another agent of the new name.
        """

        def change() -> Agent:
            agent = self._agent(agent_id)
            whole = self.crews.whole(agent.crew_id)
            others = [other for other in whole.agents if other.id != agent_id]
            _refuse_taken(body.name, others, "agent")
            fields = {**body.model_dump(exclude_unset=True), "updated_at": utc_now()}
            changed = self.store.agents.update(agent_id, fields)
            self._touch(whole, made, agents=_exchanged(whole.agents, changed))
            return changed

        return await self.store.change(change, bounded=True)

    async def delete_agent(self, agent_id: str, made: Change | None = None) -> None:
        """Take an agent out of its crew.

        Raises
        ------
        NotFound
            There is no such agent.
        Conflict
            It has tasks, manages the crew, or is its last agent.
        """

        def delete() -> None:
            agent = self._agent(agent_id)
            whole = self.crews.whole(agent.crew_id)
            if tasks := [task.title() for task in whole.tasks if task.agent_id == agent_id]:
                raise Conflict(
                    f"{agent.name!r} has tasks: {', '.join(tasks)}; give them to another, or delete them"
                )
            if whole.crew.manager_agent == agent_id:
                raise Conflict(f"{agent.name!r} manages the crew; give it another manager first")
            if len(whole.agents) == 1:
                raise Conflict(f"{agent.name!r} is the crew's last agent; delete the crew instead")
            self.store.agents.delete(agent_id)
            self._touch(whole, made, agents=[other for other in whole.agents if other.id != agent_id])

        await self.store.change(delete)

    async def add_task(self, body: TaskCreate, made: Change | None = None) -> Task:
        """Add a task to the end of its agent's crew.

        Raises
        ------
        NotFound
            There is no such agent.
        InvalidRequest
            The crew has a task of this name, or the context cannot work.
        """

        def insert() -> Task:
            agent = self._agent(body.agent_id, field="agent_id")
            whole = self.crews.whole(agent.crew_id)
            _refuse_taken(body.name, whole.tasks, "task")
            now = utc_now()
            task = Task(
                **body.model_dump(),
                id=new_id("task"),
                crew_id=agent.crew_id,
                position=_next(whole.tasks),
                owner=whole.crew.owner,
                created_at=now,
                updated_at=now,
            )
            tasks = [*whole.tasks, task]
            _check_context(tasks, len(whole.tasks))
            self.store.tasks.insert(task)
            self._touch(whole, made, tasks=tasks)
            return task

        return await self.store.change(insert, bounded=True)

    async def update_task(self, task_id: str, body: TaskUpdate, made: Change | None = None) -> Task:
        """Change what the body gives.

        Raises
        ------
        NotFound
            There is no such task.
        InvalidRequest
            The crew has another task of the new name, no such agent, or a context cannot work.
        """

        def change() -> Task:
            task = self.store.tasks.required(task_id, "task")
            whole = self.crews.whole(task.crew_id)
            _refuse_taken(body.name, [other for other in whole.tasks if other.id != task_id], "task")
            if body.agent_id is not None and body.agent_id not in {agent.id for agent in whole.agents}:
                reason = f"The crew has no agent {body.agent_id}; name one of the crew's"
                raise InvalidRequest("Invalid task", faults=[Fault("agent_id", reason)])
            if "name" in body.model_fields_set and body.name != task.name:
                _refuse_needed(task, whole.tasks, "is named")
            fields = {**body.model_dump(exclude_unset=True), "updated_at": utc_now()}
            changed = self.store.tasks.update(task_id, fields)
            tasks = _exchanged(whole.tasks, changed)
            _check_context(tasks, tasks.index(changed))
            self._touch(whole, made, tasks=tasks)
            return changed

        return await self.store.change(change, bounded=True)

    async def delete_task(self, task_id: str, made: Change | None = None) -> None:
        """Take a task out of its crew.

        Raises
        ------
        NotFound
            There is no such task.
        Conflict
            Other tasks get its result.
        """

        def delete() -> None:
            task = self.store.tasks.required(task_id, "task")
            whole = self.crews.whole(task.crew_id)
            _refuse_needed(task, whole.tasks, "stands")
            self.store.tasks.delete(task_id)
            self._touch(whole, made, tasks=[other for other in whole.tasks if other.id != task_id])

        await self.store.change(delete)

    def _agent(self, agent_id: str, *, field: str | None = None) -> Agent:
        agent = self.store.agents.get(agent_id)
        if agent is None:
            text = f"There is no agent {agent_id}"
            raise NotFound(text, faults=[Fault(field, text)] if field else [])
        return agent

    def _touch(
        self,
        whole: WholeCrew,
        made: Change | None,
        *,
        agents: Sequence[Agent] | None = None,
        tasks: Sequence[Task] | None = None,
    ) -> None:
        now = WholeCrew.model_construct(
            crew=whole.crew,
            agents=whole.agents if agents is None else list(agents),
            tasks=whole.tasks if tasks is None else list(tasks),
        )
        self.crews.put(now, made, whole)


def _refuse_taken(name: str | None, members: Sequence[Agent] | Sequence[Task], kind: str) -> None:
    if name is not None and name in {member.name for member in members}:
        reason = f"The crew has another {kind} {name!r}; choose another name"
        raise InvalidRequest(f"Invalid {kind}", faults=[Fault("name", reason)])


def _refuse_needed(task: Task, tasks: Sequence[Task], how: str) -> None:
    """Refuse what would turn a reference to a task into a text for the model, without a word."""
    contexts, _ = read_contexts(tasks)
    needing = [
        other.title() for other, context in zip(tasks, contexts, strict=True) if task.id in context.tasks
    ]
    if needing:
        raise Conflict(
            f"{task.title()!r} {how} in the context of {', '.join(needing)}; take it out there first"
        )


def _check_context(tasks: Sequence[Task], place: int) -> None:
    _, faults = read_contexts(tasks)
    own = f"tasks[{place}]."
    mine = [
        Fault(fault.field.removeprefix(own), fault.reason) for fault in faults if fault.field.startswith(own)
    ]
    if mine:
        raise InvalidRequest("Invalid task", faults=mine)


def _exchanged(members: Sequence[N], changed: N) -> list[N]:
    return [changed if member.id == changed.id else member for member in members]


def _next(members: Sequence[Agent] | Sequence[Task]) -> int:
    return max((member.position for member in members), default=-1) + 1
