"""The fields of CrewAI's agents, tasks and crews, in our words; and those that there are none for here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kasal_jupyter.formats.crewai_braces import from_crewai
from kasal_jupyter.formats.crewai_tools import tool_here
from kasal_jupyter.formats.document import Document, Path
from kasal_jupyter.formats.found_crew import Intake
from kasal_jupyter.formats.yaml_text import is_own_key
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.placeholders import AGENT_TEXTS
from kasal_jupyter.schemas.readiness import UNWRITTEN

_TRACE = "what happens is in the run's trace in any case"
_NO_CALLBACKS = "no code is called; the crew's webhook, or the run's events, tell of it"
_NO_SETTING = "there is no such setting here"
_NO_CODE = "a class of the project's is code; give the task an output_schema, a JSON schema, instead"
_KNOWLEDGE = "knowledge is attached to the crew itself: POST /v1/crews/{crew_id}/knowledge"
_CACHE = "results of tools are never cached here"
_LIMIT = "there is no limit of requests a minute here; the provider's own is waited for"
_PROMPTS = "CrewAI's own prompts are used"

_AGENT = {"role", "goal", "backstory", "allow_delegation", "max_iter", "max_execution_time"}
_TASK = {
    "description",
    "expected_output",
    "agent",
    "async_execution",
    "output_file",
    "guardrail",
    "guardrail_max_retries",
}
_CREW = {"process", "memory", "planning", "manager_agent", "description"}

_AGENT_LEFT: dict[str, tuple[tuple[object, ...], str]] = {
    "verbose": ((False,), _TRACE),
    "cache": ((False,), _CACHE),
    "memory": ((False,), "a crew remembers, not an agent; see the crew's memory"),
    "max_rpm": ((), _LIMIT),
    "max_retry_limit": ((), "a failing model is asked again as its provider's errors say"),
    "function_calling_llm": ((), "an agent calls its tools with its own model"),
    "respect_context_window": ((True,), "what does not fit into a model's context ends the run"),
    "use_system_prompt": ((True,), _NO_SETTING),
    "system_template": ((), _PROMPTS),
    "prompt_template": ((), _PROMPTS),
    "response_template": ((), _PROMPTS),
    "allow_code_execution": ((False,), "give the agent the tool python, where the server has it"),
    "code_execution_mode": (("safe",), "give the agent the tool python, where the server has it"),
    "multimodal": ((False,), _NO_SETTING),
    "reasoning": ((False,), "set the crew's planning instead"),
    "max_reasoning_attempts": ((), "set the crew's planning instead"),
    "planning": ((False,), "set the crew's planning instead"),
    "planning_config": ((), "set the crew's planning instead"),
    "knowledge_sources": ((), _KNOWLEDGE),
    "knowledge_config": ((), _KNOWLEDGE),
    "knowledge": ((), _KNOWLEDGE),
    "embedder": ((), "the server's embedder is used"),
    "callbacks": ((), _NO_CALLBACKS),
    "step_callback": ((), _NO_CALLBACKS),
    "inject_date": ((False,), "write the date into a text, or pass it as an input"),
    "date_format": (("%Y-%m-%d",), "write the date into a text, or pass it as an input"),
    "guardrail": ((), "a task has a guardrail here, not an agent"),
    "guardrail_max_retries": ((3,), "a task has a guardrail here, not an agent"),
    "from_repository": ((), "CrewAI's repository of agents is not asked; write the agent's fields down"),
    "apps": ((), "register the application's MCP server as a tool: POST /v1/tools/mcp"),
    "mcps": ((), "register the MCP server: POST /v1/tools/mcp; its tools are named like any other"),
    "tool_configs": ((), "a tool is configured where it is registered"),
    "skills": ((), _NO_SETTING),
    "security_config": ((), _NO_SETTING),
}
"""Of an agent: what is left out, the values that lose nothing by it, and what to do instead."""

_TASK_LEFT: dict[str, tuple[tuple[object, ...], str]] = {
    "human_input": ((False,), "give the agent the tool ask_human instead"),
    "markdown": ((False,), "say in expected_output that Markdown is wanted"),
    "output_json": ((), _NO_CODE),
    "output_pydantic": ((), _NO_CODE),
    "response_model": ((), _NO_CODE),
    "converter_cls": ((), _NO_CODE),
    "create_directory": ((True,), "folders of output_file are always made"),
    "callback": ((), _NO_CALLBACKS),
    "callbacks": ((), _NO_CALLBACKS),
    "guardrails": ((), "a task has one guardrail here; write them as one text"),
    "input_files": ((), "pass what they hold as an input, or attach it to the crew as knowledge"),
    "allow_crewai_trigger_context": ((False,), _NO_SETTING),
    "tool_configs": ((), "a tool is configured where it is registered"),
    "security_config": ((), _NO_SETTING),
}

_CREW_LEFT: dict[str, tuple[tuple[object, ...], str]] = {
    "verbose": ((False,), _TRACE),
    "cache": ((False,), _CACHE),
    "max_rpm": ((), _LIMIT),
    "inputs": ((), "inputs are given at each run"),
    "embedder": ((), "the server's embedder is used"),
    "function_calling_llm": ((), "an agent calls its tools with its own model"),
    "chat_llm": ((), _NO_SETTING),
    "step_callback": ((), _NO_CALLBACKS),
    "task_callback": ((), _NO_CALLBACKS),
    "before_kickoff_callbacks": ((), _NO_CALLBACKS),
    "after_kickoff_callbacks": ((), _NO_CALLBACKS),
    "output_log_file": ((), _TRACE),
    "tracing": ((), _TRACE),
    "stream": ((), "answers are streamed in any case"),
    "share_crew": ((False,), "nothing is sent to anybody"),
    "knowledge_sources": ((), _KNOWLEDGE),
    "knowledge": ((), _KNOWLEDGE),
    "prompt_file": ((), _PROMPTS),
    "skills": ((), _NO_SETTING),
    "security_config": ((), _NO_SETTING),
}

_SETTINGS = set(ModelSettings.model_fields)


def agent_fields(intake: Intake, document: Document, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give an agent's fields in our words; what is left out is noted."""
    merged = dict(given)
    settings = merged.pop("settings", None)
    if isinstance(settings, Mapping):
        # What CrewAI's JSON agents have under `settings` is the agent's as if it stood beside.
        merged |= settings
    fields = _taken(
        intake, path, merged, _AGENT, _AGENT_LEFT, other={"name", "llm", "tools", "max_tokens", "type"}
    )
    fields |= {name: from_crewai(fields[name]) for name in AGENT_TEXTS if name in fields}
    _ask_for(intake, path, merged, fields, ("role", "goal"))
    if merged.get("name"):
        fields["name"] = merged["name"]
    _kind(intake, document, path, merged, ("agent", "Agent", "crewai.Agent", "crewai.agent.core.Agent"))
    fields |= model_fields(intake, (*path, "llm"), merged.get("llm"))
    if merged.get("max_tokens") is not None:
        fields["settings"] = {**fields.get("settings", {}), "max_tokens": merged["max_tokens"]}
    fields |= tool_fields(intake, (*path, "tools"), merged.get("tools"))
    return fields


def task_fields(intake: Intake, document: Document, path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give a task's fields in our words; what is left out is noted."""
    fields = _taken(
        intake, path, given, _TASK, _TASK_LEFT, other={"name", "tools", "context", "type", "condition"}
    )
    _ask_for(intake, path, given, fields, ("description", "expected_output"))
    if isinstance(file := fields.get("output_file"), str) and "\\" in file:
        fields["output_file"] = file.replace("\\", "/")
        intake.remark((*path, "output_file"), "its backslashes are slashes here, on every system")
    for name in ("description", "expected_output", "output_file"):
        if name in fields:
            fields[name] = from_crewai(fields[name])
    if given.get("name"):
        fields["name"] = given["name"]
    if "context" in given:
        # An empty one is none to CrewAI, which is another thing than one that is left out.
        fields["context"] = given["context"] or []
    kind = given.get("type")
    conditional = isinstance(kind, str) and kind in {
        "conditional",
        "conditional_task",
        "ConditionalTask",
        "crewai.tasks.conditional_task.ConditionalTask",
    }
    if not conditional:
        _kind(intake, document, path, given, ("task", "Task", "crewai.Task", "crewai.task.Task"))
    condition = given.get("condition")
    if isinstance(condition, Mapping):
        fields["condition"] = dict(condition)
    elif conditional or condition is not None:
        intake.remark(
            (*path, "condition"),
            f"{condition or 'what CrewAI takes'} is code: the task is always done; give it a condition",
        )
    guardrail = fields.get("guardrail")
    if guardrail is not None and not isinstance(guardrail, str):
        del fields["guardrail"]
        intake.remark((*path, "guardrail"), "it is no text; say in words what the result must be like")
    return fields | tool_fields(intake, (*path, "tools"), given.get("tools"))


def crew_fields(intake: Intake, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give a crew's own fields in our words; what is left out is noted."""
    del document
    other = {"agents", "tasks", "name", "manager_llm", "planning_llm"}
    fields = _taken(intake, (), given, _CREW, _CREW_LEFT, other=other)
    if given.get("name"):
        fields["name"] = given["name"]
    for theirs, ours in (("manager_llm", "manager_model"), ("planning_llm", "planning_model")):
        found = model_fields(intake, (theirs,), given.get(theirs))
        if "model" in found:
            fields[ours] = found["model"]
        for setting in found.get("settings", ()):
            intake.remark((theirs, setting), "the crew's own models have no settings here")
    memory = fields.get("memory")
    if memory is not None and not isinstance(memory, bool):
        fields["memory"] = True
        intake.remark(("memory",), "how a crew remembers is the server's to set; it does remember")
    return fields


def model_fields(intake: Intake, path: Path, llm: object) -> dict[str, Any]:
    """Give a model and its settings; a mapping is a model with its settings, as CrewAI writes one."""
    if llm is None or llm == "":
        return {}
    if isinstance(llm, str):
        return {"model": llm}
    if not isinstance(llm, Mapping) or not isinstance(llm.get("model"), str):
        intake.remark(path, f"{llm} names no model by a text; the server's default is asked")
        return {}
    settings = {}
    for key, value in llm.items():
        if key == "model" or value is None:
            continue
        if key in _SETTINGS:
            settings[key] = value
        elif "key" in key or "token" in key or key in {"base_url", "api_base"}:
            intake.remark((*path, key), "keys and addresses are the provider's: PUT /v1/providers/{provider}")
        else:
            intake.remark((*path, key), f"{_NO_SETTING}{intake.nearest(key, _SETTINGS)}")
    return {"model": llm["model"], **({"settings": settings} if settings else {})}


def tool_fields(intake: Intake, path: Path, tools: object) -> dict[str, Any]:
    """Give the tools that there are here, each by our name; the others are noted."""
    if not tools:
        return {}
    if not isinstance(tools, list):
        return {"tools": tools}
    found: list[object] = []
    for place, tool in enumerate(tools):
        where = (*path, place)
        if not isinstance(tool, str):
            intake.remark(
                where, f"{_short(tool)} is left out; register it: POST /v1/tools/custom or /v1/tools/mcp"
            )
            continue
        known = intake.tools
        if known is not None and tool in known:
            found.append(tool)
        elif (ours := tool_here(tool)) is not None:
            if ours not in found:
                found.append(ours)
            intake.remark(where, f"{ours} does here what {tool} does")
        elif known is None:
            found.append(tool)
        else:
            hint = intake.nearest(tool, known)
            intake.remark(where, f"there is no tool {tool!r} here{hint}; it is left out")
    return {"tools": found} if found else {}


def _ask_for(
    intake: Intake, path: Path, given: Mapping[str, Any], fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Put down which texts are empty and have to be written; until then the crew is ``configuring``."""
    for name in names:
        if name in given and name not in fields:
            fields[name] = UNWRITTEN
            intake.remark((*path, name), "it is empty; write it before the crew is run")


def _taken(
    intake: Intake,
    path: Path,
    given: Mapping[str, Any],
    same: set[str],
    left: Mapping[str, tuple[tuple[object, ...], str]],
    *,
    other: set[str],
) -> dict[str, Any]:
    """Give the fields that are called the same here, and note those that there are none for."""
    fields: dict[str, Any] = {}
    for key, value in given.items():
        if value is None or key in other or (not path and is_own_key(key)):
            continue
        if key in same and isinstance(value, str) and not value.strip():
            # Nothing is said by it; what has to be said is asked for below.
            continue
        if key in same:
            fields[key] = value
            continue
        without_loss, reason = left.get(key, ((), ""))
        # What is empty or switched off is nothing to carry over.
        if value in ("", [], {}) or any(value is each or value == each for each in without_loss):
            continue
        if not reason:
            reason = f"no field of that name is known{intake.nearest(key, [*same, *other])}; it is left out"
        intake.remark((*path, key), reason)
    return fields


def _kind(
    intake: Intake, document: Document, path: Path, given: Mapping[str, Any], plain: tuple[str, ...]
) -> None:
    kind = given.get("type")
    # {"python": …} is refused as a reference to code, with its name.
    if isinstance(kind, str) and kind not in plain:
        intake.fault(document, (*path, "type"), f"there is no type {kind!r}; leave it out")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:79]}…"
