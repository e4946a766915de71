"""The check before a run: every fault at once, by field, before money is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import Fault, NotRunnable
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.context import TaskContext, read_contexts
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.spec import PLACEHOLDER, RunModel, RunSpec, RunTask
from kasal_jupyter.schemas.tasks import Task
from kasal_jupyter.tools.catalog import builtin_tools


@dataclass(slots=True)
class _Check:
    """The faults and the models of one crew, as they are found."""

    catalog: ModelCatalog
    faults: list[Fault] = field(default_factory=list)
    models: dict[str, RunModel] = field(default_factory=dict)

    def model(self, name: str | None, where: str) -> str | None:
        """Resolve a model's name and give the name to use; None, with a fault, where it cannot run."""
        try:
            model = self.catalog.resolve(name)
        except ModelUnavailable as error:
            self.faults.append(Fault(where, str(error)))
            return None
        self.models[model.name] = model
        return model.name

    def tools(self, names: Sequence[str], where: str) -> None:
        """Note the tools that do not exist."""
        known = [tool.name for tool in builtin_tools()]
        for place, name in enumerate(names):
            if name not in known:
                self.faults.append(
                    Fault(
                        f"{where}.tools[{place}]", f"There is no tool {name!r}; there are {', '.join(known)}"
                    )
                )


def prepare_run(
    job_id: str, whole: WholeCrew, inputs: Mapping[str, Any], *, catalog: ModelCatalog, folder: str
) -> RunSpec:
    """Check a crew whole and make the message that starts its run.

    Parameters
    ----------
    job_id
        The new execution's id.
    whole
        The crew with its agents and tasks.
    inputs
        Values for the crew's ``{placeholders}``.
    catalog
        What models can run here.
    folder
        The run's own folder.

    Raises
    ------
    NotRunnable
        With every fault that was found, by field.
    """
    check = _Check(catalog)
    if not whole.agents:
        check.faults.append(Fault("agents", "At least one agent required"))
    if not whole.tasks:
        check.faults.append(Fault("tasks", "At least one task required"))
    agents = [_checked_agent(check, place, agent) for place, agent in enumerate(whole.agents)]
    for place, task in enumerate(whole.tasks):
        check.tools(task.tools, f"tasks[{place}]")
    contexts, faults = read_contexts(whole.tasks)
    check.faults += faults
    manager = _manager(check, whole)
    check.faults += _agent_faults(whole)
    check.faults += _async_faults(whole.tasks, contexts)
    check.faults += _input_faults(whole, inputs)
    if check.faults:
        count = len(check.faults)
        raise NotRunnable(
            f"{whole.crew.name!r} cannot run: {check.faults[0].reason}"
            + (f" (and {count - 1} more)" if count > 1 else ""),
            faults=check.faults,
        )
    return RunSpec(
        job_id=job_id,
        crew=whole.crew,
        agents=agents,
        tasks=[
            RunTask(**task.model_dump(), context_tasks=context.tasks, context_texts=context.texts)
            for task, context in zip(whole.tasks, contexts, strict=True)
        ],
        inputs=dict(inputs),
        models=check.models,
        manager_model=manager,
        folder=folder,
    )


def placeholders(whole: WholeCrew) -> Iterator[tuple[str, str]]:
    """Give every ``{placeholder}`` of a crew with the field it stands in."""
    for place, agent in enumerate(whole.agents):
        for name in ("role", "goal", "backstory"):
            for found in PLACEHOLDER.findall(getattr(agent, name)):
                yield found, f"agents[{place}].{name}"
    for place, task in enumerate(whole.tasks):
        for name in ("description", "expected_output"):
            for found in PLACEHOLDER.findall(getattr(task, name)):
                yield found, f"tasks[{place}].{name}"


def _checked_agent(check: _Check, place: int, agent: Agent) -> Agent:
    check.tools(agent.tools, f"agents[{place}]")
    model = check.model(agent.model, f"agents[{place}].model")
    return agent.model_copy(update={"model": model})


def _manager(check: _Check, whole: WholeCrew) -> str | None:
    """Find the manager's model: the crew's, else the default, else what the crew's first agent uses."""
    if whole.crew.process != "hierarchical":
        return None
    name = whole.crew.manager_model or check.catalog.default_model
    if not name and whole.agents:
        name = whole.agents[0].model or ""
    return check.model(name or None, "manager_model")


def _agent_faults(whole: WholeCrew) -> Iterator[Fault]:
    known = {agent.id for agent in whole.agents}
    for place, task in enumerate(whole.tasks):
        if task.agent_id is None and whole.crew.process == "sequential":
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


def _input_faults(whole: WholeCrew, inputs: Mapping[str, Any]) -> Iterator[Fault]:
    seen: set[str] = set()
    for name, where in placeholders(whole):
        if name not in inputs and name not in seen:
            seen.add(name)
            yield Fault(f"inputs.{name}", f"{{{name}}} in {where} has no value; pass it in inputs")
