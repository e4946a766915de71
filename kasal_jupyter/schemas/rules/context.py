"""The ``context`` of tasks: which entries name other tasks, and which are plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from kasal_jupyter.errors import Fault
from kasal_jupyter.schemas.base import ID_ALPHABET, ID_LENGTH
from kasal_jupyter.schemas.tasks import Task

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
