"""What a crew's content must have before it can run, whatever models and inputs it is run with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kasal_jupyter.errors import Fault
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.context import TaskContext, read_contexts
from kasal_jupyter.schemas.tasks import Task


def content_faults(process: str, agents: Sequence[Agent], tasks: Sequence[Task]) -> list[Fault]:
    """Find what keeps a crew from running; while there is anything, it is ``configuring``.

    Parameters
    ----------
    process
        The crew's process, ``sequential`` or ``hierarchical``.
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
    faults += _agent_faults(process, agents, tasks)
    faults += _async_faults(tasks, contexts)
    return faults


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
    for place, (task, context) in enumerate(zip(tasks, contexts, strict=True)):
        if not task.async_execution:
            continue
        for other in context.tasks:
            between = tasks[places[other] : place]
            if between and all(each.async_execution for each in between):
                yield Fault(
                    f"tasks[{place}].context",
                    f"It is asynchronous and cannot wait for {tasks[places[other]].title()!r}, which is too, "
                    "directly before it; put a synchronous task between, or make this one synchronous",
                )
