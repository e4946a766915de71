"""A crew as a plan that can be drawn: its tasks in order, who does them, and what each builds on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kasal_jupyter.errors import Fault
from kasal_jupyter.schemas.agents import Agent, AgentFields, CrewAgent, agent_places
from kasal_jupyter.schemas.crews import CrewConfiguration, CrewCreate, CrewDetails
from kasal_jupyter.schemas.placeholders import names, texts_of
from kasal_jupyter.schemas.tasks import CrewTask, Task, TaskCondition, TaskFields

_BY_PLACE = re.compile(r"^(agents|tasks)\[(\d{1,6})\](.*)$")


@dataclass(frozen=True, slots=True)
class Step:
    """A task in its place.

    Attributes
    ----------
    place
        Where it stands, counted from 0.
    title
        Its name, or the first line of what it says.
    key
        Its id where it has one, else its name: what a state is given by.
    agent
        Who does it, by name; None where a manager chooses, or where nobody is named.
    agent_place
        That agent's place in the crew's list.
    model
        The agent's; None for the server's default.
    tools
        The agent's and its own.
    after
        The places of the tasks that its context names, in order.
    texts
        The context's plain texts.
    given
        The places of the tasks whose results it is given without naming any. CrewAI's rule: all before it;
        one that runs beside the others, only the last that was waited for.
    """

    place: int
    title: str
    key: str
    agent: str | None
    agent_place: int | None
    model: str | None
    tools: tuple[str, ...]
    after: tuple[int, ...]
    texts: tuple[str, ...]
    given: tuple[int, ...]
    task: TaskFields

    @property
    def number(self) -> int:
        """Its place as people count."""
        return self.place + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A crew's steps.

    Attributes
    ----------
    manager
        Who manages a hierarchical crew: an agent of it with its model, or the model of CrewAI's own manager,
        ``default`` where it names none; None in a sequential one.
    planner
        The model that plans before the tasks, likewise; None where nothing does.
    """

    name: str
    steps: list[Step]
    agents: Sequence[AgentFields]
    manager: str | None = None
    planner: str | None = None
    unknown: list[str] = field(default_factory=list)
    """Agents that tasks name and that the crew does not have."""


def plan_of(crew: CrewDetails | CrewCreate) -> Plan:
    """Read a crew, stored or not yet, as a plan; it may be unfinished."""
    how = crew.configuration if isinstance(crew, CrewDetails) else crew
    agents: list[Agent | CrewAgent] = [*crew.agents]
    places = agent_places(agents)
    known: dict[str, int] = {}
    steps: list[Step] = []
    unknown: list[str] = []
    tasks: list[Task | CrewTask] = [*crew.tasks]
    for place, task in enumerate(tasks):
        who = task.agent_id if isinstance(task, Task) else task.agent
        at = places.get(who) if who else None
        if who and at is None:
            unknown.append(who)
        agent = agents[at] if at is not None else None
        context = task.context or ()
        after = tuple(known[entry.strip()] for entry in context if entry.strip() in known)
        texts = tuple(entry for entry in context if entry.strip() not in known)
        alone = bool(after) or task.context == []
        steps.append(
            Step(
                place=place,
                title=task.title(),
                key=task.id or task.name or str(place),
                agent=(agent.name or agent.role) if agent else who,
                agent_place=at,
                model=agent.model if agent else None,
                tools=tuple(dict.fromkeys([*(agent.tools if agent else ()), *task.tools])),
                after=after,
                texts=texts,
                given=() if alone else _given(tasks[:place], beside=task.async_execution),
                task=task,
            )
        )
        known |= {key: place for key in (task.id, task.name) if key}
    return Plan(
        name=crew.name,
        steps=steps,
        agents=agents,
        manager=_manager(how, agents, places) if how.process == "hierarchical" else None,
        planner=(how.planning_model or "default") if how.planning else None,
        unknown=unknown,
    )


def _manager(
    how: CrewConfiguration | CrewCreate, agents: Sequence[AgentFields], places: Mapping[str, int]
) -> str:
    if how.manager_agent is None:
        return how.manager_model or "default"
    place = places.get(how.manager_agent)
    if place is None:
        return f"{how.manager_agent} (no such agent)"
    return f"{agents[place].name or agents[place].role} · {agents[place].model or 'default'}"


def condition_words(condition: TaskCondition) -> str:
    """Say when a conditional task is done."""
    asked = [
        f"{word} {json.dumps(wanted, ensure_ascii=False)}"
        for word, wanted in (
            ("contains", condition.contains),
            ("lacks", condition.lacks),
            ("matches", condition.matches),
            ("equals", condition.equals),
        )
        if wanted is not None
    ]
    return f"only if {condition.field or 'the result'} {' and '.join(asked)}"


def _given(before: list[Task | CrewTask], *, beside: bool) -> tuple[int, ...]:
    if not beside:
        return tuple(range(len(before)))
    return tuple(place for place, task in enumerate(before) if not task.async_execution)[-1:]


def inputs_of(crew: CrewDetails | CrewCreate) -> list[str]:
    """Give the names of a crew's ``{placeholders}``, in the order they are read."""
    texts = (*texts_of((), crew.tasks), *texts_of(crew.agents, ()))
    return list(dict.fromkeys(name for text, _ in texts for name in names(text)))


def field_by_name(field: str, crew: CrewDetails | CrewCreate) -> str:
    """Give a field of a counted member, ``agents[0].model``, by its name: ``agents.writer.model``."""
    path = _BY_PLACE.match(field)
    listed: Sequence[Agent | CrewAgent | Task | CrewTask] = ()
    if path is not None:
        listed = crew.agents if path[1] == "agents" else crew.tasks
    if path is None or int(path[2]) >= len(listed) or not (name := listed[int(path[2])].name):
        return field
    return f"{path[1]}.{name}{path[3]}"


def faults_by_name(faults: Iterable[Fault], crew: CrewDetails | CrewCreate) -> tuple[Fault, ...]:
    """Give the server's faults with their fields by name."""
    return tuple(Fault(field_by_name(fault.field, crew), fault.reason) for fault in faults)
