"""A crew as other formats write one down: every member with a name, and every reference by that name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.schemas.agents import AgentFields
from kasal_jupyter.schemas.crews import CrewConfiguration, CrewCreate, CrewDetails, CrewFields, WholeCrew
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.tasks import TaskFields


@dataclass(frozen=True, slots=True)
class Exported:
    """A crew that was written in another format.

    Attributes
    ----------
    files
        The files' content by their paths.
    remarks
        What could not be carried over, or was carried over otherwise.
    """

    files: dict[str, str]
    remarks: list[Remark] = field(default_factory=list)

    @property
    def only(self) -> tuple[str, str]:
        """The path and the content of the one file that there is."""
        ((path, text),) = self.files.items()
        return path, text


@dataclass(frozen=True, slots=True)
class Outline:
    """A crew to be written.

    Attributes
    ----------
    crew
        The crew: its agents and tasks have names, a task's ``agent`` and ``context`` are such names, and a
        ``context`` has no texts any more.
    texts
        The texts of each task's ``context``.
    remarks
        What had to be changed for that.
    """

    crew: CrewCreate
    texts: list[list[str]]
    remarks: list[Remark]


def whole_body(crew: WholeCrew | CrewDetails) -> CrewCreate:
    """Give a stored crew as a body that would make it again: references by name, where there are names."""
    if isinstance(crew, WholeCrew):
        head = crew.crew.model_dump(include=set(CrewFields.model_fields))
    else:
        configuration = crew.configuration.model_dump(include=set(CrewConfiguration.model_fields))
        head = {"name": crew.name, "description": crew.description, **configuration}
    agents = {agent.id: agent.name for agent in crew.agents}
    tasks = {task.id: task.name for task in crew.tasks}
    if head.get("manager_agent") in agents:
        head["manager_agent"] = agents[head["manager_agent"]]
    dumped = crew.model_dump(include={"agents", "tasks"}, exclude_unset=False)
    return CrewCreate.model_validate(
        {
            **head,
            "agents": [_kept(agent, _OF_AN_AGENT) for agent in dumped["agents"]],
            "tasks": [
                _kept(task, _OF_A_TASK)
                | {
                    "agent": agents.get(task["agent_id"]),
                    "context": None
                    if task["context"] is None
                    else [tasks.get(entry) or entry for entry in task["context"]],
                }
                for task in dumped["tasks"]
            ],
        }
    )


def outline(crew: CrewCreate) -> Outline:
    """Name everything in a crew, and tell the tasks in each ``context`` from its texts."""
    remarks: list[Remark] = []
    names = _agent_names(crew, remarks)
    roles = {agent.role: name for agent, name in reversed(list(zip(crew.agents, names, strict=True)))}
    keys = roles | {name: name for name in names}
    keys |= {agent.id: name for agent, name in zip(crew.agents, names, strict=True) if agent.id}
    titles = _task_names(crew, remarks)
    known = {title: title for title in titles}
    known |= {task.id: title for task, title in zip(crew.tasks, titles, strict=True) if task.id}
    # A stored task without a name is known by its place alone: `whole_body` leaves its id in the context.
    tasks = []
    texts: list[list[str]] = []
    for task, title in zip(crew.tasks, titles, strict=True):
        entries = task.context or []
        found = [known.get(entry) or known.get(entry.strip()) for entry in entries]
        context = [name for name in found if name is not None]
        texts.append([entry for entry, name in zip(entries, found, strict=True) if name is None])
        tasks.append(
            task.model_copy(
                update={
                    "id": None,
                    "name": title,
                    "agent": keys.get(task.agent, task.agent) if task.agent else None,
                    # Texts alone say nothing of the tasks before.
                    "context": context if context or task.context == [] else None,
                }
            )
        )
    agents = [
        agent.model_copy(update={"id": None, "name": name})
        for agent, name in zip(crew.agents, names, strict=True)
    ]
    manager = crew.manager_agent
    named = crew.model_copy(
        update={
            "agents": agents,
            "tasks": tasks,
            "manager_agent": keys.get(manager, manager) if manager else None,
        }
    )
    return Outline(named, texts, remarks)


def with_texts(found: Outline, remarks: list[Remark]) -> CrewCreate:
    """Give the crew with the texts of each ``context`` in the task's description, as a run has them."""
    tasks = []
    for place, (task, texts) in enumerate(zip(found.crew.tasks, found.texts, strict=True)):
        if not texts:
            tasks.append(task)
            continue
        remarks.append(
            Remark(
                field=f"tasks[{place}].context",
                reason="there are only tasks in a context there; its texts stand in the description now",
            )
        )
        description = task.description + "\n\nContext:\n" + "\n".join(f"- {text}" for text in texts)
        tasks.append(task.model_copy(update={"description": description}))
    return found.crew.model_copy(update={"tasks": tasks})


_OF_AN_AGENT = tuple(AgentFields.model_fields)
_OF_A_TASK = ("id", *TaskFields.model_fields)


def _kept(member: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: member[name] for name in names}


def _agent_names(crew: CrewCreate, remarks: list[Remark]) -> list[str]:
    """Give each agent's name; one without is called by its role, as it is when it is stored."""
    taken = {agent.name for agent in crew.agents if agent.name}
    names = []
    for place, agent in enumerate(crew.agents):
        name = agent.name
        if name is None:
            role = " ".join(agent.role.split())[:180]
            name = _free(role, taken, " ")
            remarks.append(
                Remark(field=f"agents[{place}].name", reason=f"it has none, and is called {name!r} there")
            )
        taken.add(name)
        names.append(name)
    return names


def _task_names(crew: CrewCreate, remarks: list[Remark]) -> list[str]:
    taken = {task.name for task in crew.tasks if task.name}
    names = []
    for number, task in enumerate(crew.tasks, 1):
        name = task.name
        if name is None:
            name = _free(f"task_{number}", taken, "_")
            remarks.append(
                Remark(field=f"tasks[{number - 1}].name", reason=f"it has none, and is called {name!r} there")
            )
        taken.add(name)
        names.append(name)
    return names


def _free(name: str, taken: set[str], between: str) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}{between}{number}"
    return free


def file_name(name: str) -> str:
    """Give a crew's name as a file's that every system takes."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60] or "crew"
