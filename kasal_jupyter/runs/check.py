"""The check before a run: every fault at once, by field, before money is spent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import Fault, NotRunnable, nearest
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.context import read_contexts
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.readiness import content_faults
from kasal_jupyter.schemas.spec import PLACEHOLDER, RunModel, RunSpec, RunTask
from kasal_jupyter.schemas.tools import ClientTool, RunTool
from kasal_jupyter.store.toolbox import Toolbox, ToolUnavailable

_CREWAIS_OWN = frozenset({"delegate_work_to_coworker", "ask_question_to_coworker"})
"""Tools that CrewAI itself gives an agent."""

_WORD_BEGINS = re.compile(r"(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")


@dataclass(slots=True)
class _Check:
    """The faults, the models and the tools of one crew, as they are found."""

    catalog: ModelCatalog
    toolbox: Toolbox
    client_tools: Mapping[str, ClientTool]
    faults: list[Fault] = field(default_factory=list)
    models: dict[str, RunModel] = field(default_factory=dict)
    custom: dict[str, RunTool] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    """The client's tools that an agent or a task names."""

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
        """Note the tools that cannot be used, and take the custom ones along."""
        for place, name in enumerate(names):
            if name in self.client_tools:
                self.named.add(name)
                continue
            try:
                custom = self.toolbox.resolve(name)
            except ToolUnavailable as error:
                reason = self._not_found(name) if name not in self.toolbox.names() else str(error)
                self.faults.append(Fault(f"{where}.tools[{place}]", reason))
                continue
            if custom is not None:
                self.custom[name] = custom

    def _not_found(self, name: str) -> str:
        known = sorted({*self.toolbox.names(), *self.client_tools})
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        return (
            f"There is no tool {name!r}{hint}. A function of a notebook becomes a tool by @kasal.tool, "
            "for the runs that are started there"
        )


def prepare_run(
    job_id: str,
    whole: WholeCrew,
    inputs: Mapping[str, Any],
    *,
    catalog: ModelCatalog,
    toolbox: Toolbox,
    folder: str,
    client_tools: Sequence[ClientTool] = (),
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
    toolbox
        What tools the crew's owner can use.
    folder
        The run's own folder.
    client_tools
        The tools that the run's client brings along and answers for. Those that an agent or a task names,
        and those that are for all, go into the message.

    Raises
    ------
    NotRunnable
        With every fault that was found, by field.
    """
    check = _Check(catalog, toolbox, {tool.name: tool for tool in client_tools})
    check.faults += _client_tool_faults(toolbox, client_tools)
    check.faults += content_faults(whole.crew.process, whole.agents, whole.tasks)
    agents = [_checked_agent(check, place, agent) for place, agent in enumerate(whole.agents)]
    for place, task in enumerate(whole.tasks):
        check.tools(task.tools, f"tasks[{place}]")
    contexts, _ = read_contexts(whole.tasks)
    manager = _manager(check, whole)
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
        tools=list(check.custom.values()),
        client_tools=[tool for tool in client_tools if tool.for_all or tool.name in check.named],
        allowed_hosts=toolbox.allowed_hosts,
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


def _input_faults(whole: WholeCrew, inputs: Mapping[str, Any]) -> Iterator[Fault]:
    seen: set[str] = set()
    for name, where in placeholders(whole):
        if name not in inputs and name not in seen:
            seen.add(name)
            yield Fault(f"inputs.{name}", f"{{{name}}} in {where} has no value; pass it in inputs")


def _client_tool_faults(toolbox: Toolbox, tools: Sequence[ClientTool]) -> Iterator[Fault]:
    """Find names that an agent's model could not tell apart."""
    taken = {_as_offered(name): name for name in toolbox.names()}
    seen: dict[str, str] = {}
    for place, tool in enumerate(tools):
        where, offered = f"tools[{place}].name", _as_offered(tool.name)
        if not offered:
            yield Fault(where, f"A model cannot call a tool {tool.name!r}; give its name a letter")
        elif offered in _CREWAIS_OWN:
            yield Fault(where, f"Agents have a tool {tool.name!r} of their own; call yours something else")
        elif offered in taken:
            yield Fault(
                where, f"The server has a tool {taken[offered]!r} already; call {tool.name!r} something else"
            )
        elif offered in seen:
            twice = (
                "is given twice; leave one out"
                if seen[offered] == tool.name
                else f"and {seen[offered]!r} are the same to a model; call one of them something else"
            )
            yield Fault(where, f"{tool.name!r} {twice}")
        seen.setdefault(offered, tool.name)


def _as_offered(name: str) -> str:
    """Give a tool's name as CrewAI offers it to a model: in lower case, its words joined by underscores."""
    return re.sub(r"_+", "_", _WORD_BEGINS.sub("_", name).lower()).strip("_")
