"""What a crew's content must have before it can run, and what its tasks' ``context`` means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate

from kasal_jupyter.errors import Fault, listed, nearest
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.base import ID_ALPHABET, ID_LENGTH
from kasal_jupyter.schemas.crews import CrewConfiguration, CrewFields, managing_agent
from kasal_jupyter.schemas.tasks import Task

UNWRITTEN = "(to be written)"
"""Stands in the place of a text that a crew of another format had left empty."""

RUN_LOG = "output.log"
"""The file of a run's folder that has what its process has printed."""


def content_faults(
    crew: CrewFields | CrewConfiguration, agents: Sequence[Agent], tasks: Sequence[Task]
) -> list[Fault]:
    """Find what keeps a crew from running; while there is anything, it is ``configuring``.

    Parameters
    ----------
    crew
        The crew, or what of it says how it works.
    agents, tasks
        The crew's, in their order.
    """
    faults: list[Fault] = []
    if not agents:
        faults.append(Fault("agents", "At least one agent required"))
    if not tasks:
        faults.append(Fault("tasks", "At least one task required"))
    contexts, wrong = read_contexts(tasks)
    faults += wrong
    faults += _manager_faults(crew, agents, tasks)
    faults += _agent_faults(crew.process, agents, tasks)
    faults += _async_faults(tasks, contexts)
    faults += _condition_faults(tasks)
    faults += _file_faults(tasks)
    faults += _unwritten_faults(agents, tasks)
    return faults


def _manager_faults(
    crew: CrewFields | CrewConfiguration, agents: Sequence[Agent], tasks: Sequence[Task]
) -> Iterator[Fault]:
    """CrewAI's rules for a manager that is an agent: it has no tools, and is none of those who work."""
    if crew.process != "hierarchical" or crew.manager_agent is None:
        return
    manager = managing_agent(crew, agents)
    if manager is None:
        yield Fault("manager_agent", no_agent(crew.manager_agent, agents))
        return
    if manager.tools:
        yield Fault(
            f"agents[{list(agents).index(manager)}].tools",
            f"{manager.name!r} manages the crew, and a manager has no tools; give them to those who work",
        )
    if len(agents) == 1:
        yield Fault("agents", f"{manager.name!r} manages the crew, and nobody does the work; add an agent")
    for place, task in enumerate(tasks):
        if task.agent_id == manager.id:
            yield Fault(
                f"tasks[{place}].agent",
                f"{manager.name!r} manages the crew and does no tasks; name another agent, or none",
            )


def no_agent(name: str, agents: Sequence[Agent]) -> str:
    """Say that a crew has no such agent, and which it has."""
    names = [agent.name for agent in agents]
    hint = nearest(name, names) or f"; it has {listed(names)}"
    return f"The crew has no agent {name!r}{hint}"


def _condition_faults(tasks: Sequence[Task]) -> Iterator[Fault]:
    """CrewAI's rules for conditional tasks."""
    for place, task in enumerate(tasks):
        if task.condition is None:
            continue
        if place == 0:
            yield Fault(
                "tasks[0].condition",
                "There is no result before the first task; take its condition out, or move it behind another",
            )
        if task.async_execution:
            yield Fault(
                f"tasks[{place}].condition",
                "A task with a condition cannot be asynchronous; take out one of the two",
            )


def _unwritten_faults(agents: Sequence[Agent], tasks: Sequence[Task]) -> Iterator[Fault]:
    for kind, members, names in (
        ("agents", agents, ("role", "goal")),
        ("tasks", tasks, ("description", "expected_output")),
    ):
        for place, member in enumerate(members):
            for name in names:
                if getattr(member, name).strip() == UNWRITTEN:
                    yield Fault(f"{kind}[{place}].{name}", "It is still to be written")


def _file_faults(tasks: Sequence[Task]) -> Iterator[Fault]:
    for place, task in enumerate(tasks):
        if task.output_file is not None and task.output_file.casefold() == RUN_LOG:
            yield Fault(f"tasks[{place}].output_file", f"{RUN_LOG} is the run's own log; choose another name")


def _agent_faults(process: str, agents: Sequence[Agent], tasks: Sequence[Task]) -> Iterator[Fault]:
    known = {agent.id for agent in agents}
    for place, task in enumerate(tasks):
        if task.agent_id is None and process == "sequential":
            yield Fault(
                f"tasks[{place}].agent", "A task of a sequential crew needs an agent; name one of the crew's"
            )
        elif task.agent_id is not None and task.agent_id not in known:
            yield Fault(
                f"tasks[{place}].agent", f"The crew has no agent {task.agent_id}; name one of the crew's"
            )


def _async_faults(tasks: Sequence[Task], contexts: Sequence[TaskContext]) -> Iterator[Fault]:
    """CrewAI's rules for asynchronous tasks, which it would otherwise raise on building the crew."""
    trailing = 0
    for task in reversed(tasks):
        if not task.async_execution:
            break
        trailing += 1
    if trailing > 1:
        yield Fault(
            f"tasks[{len(tasks) - 1}].async_execution",
            "At most one asynchronous task may stand at the end; make the last task synchronous",
        )
    places = {task.id: place for place, task in enumerate(tasks)}
    # How many of the tasks before each are synchronous.
    before = [0, *accumulate(not task.async_execution for task in tasks)]
    for place, (task, context) in enumerate(zip(tasks, contexts, strict=True)):
        if not task.async_execution:
            continue
        for other in context.tasks:
            there = places[other]
            if there < place and before[there] == before[place]:
                yield Fault(
                    f"tasks[{place}].context",
                    f"It is asynchronous and cannot wait for {tasks[there].title()!r}, which is too, "
                    "directly before it; put a synchronous task between, or make this one synchronous",
                )


_TASK_ID = re.compile(rf"task_[{ID_ALPHABET}]{{{ID_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What one task is given besides its description.

    Attributes
    ----------
    tasks
        Ids of the tasks whose results it is said to get.
    texts
        Texts given as they are: the reference's own example has *Previous analysis from Q3*.
    """

    tasks: list[str]
    texts: list[str]
    given: bool = True
    """Whether it was said at all which; an empty list says that there are none."""

    @property
    def chosen(self) -> list[str] | None:
        """Ids of the tasks whose results it gets; None for all before it, as CrewAI's rule is."""
        return None if not self.given or (self.texts and not self.tasks) else self.tasks


def read_contexts(tasks: Sequence[Task]) -> tuple[list[TaskContext], list[Fault]]:
    """Tell references from texts in a crew's tasks, and find references that cannot work.

    Parameters
    ----------
    tasks
        The crew's tasks in their order.

    Returns
    -------
    contexts
        One for each task, in the same order.
    faults
        Unknown ids, circles, and references to tasks that come later, by field.
    """
    places = {task.id: place for place, task in enumerate(tasks)}
    by_name = {task.name: task.id for task in tasks if task.name}
    contexts: list[TaskContext] = []
    faults: list[Fault] = []
    for place, task in enumerate(tasks):
        context = TaskContext([], [], given=task.context is not None)
        for entry, text in enumerate(task.context or ()):
            known = text if text in places else by_name.get(text.strip())
            if known is not None:
                context.tasks.append(known)
            elif _TASK_ID.fullmatch(text):
                faults.append(
                    Fault(
                        f"tasks[{place}].context[{entry}]",
                        f"The crew has no task {text}; name one of its tasks",
                    )
                )
            else:
                context.texts.append(text)
        contexts.append(context)
    return contexts, [*faults, *_order_faults(tasks, contexts, places)]


def _order_faults(
    tasks: Sequence[Task], contexts: Sequence[TaskContext], places: dict[str, int]
) -> list[Fault]:
    graph = {task.id: context.tasks for task, context in zip(tasks, contexts, strict=True)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib gives the circle with its first node again at the end, each before what depends on it.
        circle: list[str] = error.args[1]
        first = min(places[task_id] for task_id in circle)
        names = " → ".join(tasks[places[task_id]].title() for task_id in circle)
        return [
            Fault(
                f"tasks[{first}].context", f"The context is circular: {names}; remove one of these references"
            )
        ]
    titles = {task.id: task.title() for task in tasks}
    return [
        Fault(
            f"tasks[{place}].context",
            f"{titles[other]!r} comes later in the crew; move it before this task",
        )
        for place, context in enumerate(contexts)
        for other in context.tasks
        if places[other] > place
    ]
