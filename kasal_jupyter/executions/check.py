"""The check before a run: every fault at once, by field, before money is spent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import Fault, Faults, NotRunnable, listed, nearest, nearest_word
from kasal_jupyter.models.catalog import ModelCatalog, ModelUnavailable
from kasal_jupyter.schemas.agents import Agent
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import Budget, CrewRemark
from kasal_jupyter.schemas.mcp import McpTool, RunMcpServer
from kasal_jupyter.schemas.placeholders import fill, names, texts_of
from kasal_jupyter.schemas.readiness import content_faults, read_contexts
from kasal_jupyter.schemas.spec import RunMemory, RunModel, RunSpec, RunTask
from kasal_jupyter.schemas.tasks import is_inside
from kasal_jupyter.schemas.tools import ClientTool, RunTool
from kasal_jupyter.toolbox.toolbox import Toolbox, ToolUnavailable

_CREWAIS_OWN = frozenset({"delegate_work_to_coworker", "ask_question_to_coworker"})
"""Tools that CrewAI itself gives an agent."""

SEARCH_TOOL = "web_search"
"""The tool that may have a key: only runs that use it get that."""

Recall = Callable[[WholeCrew, ModelCatalog], RunMemory | None]
"""Gives what a crew's run remembers, or None, by its owner's catalogue. May raise ModelUnavailable."""

_LONGEST_PATH = 4_096
"""Characters of a path that are looked at: no system takes more."""

_WORD_BEGINS = re.compile(r"(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")


_TABLE = re.compile(r"\btable (\w{1,200}) \(")
"""How a tool of a notebook's frame names it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has found.

    Attributes
    ----------
    name
        The crew's.
    faults
        What keeps the crew from running, by field.
    remarks
        What a run does otherwise than one might think, by field: a successor answers for a retired model.
    spec
        The message that starts the run; None where there are faults.
    count
        How many faults there are, those included that are not listed.
    """

    name: str
    faults: list[Fault]
    remarks: list[Fault]
    spec: RunSpec | None
    count: int = 0

    def told(self) -> list[CrewRemark]:
        """Give the remarks as an answer has them."""
        return [CrewRemark(field=each.field, remark=each.reason) for each in self.remarks]

    def required(self) -> RunSpec:
        """Give the message.

        Raises
        ------
        NotRunnable
            With every fault that was found, by field.
        """
        if self.spec is None:
            count = self.count
            raise NotRunnable(
                f"{self.name!r} cannot run: {self.faults[0].reason}"
                + (f" (and {count - 1} more)" if count > 1 else ""),
                faults=self.faults,
            )
        return self.spec


@dataclass(slots=True)
class _Check:
    """The faults, the models and the tools of one crew, as they are found."""

    catalog: ModelCatalog
    toolbox: Toolbox
    client_tools: Mapping[str, ClientTool]
    instead: str | None = None
    """The model that is asked in the place of any other."""
    faults: Faults = field(default_factory=Faults)
    remarks: Faults = field(default_factory=Faults)
    models: dict[str, RunModel] = field(default_factory=dict)
    custom: dict[str, RunTool] = field(default_factory=dict)
    servers: dict[str, RunMcpServer] = field(default_factory=dict)
    """MCP servers, without their tools."""
    served: dict[str, dict[str, McpTool]] = field(default_factory=dict)
    """Their tools, by the servers' names."""
    named: set[str] = field(default_factory=set)
    """The client's tools that an agent or a task names."""
    used: set[str] = field(default_factory=set)
    """All tools that an agent or a task names."""
    taken: set[str] = field(default_factory=set)
    """The server's tools that are taken along already."""
    known: frozenset[str] = field(init=False)
    """All tools of the server."""

    def __post_init__(self) -> None:
        self.known = frozenset(self.toolbox.names())

    def model(self, name: str | None, where: str) -> str | None:
        """Resolve a model's name and give the name to use; None, with a fault, where it cannot run."""
        try:
            model = self.catalog.resolve(self.instead or name)
        except ModelUnavailable as error:
            self.faults.append(Fault("model" if self.instead else where, str(error)))
            return None
        if model.remark is not None:
            self.remarks.append(Fault(where, model.remark))
        self.models[model.name] = model
        return model.name

    def tools(self, names: Sequence[str], where: str) -> None:
        """Note the tools that cannot be used, and take the custom ones along."""
        self.used.update(names)
        for place, name in enumerate(names):
            if name in self.client_tools:
                self.named.add(name)
                continue
            if name not in self.known:
                reason = "" if self.faults.full else self._not_found(name)
                self.faults.append(Fault(f"{where}.tools[{place}]", reason))
                continue
            if name in self.taken:
                continue
            try:
                custom = self.toolbox.resolve(name)
            except ToolUnavailable as error:
                self.faults.append(Fault(f"{where}.tools[{place}]", str(error)))
                continue
            self.taken.add(name)
            if isinstance(custom, RunMcpServer):
                self._take_served(custom)
            elif custom is not None:
                self.custom[name] = custom

    def _take_served(self, server: RunMcpServer) -> None:
        """Take a tool of an MCP server along, and the server once for all of its tools."""
        self.servers.setdefault(server.name, server)
        self.served.setdefault(server.name, {}).update({tool.name: tool for tool in server.tools})

    def mcp_servers(self) -> list[RunMcpServer]:
        """Give the MCP servers that are used, each with the tools that are."""
        return [
            server.model_copy(update={"tools": list(self.served[name].values())})
            for name, server in self.servers.items()
        ]

    def _not_found(self, name: str) -> str:
        known = sorted({*self.known, *self.client_tools})
        hint = nearest(name, known) or f"; there are {listed(known)}"
        return (
            f"There is no tool {name!r}{hint}. A function of a notebook becomes a tool by @kasal.tool, "
            "for the runs that are started there"
        )


def check_run(
    job_id: str,
    whole: WholeCrew,
    inputs: Mapping[str, Any],
    *,
    catalog: ModelCatalog,
    toolbox: Toolbox,
    folder: str,
    client_tools: Sequence[ClientTool] = (),
    budget: Budget | None = None,
    recall: Recall | None = None,
    model: str | None = None,
) -> Checked:
    """Check a crew whole, and make the message that starts its run where nothing is wrong.

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
    budget
        What the run may use up.
    recall
        Gives what the run remembers; None where nothing does.
    model
        The model that is asked in the place of all that the crew names; None: of none.
    """
    check = _Check(catalog, toolbox, {tool.name: tool for tool in client_tools}, model)
    check.faults += _client_tool_faults(toolbox, client_tools)
    check.faults += content_faults(whole.crew, whole.agents, whole.tasks)
    agents = [_checked_agent(check, place, agent) for place, agent in enumerate(whole.agents)]
    for place, task in enumerate(whole.tasks):
        check.tools(task.tools, f"tasks[{place}]")
    contexts, _ = read_contexts(whole.tasks)
    manager = _manager(check, whole)
    planner = _planner(check, whole)
    memory = _memory(check, whole, recall)
    check.faults += input_faults(whole, inputs, check.faults)
    check.remarks += _input_remarks(check, whole, inputs)
    if check.faults:
        count = len(check.faults) + check.faults.more
        return Checked(whole.crew.name, check.faults.told(), check.remarks.told(), None, count)
    spec = RunSpec(
        job_id=job_id,
        crew=whole.crew,
        agents=agents,
        tasks=[
            RunTask(**task.model_dump(), context_tasks=context.chosen, context_texts=context.texts)
            for task, context in zip(whole.tasks, contexts, strict=True)
        ],
        inputs=dict(inputs),
        models=check.models,
        tools=list(check.custom.values()),
        mcp_servers=check.mcp_servers(),
        client_tools=[tool for tool in client_tools if tool.for_all or tool.name in check.named],
        tool_settings=toolbox.settings.model_copy(
            update={"search": catalog.search()} if SEARCH_TOOL in check.used else {}
        ),
        memory=memory,
        planning_model=planner,
        allowed_hosts=toolbox.allowed_hosts,
        manager_model=manager,
        budget=budget,
        folder=folder,
    )
    return Checked(whole.crew.name, [], check.remarks.told(), spec)


def placeholders(whole: WholeCrew) -> Iterator[tuple[str, str]]:
    """Give every ``{placeholder}`` of a crew with the field it stands in."""
    for text, where in texts_of(whole.agents, whole.tasks):
        for name in names(text):
            yield name, where


def _checked_agent(check: _Check, place: int, agent: Agent) -> Agent:
    check.tools(agent.tools, f"agents[{place}]")
    model = check.model(agent.model, f"agents[{place}].model")
    fallbacks = agent.fallbacks if check.instead is None else []
    for rank, fallback in enumerate(fallbacks):
        check.model(fallback, f"agents[{place}].fallbacks[{rank}]")
    return agent.model_copy(update={"model": model, "fallbacks": fallbacks})


def _manager(check: _Check, whole: WholeCrew) -> str | None:
    """Find the manager's model: the crew's, else the default, else what the crew's first agent uses."""
    if whole.crew.process != "hierarchical" or whole.crew.manager_agent:
        return None
    return check.model(whole.crew.manager_model or _usual(check, whole), "manager_model")


def _planner(check: _Check, whole: WholeCrew) -> str | None:
    """Find the model that plans: the crew's, else its manager's, else the default or its first agent's."""
    if not whole.crew.planning:
        return None
    manages = whole.crew.manager_model if whole.crew.process == "hierarchical" else None
    return check.model(whole.crew.planning_model or manages or _usual(check, whole), "planning_model")


def _memory(check: _Check, whole: WholeCrew, recall: Recall | None) -> RunMemory | None:
    """Find what the run remembers, and see to it that whoever distils it can run."""
    if recall is None:
        return None
    try:
        memory = recall(whole, check.catalog)
    except ModelUnavailable as error:
        check.faults.append(Fault("memory", str(error)))
        return None
    if memory is not None and memory.model is not None and memory.model not in check.models:
        check.model(memory.model, "memory")
    if memory is not None and memory.remark is not None:
        check.remarks.append(Fault("memory", memory.remark))
    return memory


def _usual(check: _Check, whole: WholeCrew) -> str | None:
    """Give the model of whatever has no agent of its own; None for what the catalogue takes by itself."""
    return check.catalog.default_model or (whole.agents[0].model if whole.agents else None)


def input_faults(whole: WholeCrew, inputs: Mapping[str, Any], before: Faults) -> Iterator[Fault]:
    """Find what a crew's texts want and inputs do not have, and paths that they lead out of a run's folder.

    Parameters
    ----------
    whole
        The crew.
    inputs
        The values.
    before
        The faults that were found before: where those are many, no more hints are looked for.
    """
    seen: set[str] = set()
    found = list(placeholders(whole))
    used = {name for name, _ in found}
    unused = [name for name in inputs if name not in used]
    for name, where in found:
        if name not in inputs and name not in seen:
            seen.add(name)
            near = None if before.full else nearest_word(name, unused)
            if near is not None:
                hint = f"; nothing uses {near!r}, was that meant?"
            else:
                hint = f", or write {{{{{name}}}}} where the braces themselves are meant"
            yield Fault(f"inputs.{name}", f"{{{name}}} in {where} has no value; pass it in inputs{hint}")
    values = _PathParts(inputs)
    for place, task in enumerate(whole.tasks):
        path = fill(task.output_file or "x", values)[:_LONGEST_PATH]
        if not is_inside(path):
            reason = f"With these inputs it is {path!r}, which is no path inside the run's folder"
            yield Fault(f"tasks[{place}].output_file", reason)


class _PathParts(Mapping[str, str]):
    """The inputs as parts of a path, each written once, no longer than one may be; ``x`` for others."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self._parts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if (part := self._parts.get(name)) is None:
            part = self._parts[name] = str(self._inputs.get(name, "x"))[:_LONGEST_PATH]
        return part

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)


def _input_remarks(check: _Check, whole: WholeCrew, inputs: Mapping[str, Any]) -> Iterator[Fault]:
    """Find the inputs that nothing uses: most of them are another's name, misspelt."""
    wanted = dict.fromkeys(name for name, _ in placeholders(whole))
    # A frame's input is used by its tools as well, which say so.
    tables = {
        name
        for tool in check.client_tools.values()
        if tool.for_all
        for name in _TABLE.findall(tool.description)
    }
    for name in inputs:
        if name in wanted or name in tables:
            continue
        hint = check.remarks.nearest(name, wanted) or f"; it takes {listed(wanted)}"
        yield Fault(f"inputs.{name}", f"Nothing in the crew uses it{hint}")


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
