"""Kasal's crew export: nodes and edges, as its canvas saves them."""

import copy
import json

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.canvas import export_canvas, read_canvas
from kasal_jupyter.formats.conversion import import_crew
from kasal_jupyter.schemas.crews import CrewCreate

BLANK = {
    **dict.fromkeys(
        (
            *(
                "role",
                "goal",
                "backstory",
                "tool_configs",
                "agentId",
                "taskId",
                "llm",
                "function_calling_llm",
            ),
            *("max_iter", "max_rpm", "max_execution_time", "verbose", "allow_delegation", "cache"),
            *("embedder_config", "system_template", "prompt_template", "response_template"),
            *("allow_code_execution", "code_execution_mode", "max_retry_limit", "use_system_prompt"),
            *(
                "respect_context_window",
                "description",
                "expected_output",
                "icon",
                "advanced_config",
                "config",
            ),
            *("knowledge_sources", "llm_guardrail"),
        )
    ),
    "tools": [],
    "memory": True,
    "context": [],
    "async_execution": False,
    "markdown": False,
}
"""A node's data with nothing set, as Kasal writes it for agents and tasks alike."""

CONFIG = {
    **dict.fromkeys(("timeout", "output_file", "output_json", "output_pydantic")),
    **dict.fromkeys(("validation_function", "callback_function", "llm_guardrail")),
    "cache_response": False,
    "cache_ttl": 3600,
    "retry_on_fail": True,
    "max_retries": 3,
    "priority": 1,
    "error_handling": "default",
    "human_input": False,
    "markdown": False,
}


def node(kind, key, **data):
    named = {f"{kind}Id": key, "type": kind}
    return {
        "id": f"{kind}-{key}",
        "type": f"{kind}Node",
        "position": {"x": 68, "y": 73},
        "data": {**BLANK, **named, **data},
        **dict.fromkeys(("width", "height", "selected", "positionAbsolute", "dragging", "style")),
    }


def edge(source, target):
    return {"source": source, "target": target, "id": f"reactflow__edge-{source}-{target}"}


CANVAS = {
    "id": "1a6b7844-c651-4e88-b95d-84fcef04231a",
    "name": "tea_prices",
    "agent_ids": ["a1", "a2"],
    "task_ids": ["t1", "t2"],
    "nodes": [
        # A canvas has its nodes in the order they were made, not in the one they are done.
        node(
            "task",
            "t2",
            label="Write the report",
            description="Write about {topic}",
            expected_output="A report",
            config={**CONFIG, "llm_guardrail": {"description": "It is short", "llm_model": "databricks-x"}},
        ),
        node(
            "agent",
            "a1",
            label="Finder",
            role="Finder of prices",
            goal="Find them",
            backstory="Old",
            tools=["16", 71],
            llm="databricks-llama-4-maverick",
            max_iter=25,
            max_rpm=1,
            cache=True,
            max_retry_limit=3,
            code_execution_mode="safe",
            allow_delegation=False,
        ),
        node("agent", "a2", label="Writer", role="Writer", goal="Write", backstory="", tools=["999"]),
        node(
            "task",
            "t1",
            label="Find prices",
            description="Find prices of {topic}",
            expected_output="Prices",
            config={**CONFIG, "output_file": "prices.md", "human_input": True},
            tool_configs={"GenieTool": {"space": "x"}},
        ),
    ],
    "edges": [
        edge("agent-a1", "task-t1"),
        edge("task-t1", "task-t2"),
        edge("agent-a2", "task-t2"),
        edge("agent-gone", "task-t2"),
    ],
    "process": "sequential",
    "planning": True,
    "planning_llm": "databricks-claude",
    "reasoning": False,
    "reasoning_llm": None,
    "manager_llm": None,
    "tool_configs": None,
    "memory": True,
    "verbose": True,
    "max_rpm": None,
    "created_at": "2025-12-03T16:09:08.320279",
}


def canvas(**changed):
    return {**copy.deepcopy(CANVAS), **changed}


def read(data, **options):
    return import_crew({"export.json": json.dumps(data, indent=1)}, **options)


def faults_of(data):
    with pytest.raises(InvalidRequest) as caught:
        read(data)
    return [(fault.field, fault.reason) for fault in caught.value.faults]


def test_nodes_and_edges_become_agents_and_tasks():
    imported = read(canvas(), tools=["web_search"])
    crew = imported.crew
    assert (imported.format, crew.name, crew.process) == ("kasal", "tea_prices", "sequential")
    assert (crew.memory, crew.planning, crew.planning_model) == (True, True, "databricks-claude")
    finder, writer = crew.agents
    assert (finder.name, finder.role, finder.tools, finder.max_iter) == (
        *("Finder", "Finder of prices", ["web_search"]),
        25,
    )
    assert (finder.model, writer.model) == ("databricks-llama-4-maverick", None)
    # Behind the task whose result it gets, wherever its node stands.
    find, write = crew.tasks
    assert (find.name, find.agent, find.output_file) == ("Find prices", "Finder", "prices.md")
    assert (write.name, write.agent, write.context) == ("Write the report", "Writer", ["Find prices"])
    assert write.guardrail == "It is short"


def test_everything_that_is_left_out_is_listed_and_nothing_else():
    imported = read(canvas(), tools=["web_search"])
    assert [(remark.field, remark.reason) for remark in imported.remarks] == [
        ("nodes[0].data.config.llm_guardrail.llm_model", "a guardrail is checked by its agent's model"),
        (
            "nodes[1].data.max_rpm",
            "there is no limit of requests a minute here; the provider's own is waited for",
        ),
        ("nodes[1].data.tools[0]", "web_search does here what SerperDevTool does"),
        ("nodes[1].data.tools[1]", "there is no tool 'AgentBricksTool' here; it is left out"),
        ("nodes[2].data.tools[0]", 'there is no tool "Kasal\'s tool 999" here; it is left out'),
        (
            "nodes[3].data.tool_configs",
            "a tool is configured where it is registered; settings such as GenieTool are left out",
        ),
        ("edges[3]", "there is no agent and no task 'agent-gone'; it is left out"),
        ("nodes", "where they stand on the canvas is not kept"),
    ]


def test_an_older_export_has_no_more_than_nodes_and_edges():
    old = {key: CANVAS[key] for key in ("id", "name", "agent_ids", "task_ids", "nodes", "edges")}
    crew = read(old, name="Prices").crew
    assert (crew.name, crew.process, crew.memory, crew.planning) == ("Prices", "sequential", False, False)


def test_a_context_may_stand_in_the_node_instead_of_an_edge():
    data = canvas(edges=[edge("agent-a1", "task-t1"), edge("agent-a2", "task-t2")])
    data["nodes"][0]["data"]["context"] = ["t1", "gone"]
    imported = read(data)
    assert imported.crew.tasks[1].context == ["Find prices"]
    assert "there is no task 'gone'; it is left out" in [remark.reason for remark in imported.remarks]


def test_tasks_that_wait_for_each_other_are_a_fault():
    data = canvas(edges=[edge("task-t1", "task-t2"), edge("task-t2", "task-t1")])
    ((field, reason),) = faults_of(data)
    assert field == "edges"
    assert "tasks wait for each other: " in reason


def test_two_nodes_of_one_name_are_told_apart():
    data = canvas()
    data["nodes"][2]["data"]["label"] = "Finder"
    imported = read(data)
    assert [agent.name for agent in imported.crew.agents] == ["Finder", "Finder 2"]
    assert imported.crew.tasks[1].agent == "Finder 2"


def test_a_task_that_nobody_does_is_told():
    imported = read(canvas(edges=[edge("agent-a1", "task-t1")]))
    assert imported.crew.tasks[0].agent is None
    assert "no edge gives 'Write the report' an agent; give it one before it is run" in [
        remark.reason for remark in imported.remarks
    ]


def test_faults_have_their_line():
    data = canvas()
    data["nodes"][1]["data"]["goal"] = None
    data["nodes"][1]["data"]["max_iter"] = 1_000
    lines = json.dumps(data, indent=1).splitlines()
    line = next(place for place, text in enumerate(lines, 1) if '"max_iter": 1000' in text)
    faults = dict(faults_of(data))
    assert faults["nodes[1].data.max_iter"].startswith(f"export.json, line {line}: ")
    assert faults["nodes[1].data.goal"].endswith("Field required")


def test_an_export_is_what_kasal_takes():
    crew = CrewCreate.model_validate(
        {
            "name": "Tea",
            "agents": [
                {"name": "w", "role": "Writer", "goal": "Write", "model": "gpt-4", "tools": ["web_page"]}
            ],
            "tasks": [
                {"name": "a", "description": "A", "expected_output": "E", "agent": "w"},
                {"name": "b", "description": "B", "expected_output": "E", "agent": "w", "context": ["a"]},
            ],
        }
    )
    exported = export_canvas(crew)
    data = json.loads(exported.only[1])
    assert exported.only[0] == "tea.json"
    agent, first, second = data["nodes"]
    assert set(agent["data"]) >= set(BLANK)
    assert (agent["type"], agent["data"]["tools"], agent["data"]["llm"]) == ("agentNode", ["26"], "gpt-4")
    assert set(first["data"]["config"]) == set(CONFIG)
    assert second["data"]["context"] == [data["task_ids"][0]]
    assert [(each["source"], each["target"]) for each in data["edges"]] == [
        (agent["id"], first["id"]),
        (agent["id"], second["id"]),
        (first["id"], second["id"]),
    ]
    assert set(CANVAS) - set(data) == {"created_at"}
    assert export_canvas(crew).files == exported.files


def test_references_to_code_are_refused_here_too():
    data = canvas()
    data["nodes"][1]["data"]["tools"] = ["custom:thing"]
    ((field, reason),) = faults_of(data)
    assert (field, "custom:thing would execute code" in reason) == ("nodes[1].data.tools[0]", True)


def test_what_is_no_canvas_is_refused():
    with pytest.raises(InvalidRequest, match="a list of nodes is expected here"):
        read_canvas("x.json", "{}")
