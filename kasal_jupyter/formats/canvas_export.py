"""A crew as Kasal's canvas would save it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from kasal_jupyter.formats.crewai_braces import to_crewai
from kasal_jupyter.formats.crewai_tools import IN_KASAL, KASAL_TOOLS
from kasal_jupyter.formats.outline import Exported, file_name, outline, with_texts
from kasal_jupyter.schemas.agents import CrewAgent, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.tasks import CrewTask

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


def _agent_data(agent: CrewAgent, place: int, crew: CrewCreate, remarks: list[Remark]) -> dict[str, Any]:
    where = f"agents[{place}]"
    if agent.fallbacks:
        remarks.append(Remark(field=f"{where}.fallbacks", reason="an agent of Kasal's has one model"))
    for name, value in agent.settings.model_dump().items():
        if value != getattr(ModelSettings(), name):
            remarks.append(
                Remark(field=f"{where}.settings.{name}", reason="Kasal sets it for a model, not for an agent")
            )
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
    config = _TASK_CONFIG | {"output_file": task.output_file}
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
