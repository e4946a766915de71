"""Kasal's crew export: the nodes and edges that its canvas saves, as databrickslabs/kasal writes them.

Nodes are agents and tasks, each with all its fields under ``data``. An edge from an agent to a task says who
does it; one from a task to a task says whose result it gets. Tools are numbers.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kasal_jupyter.formats.crewai_fields import (
    IN_KASAL,
    KASAL_TOOLS,
    agent_fields,
    crew_fields,
    task_fields,
    to_crewai,
)
from kasal_jupyter.formats.document import Document, Path, read_json
from kasal_jupyter.formats.found_crew import Imported, ImportNotes, Member
from kasal_jupyter.formats.outline import Exported, file_name, outline, with_texts
from kasal_jupyter.schemas.agents import CrewAgent, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import MOST_AGENTS, MOST_TASKS, CrewCreate
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.people import People
from kasal_jupyter.schemas.tasks import CrewTask

AGENT, TASK = "agentNode", "taskNode"

_OF_THE_OTHER_KIND = {
    AGENT: {
        "description",
        "expected_output",
        "config",
        "context",
        "async_execution",
        "markdown",
        "llm_guardrail",
    },
    TASK: {
        *(
            "role",
            "goal",
            "backstory",
            "llm",
            "function_calling_llm",
            "max_iter",
            "max_rpm",
            "cache",
            "memory",
        ),
        *("max_execution_time", "verbose", "allow_delegation", "embedder_config", "system_template"),
        *("prompt_template", "response_template", "allow_code_execution", "code_execution_mode"),
        *("max_retry_limit", "use_system_prompt", "respect_context_window", "knowledge_sources"),
    },
}
"""Every node has the fields of both kinds; those of the other one mean nothing."""

_OF_THE_CANVAS = {"id", "label", "agentId", "taskId", "agent_id", "type", "icon", "advanced_config", "name"}

_KASALS_DEFAULTS: dict[str, object] = {
    "cache": True,
    "max_retry_limit": 3,
    "cache_ttl": 3600,
    "max_retries": 3,
    "retry_on_fail": True,
    "priority": 1,
    "error_handling": "default",
    "cache_response": False,
}
"""What the canvas writes where nobody has set anything."""

_LEFT = {
    "embedder_config": "the server's embedder is used",
    "tool_configs": "a tool is configured where it is registered; settings such as {names} are left out",
    "reasoning": "set planning instead",
    "reasoning_llm": "set planning_model instead",
    "cache_response": "answers are not cached here",
    "cache_ttl": "answers are not cached here",
    "retry_on_fail": "what a provider cannot do at the moment is tried again in any case",
    "max_retries": "how often a task is done again is guardrail_max_retries here",
    "timeout": "an agent has a max_execution_time here, not a task",
    "priority": "tasks are done in their order",
    "error_handling": "a task that fails ends the run",
    "validation_function": "it is code of Kasal's; say in words what the result must be like: guardrail",
    "callback_function": "no code is called; a webhook of the crew's tells of it",
    "callback": "no code is called; a webhook of the crew's tells of it",
    "callback_config": "no code is called; a webhook of the crew's tells of it",
}


def is_canvas(data: object) -> bool:
    """Say whether something is what Kasal's canvas saves."""
    return isinstance(data, Mapping) and isinstance(data.get("nodes"), list) and "edges" in data


def read_canvas(
    file: str, text: str, *, name: str | None = None, tools: Collection[str] | None = None
) -> Imported:
    """Read a crew from Kasal's export.

    Parameters
    ----------
    file
        What the text is called, for the errors.
    text
        The JSON.
    name
        The crew's name; else the export's.
    tools
        The tools that there are here; None where that is not known.

    Raises
    ------
    InvalidRequest
        With every fault, each with its file, its line and its field.
    """
    return _Canvas(ImportNotes(tools), read_json(file, text)).read(name)


class _Canvas:
    def __init__(self, notes: ImportNotes, document: Document) -> None:
        self.notes = notes
        self.document = document
        self.data = document.data
        self.agents: dict[str, Member] = {}
        self.tasks: dict[str, Member] = {}
        self.ids: dict[str, str] = {}
        """Nodes by everything that they are called by."""

    def read(self, name: str | None) -> Imported:
        self.notes.refuse_code(self.document)
        nodes = self._list("nodes")
        for place, node in enumerate(nodes):
            self._node(("nodes", place), node)
        self._edges()
        self._other_references(nodes)
        tasks = self._in_order()
        head = self._head()
        head["name"] = name or head.get("name") or "crew"
        if head.get("process") != "hierarchical":
            for task in tasks:
                if "agent" not in task.fields:
                    self.notes.remark(
                        (*task.path, "data"),
                        f"no edge gives {task.name!r} an agent; give it one before it is run",
                    )
        if any(isinstance(node, Mapping) and node.get("position") for node in nodes):
            self.notes.remark(("nodes",), "where they stand on the canvas is not kept")
        crew = self.notes.crew(self.document, head, list(self.agents.values()), tasks)
        return Imported(crew, "kasal", self.notes.remarks)

    def _list(self, key: str) -> list[Any]:
        found = self.data.get(key)
        if isinstance(found, list):
            return found
        self.notes.fault(self.document, (key,), f"a list of {key} is expected here")
        return []

    def _node(self, path: Path, node: object) -> None:
        body = self.notes.mapping(self.document, path, node, "a node is")
        kind, key = body.get("type"), body.get("id")
        if not body:
            return
        if kind not in {AGENT, TASK}:
            self.notes.remark(
                path, f"a node of the type {kind!r} is neither an agent nor a task; it is left out"
            )
            return
        if not isinstance(key, str) or key in self.ids:
            self.notes.fault(self.document, (*path, "id"), "an id of its own is expected here")
            return
        where = (*path, "data")
        data = self.notes.mapping(self.document, where, body.get("data"), "a node's data is")
        members = self.agents if kind == AGENT else self.tasks
        most = MOST_AGENTS if kind == AGENT else MOST_TASKS
        self.notes.require_few(self.document, ("nodes",), len(members) + 1, most)
        fields = self._agent(where, data) if kind == AGENT else self._task(where, data)
        fields["name"] = self._free_name(where, str(data.get("name") or data.get("label") or key), members)
        members[key] = Member(self.document, where, key, fields)
        for other in (data.get("id"), data.get("agentId"), data.get("taskId")):
            if other:
                self.ids.setdefault(str(other), key)
        self.ids[key] = key

    def _free_name(self, path: Path, label: str, members: Mapping[str, Member]) -> str:
        label = re.sub(r"[\r\n\t]+", " ", label).strip()
        taken = {each.name for each in members.values()}
        name, number = label, 1
        while name in taken:
            number += 1
            name = f"{label} {number}"
        if number > 1:
            self.notes.remark((*path, "label"), f"another is called {label!r} too; this one is {name!r} here")
        return name

    def _agent(self, path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        given = self._said(AGENT, path, data)
        if self.data.get("memory"):
            # Of a crew that remembers, every agent does.
            given.pop("memory", None)
        return agent_fields(self.notes, self.document, path, given)

    def _task(self, path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        given = self._said(TASK, path, data)
        config = self._with_tools(given.pop("config", None) or {})
        guardrail = (
            config.pop("llm_guardrail", None) if "llm_guardrail" in config else given.get("llm_guardrail")
        )
        given.pop("llm_guardrail", None)
        given.pop("context", None)
        where = (*path, "config")
        code = config.pop("guardrail", None)
        if code:
            self.notes.remark((*where, "guardrail"), f"{code} is code of Kasal's; say it in words: guardrail")
        said = {key: value for key, value in config.items() if self._is_said(where, key, value)}
        if isinstance(guardrail, Mapping) and guardrail.get("description"):
            said["guardrail"] = guardrail["description"]
            if guardrail.get("llm_model"):
                self.notes.remark(
                    (*where, "llm_guardrail", "llm_model"), "a guardrail is checked by its agent's model"
                )
        fields = task_fields(self.notes, self.document, path, {**given, **said})
        fields.setdefault("expected_output", "")
        return fields

    def _said(self, kind: str, path: Path, data: Mapping[str, Any]) -> dict[str, Any]:
        """Give the fields that say something about a node of its kind."""
        passed_over = _OF_THE_OTHER_KIND[kind] | _OF_THE_CANVAS
        given = {
            key: value
            for key, value in data.items()
            if key not in passed_over and (key == "config" or self._is_said(path, key, value))
        }
        return self._with_tools(given)

    def _is_said(self, path: Path, key: str, value: object) -> bool:
        if value is None or value in ([], {}, "") or _KASALS_DEFAULTS.get(key) == value:
            return False
        if key not in _LEFT:
            return True
        if value is not False:
            names = ", ".join(map(str, value)) if isinstance(value, Mapping) else ""
            self.notes.remark((*path, key), _LEFT[key].format(names=names))
        return False

    def _with_tools(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Put names in the place of the tools' numbers."""
        fields = dict(given)
        tools = fields.get("tools")
        if isinstance(tools, list):
            fields["tools"] = [_tool_name(tool) for tool in tools]
        return fields

    def _edges(self) -> None:
        for place, edge in enumerate(self._list("edges")):
            path: Path = ("edges", place)
            body = self.notes.mapping(self.document, path, edge, "an edge is")
            ends = [str(body.get(end)) for end in ("source", "target")]
            missing = [end for end in ends if end not in self.agents and end not in self.tasks]
            if missing:
                self.notes.remark(path, f"there is no agent and no task {missing[0]!r}; it is left out")
            elif ends[0] in self.tasks and ends[1] in self.tasks:
                self._add_context(ends[1], ends[0])
            elif ends[0] in self.agents and ends[1] in self.agents:
                self.notes.remark(path, "it joins two agents, which says nothing here; it is left out")
            else:
                task, agent = ends if ends[0] in self.tasks else (ends[1], ends[0])
                self._assign(path, task, agent)

    def _other_references(self, nodes: list[Any]) -> None:
        """Take what the nodes themselves say: a task's ``agent_id`` and its ``context``."""
        for place, node in enumerate(nodes):
            if not isinstance(node, Mapping) or node.get("id") not in self.tasks:
                continue
            key = str(node["id"])
            data = node.get("data")
            if not isinstance(data, Mapping):
                continue
            agent = self.ids.get(str(data.get("agent_id") or ""))
            if agent in self.agents and "agent" not in self.tasks[key].fields:
                self.tasks[key].fields["agent"] = agent
            for entry in data.get("context") or ():
                other = self.ids.get(str(entry)) or self.ids.get(f"task-{entry}")
                if other in self.tasks:
                    self._add_context(key, other)
                else:
                    self.notes.remark(
                        ("nodes", place, "data", "context"), f"there is no task {entry!r}; it is left out"
                    )

    def _assign(self, path: Path, task: str, agent: str) -> None:
        fields = self.tasks[task].fields
        if fields.setdefault("agent", agent) != agent:
            first = self.agents[fields["agent"]].name
            self.notes.remark(
                path, f"a task is done by one agent, and {first!r} does it; this edge is left out"
            )

    def _add_context(self, task: str, other: str) -> None:
        context = self.tasks[task].fields.setdefault("context", [])
        if other not in context:
            context.append(other)

    def _in_order(self) -> list[Member]:
        """Give the tasks in the canvas's order, each behind those whose results it gets."""
        graph = {key: task.fields.get("context", []) for key, task in self.tasks.items()}
        sorter = TopologicalSorter(graph)
        try:
            sorter.prepare()
        except CycleError as error:
            names = " → ".join(self.tasks[key].name for key in error.args[1])
            self.notes.fault(self.document, ("edges",), f"tasks wait for each other: {names}; remove an edge")
            self.notes.check()
            raise
        places = {key: place for place, key in enumerate(self.tasks)}
        ordered: list[str] = []
        ready = set(sorter.get_ready())
        while ready:
            key = min(ready, key=places.__getitem__)
            ready.discard(key)
            ordered.append(key)
            sorter.done(key)
            ready.update(sorter.get_ready())
        return [self.tasks[key] for key in ordered]

    def _head(self) -> dict[str, Any]:
        passed_over = {
            "id",
            "nodes",
            "edges",
            "agent_ids",
            "task_ids",
            "created_at",
            "updated_at",
            "group_id",
        }
        given = {
            key: value
            for key, value in self.data.items()
            if key not in {*passed_over, "verbose", "created_by_email"} and self._is_said((), key, value)
        }
        return crew_fields(self.notes, self.document, given)


def _tool_name(tool: object) -> object:
    text = str(tool)
    if isinstance(tool, bool) or not text.isdecimal():
        return tool
    return KASAL_TOOLS.get(int(text), f"Kasal's tool {text}")


# -- written --------------------------------------------------------------------------------------------

# A crew as Kasal's canvas would save it.

_COLUMN, _ROW, _TOP = 300, 180, 68
"""How far apart nodes stand, in the canvas's pixels."""

_NODE_DATA: dict[str, Any] = {
    "label": "",
    "role": None,
    "goal": None,
    "backstory": None,
    "tools": [],
    "tool_configs": None,
    "agentId": None,
    "taskId": None,
    "llm": None,
    "function_calling_llm": None,
    "max_iter": None,
    "max_rpm": None,
    "max_execution_time": None,
    "verbose": None,
    "allow_delegation": None,
    "cache": None,
    "memory": True,
    "embedder_config": None,
    "system_template": None,
    "prompt_template": None,
    "response_template": None,
    "allow_code_execution": None,
    "code_execution_mode": None,
    "max_retry_limit": None,
    "use_system_prompt": None,
    "respect_context_window": None,
    "type": None,
    "description": None,
    "expected_output": None,
    "icon": None,
    "advanced_config": None,
    "config": None,
    "context": [],
    "async_execution": False,
    "knowledge_sources": None,
    "markdown": False,
    "llm_guardrail": None,
}
"""The fields of a node, in Kasal's order, with what they are where nothing is said."""

_NO_APPROVAL = "Kasal asks nobody before a tool is called"

_TASK_CONFIG: dict[str, Any] = {
    "cache_response": False,
    "cache_ttl": 3600,
    "retry_on_fail": True,
    "max_retries": 3,
    "timeout": None,
    "priority": 1,
    "error_handling": "default",
    "output_file": None,
    "output_json": None,
    "output_pydantic": None,
    "validation_function": None,
    "callback_function": None,
    "human_input": False,
    "markdown": False,
    "llm_guardrail": None,
}

_NODE: dict[str, Any] = {
    "width": None,
    "height": None,
    "selected": None,
    "positionAbsolute": None,
    "dragging": None,
    "style": None,
}


def export_canvas(crew: CrewCreate) -> Exported:
    """Write a crew as Kasal's canvas saves one; what Kasal has no place for is listed."""
    found = outline(crew)
    remarks = list(found.remarks)
    named, _ = to_crewai(with_texts(found, remarks), remarks, "which has to be given as itself")
    _note_the_crew(named, remarks)
    ids = {("agent", each.name): _id(named, "agent", each.name) for each in named.agents}
    ids |= {("task", each.name): _id(named, "task", each.name) for each in named.tasks}
    nodes = [
        _node("agentNode", ids["agent", agent.name], place, _agent_data(agent, place, named, remarks))
        for place, agent in enumerate(named.agents)
    ]
    nodes += [
        _node("taskNode", ids["task", task.name], place, _task_data(task, place, ids, remarks))
        for place, task in enumerate(named.tasks)
    ]
    edges = []
    for task in named.tasks:
        target = f"task-{ids['task', task.name]}"
        if task.agent is not None:
            edges.append(_edge(f"agent-{ids['agent', task.agent]}", target))
        edges += [_edge(f"task-{ids['task', other]}", target) for other in task.context or ()]
    data = {
        "id": _id(named, "crew", named.name),
        "name": named.name,
        "agent_ids": [ids["agent", agent.name] for agent in named.agents],
        "task_ids": [ids["task", task.name] for task in named.tasks],
        "nodes": nodes,
        "edges": edges,
        "process": named.process,
        "planning": named.planning,
        "planning_llm": named.planning_model,
        "reasoning": False,
        "reasoning_llm": None,
        "manager_llm": named.manager_model,
        "tool_configs": None,
        "memory": named.memory,
        "verbose": True,
        "max_rpm": None,
    }
    text = json.dumps(data, ensure_ascii=False, indent=2)
    return Exported({f"{file_name(crew.name)}.json": f"{text}\n"}, remarks)


def _note_the_crew(crew: CrewCreate, remarks: list[Remark]) -> None:
    if crew.description:
        remarks.append(Remark(field="description", reason="a crew of Kasal's has none"))
    if crew.manager_agent is not None:
        remarks.append(
            Remark(field="manager_agent", reason="Kasal has a manager's model alone; set manager_model")
        )
    if crew.webhook is not None:
        remarks.append(Remark(field="webhook", reason="a crew of Kasal's has none"))
    if crew.needs_approval:
        remarks.append(Remark(field="needs_approval", reason=_NO_APPROVAL))
    if crew.people != People():
        remarks.append(Remark(field="people", reason="Kasal asks whoever runs the crew, and waits for ever"))


def _agent_data(agent: CrewAgent, place: int, crew: CrewCreate, remarks: list[Remark]) -> dict[str, Any]:
    where = f"agents[{place}]"
    if agent.fallbacks:
        remarks.append(Remark(field=f"{where}.fallbacks", reason="an agent of Kasal's has one model"))
    for name, value in agent.settings.model_dump().items():
        if value != getattr(ModelSettings(), name):
            remarks.append(
                Remark(field=f"{where}.settings.{name}", reason="Kasal sets it for a model, not for an agent")
            )
    if agent.needs_approval:
        remarks.append(Remark(field=f"{where}.needs_approval", reason=_NO_APPROVAL))
    if agent.sandbox != SandboxSettings():
        remarks.append(Remark(field=f"{where}.sandbox", reason="the sandbox model is this server's own"))
    return _NODE_DATA | {
        "label": agent.name,
        "role": agent.role,
        "goal": agent.goal,
        "backstory": agent.backstory,
        "tools": _tools(agent.tools, f"{where}.tools", remarks),
        "agentId": _id(crew, "agent", agent.name),
        "llm": agent.model,
        "max_iter": agent.max_iter,
        "max_execution_time": agent.max_execution_time,
        "allow_delegation": agent.allow_delegation,
        "memory": crew.memory,
        "type": "agent",
    }


def _task_data(
    task: CrewTask, place: int, ids: dict[tuple[str, str | None], str], remarks: list[Remark]
) -> dict[str, Any]:
    where = f"tasks[{place}]"
    config = _TASK_CONFIG | {"output_file": task.output_file, "human_input": task.human_input}
    if task.guardrail is not None:
        config["llm_guardrail"] = {"description": task.guardrail, "llm_model": None}
    if task.guardrail_max_retries != CrewTask.model_fields["guardrail_max_retries"].default:
        config["guardrail_max_retries"] = task.guardrail_max_retries
    if task.output_schema is not None:
        remarks.append(
            Remark(
                field=f"{where}.output_schema", reason="a task of Kasal's has no JSON schema for its result"
            )
        )
    if task.condition is not None:
        remarks.append(
            Remark(field=f"{where}.condition", reason="Kasal has no such condition: the task is always done")
        )
    if task.context == []:
        remarks.append(
            Remark(
                field=f"{where}.context",
                reason="Kasal has no word for a task that gets no results: it gets those before it",
            )
        )
    return _NODE_DATA | {
        "label": task.name,
        "tools": _tools(task.tools, f"{where}.tools", remarks),
        "taskId": ids["task", task.name],
        "type": "task",
        "description": task.description,
        "expected_output": task.expected_output,
        "config": config,
        "context": [ids["task", other] for other in task.context or ()],
        "async_execution": task.async_execution,
    }


def _tools(names: list[str], where: str, remarks: list[Remark]) -> list[str]:
    found = []
    for place, name in enumerate(names):
        number = IN_KASAL.get(name)
        if number is None:
            remarks.append(Remark(field=f"{where}[{place}]", reason=f"Kasal has no tool {name!r}"))
            continue
        theirs = KASAL_TOOLS[int(number)]
        remarks.append(
            Remark(field=f"{where}[{place}]", reason=f"Kasal's {theirs} does there what {name} does")
        )
        found.append(number)
    return found


def _node(kind: str, member_id: str, place: int, data: dict[str, Any]) -> dict[str, Any]:
    is_agent = kind == "agentNode"
    column = _TOP if is_agent else _TOP + _COLUMN
    return {
        "id": f"{'agent' if is_agent else 'task'}-{member_id}",
        "type": kind,
        "position": {"x": column, "y": _TOP + _ROW * place},
        "data": data,
        **_NODE,
    }


def _edge(source: str, target: str) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "id": f"reactflow__edge-{source}-{target}",
        "sourceHandle": None,
        "targetHandle": None,
    }


def _id(crew: CrewCreate, kind: str, name: str | None) -> str:
    """Make an id as Kasal has them, always the same one for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kasal:{crew.name}/{kind}/{name}"))
