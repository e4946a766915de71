"""A crew's documents made of what a request says, or every fault in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kasal_jupyter.errors import Fault, Faults, InvalidRequest, listed
from kasal_jupyter.schemas.agents import Agent, AgentFields, CrewAgent, agent_places
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.crews import Crew, WholeCrew, agent_called
from kasal_jupyter.schemas.readiness import no_agent, read_contexts
from kasal_jupyter.schemas.tasks import CrewTask, Task

INVALID_CREW = "Invalid crew configuration"
"""The message of the reference's own example of an error."""


def assemble(
    crew: Crew, agents: Sequence[CrewAgent], tasks: Sequence[CrewTask], *, before: WholeCrew | None
) -> WholeCrew:
    """Make a crew's documents of what a body says.

    Parameters
    ----------
    crew
        The crew's own document.
    agents, tasks
        Its members as the body gives them.
    before
        The crew as it was: a member of the same id or name keeps its id.

    Raises
    ------
    InvalidRequest
        With every fault, by field.
    """
    faults = Faults()
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
        made = make_agent(agent, crew, crew.owner, position=place, taken=taken, old=old)
        taken.add(made.name)
        made_agents.append(made)
    places = agent_places(made_agents)
    made_tasks: list[Task] = []
    for place, task in enumerate(tasks):
        agent_place = places.get(task.agent) if task.agent else None
        agent_id = None if agent_place is None else made_agents[agent_place].id
        if task.agent and agent_id is None:
            names = listed(agent.name for agent in made_agents)
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
    try:
        crew = with_manager(crew, made_agents)
    except InvalidRequest as error:
        faults += error.faults
    if faults:
        raise InvalidRequest(INVALID_CREW, faults=faults.told())
    return WholeCrew.model_construct(crew=crew, agents=made_agents, tasks=made_tasks)


def with_manager(crew: Crew, agents: Sequence[Agent]) -> Crew:
    """Give the crew with its manager's id, whatever its body calls it: an agent may get another name.

    Raises
    ------
    InvalidRequest
        The crew has no such agent.
    """
    if crew.manager_agent is None:
        return crew
    manager = agent_called(crew.manager_agent, agents)
    if manager is None:
        raise InvalidRequest(
            INVALID_CREW, faults=[Fault("manager_agent", no_agent(crew.manager_agent, agents))]
        )
    return crew.model_copy(update={"manager_agent": manager.id})


def make_agent(
    body: AgentFields, crew: Crew, owner: str, *, position: int, taken: set[str], old: Agent | None = None
) -> Agent:
    """Make an agent's document; without a name it is called by its role, told apart from names ``taken``."""
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
    seen: set[str] = set()
    faults = []
    for place, name in enumerate(names):
        if name in seen:
            faults.append(
                Fault(f"{field}[{place}].name", f"{name!r} is used twice; names are unique in a crew")
            )
        elif name is not None:
            seen.add(name)
    return faults


def as_crew_agent(agent: Agent) -> CrewAgent:
    """Give a stored agent as a body would say it."""
    return CrewAgent.model_validate(agent.model_dump(include=set(CrewAgent.model_fields)))


def as_crew_task(task: Task) -> CrewTask:
    """Give a stored task as a body would say it."""
    fields = task.model_dump(include=set(CrewTask.model_fields))
    return CrewTask.model_validate({**fields, "agent": task.agent_id})
