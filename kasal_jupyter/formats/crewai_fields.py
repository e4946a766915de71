"""CrewAI's words in ours: the fields of agents, tasks and crews, the tools' names, the braces of inputs.

Those that there are none for here are named as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kasal_jupyter.formats.document import Document, Path
from kasal_jupyter.formats.found_crew import ImportNotes
from kasal_jupyter.formats.yaml_text import is_own_key
from kasal_jupyter.schemas.agents import CrewAgent, ModelSettings
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.placeholders import AGENT_TEXTS, rewrite
from kasal_jupyter.schemas.readiness import UNWRITTEN
from kasal_jupyter.schemas.tasks import CrewTask

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
    "human_input",
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


def agent_fields(
    notes: ImportNotes, document: Document, path: Path, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Give an agent's fields in our words; what is left out is noted."""
    merged = dict(given)
    settings = merged.pop("settings", None)
    if isinstance(settings, Mapping):
        # What CrewAI's JSON agents have under `settings` is the agent's as if it stood beside.
        merged |= settings
    fields = _taken(
        notes, path, merged, _AGENT, _AGENT_LEFT, other={"name", "llm", "tools", "max_tokens", "type"}
    )
    fields |= {name: from_crewai(fields[name]) for name in AGENT_TEXTS if name in fields}
    _ask_for(notes, path, merged, fields, ("role", "goal"))
    if merged.get("name"):
        fields["name"] = merged["name"]
    _kind(notes, document, path, merged, ("agent", "Agent", "crewai.Agent", "crewai.agent.core.Agent"))
    fields |= model_fields(notes, (*path, "llm"), merged.get("llm"))
    if merged.get("max_tokens") is not None:
        fields["settings"] = {**fields.get("settings", {}), "max_tokens": merged["max_tokens"]}
    fields |= tool_fields(notes, (*path, "tools"), merged.get("tools"))
    return fields


def task_fields(
    notes: ImportNotes, document: Document, path: Path, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Give a task's fields in our words; what is left out is noted."""
    fields = _taken(
        notes, path, given, _TASK, _TASK_LEFT, other={"name", "tools", "context", "type", "condition"}
    )
    _ask_for(notes, path, given, fields, ("description", "expected_output"))
    if isinstance(file := fields.get("output_file"), str) and "\\" in file:
        fields["output_file"] = file.replace("\\", "/")
        notes.remark((*path, "output_file"), "its backslashes are slashes here, on every system")
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
        _kind(notes, document, path, given, ("task", "Task", "crewai.Task", "crewai.task.Task"))
    condition = given.get("condition")
    if isinstance(condition, Mapping):
        fields["condition"] = dict(condition)
    elif conditional or condition is not None:
        notes.remark(
            (*path, "condition"),
            f"{condition or 'what CrewAI takes'} is code: the task is always done; give it a condition",
        )
    guardrail = fields.get("guardrail")
    if guardrail is not None and not isinstance(guardrail, str):
        del fields["guardrail"]
        notes.remark((*path, "guardrail"), "it is no text; say in words what the result must be like")
    return fields | tool_fields(notes, (*path, "tools"), given.get("tools"))


def crew_fields(notes: ImportNotes, document: Document, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give a crew's own fields in our words; what is left out is noted."""
    del document
    other = {"agents", "tasks", "name", "manager_llm", "planning_llm"}
    fields = _taken(notes, (), given, _CREW, _CREW_LEFT, other=other)
    if given.get("name"):
        fields["name"] = given["name"]
    for theirs, ours in (("manager_llm", "manager_model"), ("planning_llm", "planning_model")):
        found = model_fields(notes, (theirs,), given.get(theirs))
        if "model" in found:
            fields[ours] = found["model"]
        for setting in found.get("settings", ()):
            notes.remark((theirs, setting), "the crew's own models have no settings here")
    memory = fields.get("memory")
    if memory is not None and not isinstance(memory, bool):
        fields["memory"] = True
        notes.remark(("memory",), "how a crew remembers is the server's to set; it does remember")
    return fields


def model_fields(notes: ImportNotes, path: Path, llm: object) -> dict[str, Any]:
    """Give a model and its settings; a mapping is a model with its settings, as CrewAI writes one."""
    if llm is None or llm == "":
        return {}
    if isinstance(llm, str):
        return {"model": llm}
    if not isinstance(llm, Mapping) or not isinstance(llm.get("model"), str):
        notes.remark(path, f"{llm} names no model by a text; the server's default is asked")
        return {}
    settings = {}
    for key, value in llm.items():
        if key == "model" or value is None:
            continue
        if key in _SETTINGS:
            settings[key] = value
        elif "key" in key or "token" in key or key in {"base_url", "api_base"}:
            notes.remark((*path, key), "keys and addresses are the provider's: PUT /v1/providers/{provider}")
        else:
            notes.remark((*path, key), f"{_NO_SETTING}{notes.nearest(key, _SETTINGS)}")
    return {"model": llm["model"], **({"settings": settings} if settings else {})}


def tool_fields(notes: ImportNotes, path: Path, tools: object) -> dict[str, Any]:
    """Give the tools that there are here, each by our name; the others are noted."""
    if not tools:
        return {}
    if not isinstance(tools, list):
        return {"tools": tools}
    found: list[object] = []
    for place, tool in enumerate(tools):
        where = (*path, place)
        if not isinstance(tool, str):
            notes.remark(
                where, f"{_short(tool)} is left out; register it: POST /v1/tools/custom or /v1/tools/mcp"
            )
            continue
        known = notes.tools
        if known is not None and tool in known:
            found.append(tool)
        elif (ours := tool_here(tool)) is not None:
            if ours not in found:
                found.append(ours)
            notes.remark(where, f"{ours} does here what {tool} does")
        elif known is None:
            found.append(tool)
        else:
            hint = notes.nearest(tool, known)
            notes.remark(where, f"there is no tool {tool!r} here{hint}; it is left out")
    return {"tools": found} if found else {}


def _ask_for(
    notes: ImportNotes, path: Path, given: Mapping[str, Any], fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    """Put down which texts are empty and have to be written; until then the crew is ``configuring``."""
    for name in names:
        if name in given and name not in fields:
            fields[name] = UNWRITTEN
            notes.remark((*path, name), "it is empty; write it before the crew is run")


def _taken(
    notes: ImportNotes,
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
            reason = f"no field of that name is known{notes.nearest(key, [*same, *other])}; it is left out"
        notes.remark((*path, key), reason)
    return fields


def _kind(
    notes: ImportNotes, document: Document, path: Path, given: Mapping[str, Any], plain: tuple[str, ...]
) -> None:
    kind = given.get("type")
    # {"python": …} is refused as a reference to code, with its name.
    if isinstance(kind, str) and kind not in plain:
        notes.fault(document, (*path, "type"), f"there is no type {kind!r}; leave it out")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:79]}…"


# -- tools ----------------------------------------------------------------------------------------------

# What CrewAI's and Kasal's tools are called here.
#
# The names are those of the ``crewai_tools`` package, and the numbers those that Kasal's own seeds give its
# tools (``src/backend/src/seeds/tools.py`` of databrickslabs/kasal).

_HERE = {
    "web_search": (
        "SerperDev",
        "BraveSearch",
        "TavilySearch",
        "EXASearch",
        "LinkupSearch",
        "SerplyWebSearch",
        "SerpApiGoogleSearch",
        "DuckDuckGoSearch",
    ),
    "web_page": (
        "ScrapeWebsite",
        "ScrapeElementFromWebsite",
        "FirecrawlScrapeWebsite",
        "SerplyWebpageToMarkdown",
        "TavilyExtractor",
    ),
    "file_reader": ("FileRead",),
    "file_writer": ("FileWriter", "FileWrite"),
    "directory_list": ("DirectoryRead",),
    "python": ("CodeInterpreter",),
}
"""Our built-in tools, each with those of CrewAI that do the same."""

KASAL_TOOLS = {
    6: "Dall-E Tool",
    16: "SerperDevTool",
    26: "ScrapeWebsiteTool",
    31: "PerplexityTool",
    35: "GenieTool",
    36: "DatabricksKnowledgeSearchTool",
    69: "MCPTool",
    70: "DatabricksJobsTool",
    71: "AgentBricksTool",
    72: "Power BI Comprehensive Analysis Tool",
    73: "Measure Conversion Pipeline",
    74: "M-Query Conversion Pipeline",
    75: "Power BI Relationships Tool",
    76: "Power BI Hierarchies Tool",
    77: "Power BI Field Parameters & Calculation Groups Tool",
    78: "Power BI Report References Tool",
    79: "Power BI Semantic Model Fetcher",
    80: "Power BI Semantic Model DAX Generator",
    81: "Power BI Metadata Reducer",
    82: "Power BI DAX Executor",
    85: "DAX to SQL Translator",
    86: "UC Metric View Generator",
    87: "PBI Measure Allocator",
    88: "Metric View Deployer",
    89: "Config Generator",
    90: "Pipeline Config Generator",
    91: "Metric View Validator",
    92: "Genie Space Generator",
    93: "UCMV Genie Space Config Generator",
    94: "PBI Visual-UCMV Mapper",
    95: "Databricks Dashboard Creator",
}
"""Kasal's tools by the numbers that a canvas has for them."""

IN_KASAL = {"web_search": "16", "web_page": "26"}
"""Our built-in tools that Kasal has one for."""


def tool_here(name: str) -> str | None:
    """Give our built-in tool that does what one of CrewAI's does; None where there is none.

    Parameters
    ----------
    name
        As CrewAI takes it: ``SerperDevTool``, ``SerperDev``, ``serper_dev``.
    """
    return _BY_NAME.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"_|tool$", "", name.lower())


_BY_NAME = {_plain(theirs): ours for ours, names in _HERE.items() for theirs in names}


# -- braces ---------------------------------------------------------------------------------------------

# Braces as CrewAI reads them: around a name of ASCII letters one pair is the input's, all others are text.
#
# CrewAI has no word for the text ``{topic}`` itself (see :mod:`kasal_jupyter.schemas.placeholders` for
# ours).

_TASK_TEXTS = ("description", "expected_output", "output_file")

M = TypeVar("M", CrewAgent, CrewTask)


def from_crewai(text: object) -> object:
    """Give a text of CrewAI's with its braces as ours; what is no text, as it is."""
    if not isinstance(text, str):
        return text

    def ours(name: str, depth: int) -> int:
        return 2 * depth - 1 if name.isascii() else 2 * depth

    return rewrite(text, ours)


def to_crewai(crew: CrewCreate, remarks: list[Remark], given: str) -> tuple[CrewCreate, dict[str, str]]:
    """Write a crew's texts with CrewAI's braces.

    Parameters
    ----------
    crew
        The crew.
    remarks
        Takes what CrewAI cannot say.
    given
        What is to be said of a name in braces that is plain text: to CrewAI it is an input.

    Returns
    -------
    crew
        The crew.
    inputs
        Those that it takes there, each with its value where that is always the same: what stands in braces
        as plain text has to be given as what it is, ``{name}``.
    """
    made = _Written(remarks, given)
    agents = [made.member(agent, AGENT_TEXTS, f"agents[{place}]") for place, agent in enumerate(crew.agents)]
    tasks = [made.member(task, _TASK_TEXTS, f"tasks[{place}]") for place, task in enumerate(crew.tasks)]
    literal = {name: f"{{{name}}}" for name in made.literal if name not in made.inputs}
    return crew.model_copy(update={"agents": agents, "tasks": tasks}), made.inputs | literal


@dataclass(slots=True)
class _Written:
    remarks: list[Remark]
    given: str
    inputs: dict[str, str] = field(default_factory=dict)
    literal: dict[str, None] = field(default_factory=dict)

    def member(self, member: M, names: tuple[str, ...], where: str) -> M:
        texts = {name: text for name in names if (text := getattr(member, name)) is not None}
        update = {name: self._text(text, f"{where}.{name}") for name, text in texts.items()}
        return member.model_copy(update=update)

    def _text(self, text: str, where: str) -> str:
        literal: dict[str, None] = {}
        foreign: dict[str, None] = {}

        def theirs(name: str, depth: int) -> int:
            pairs, filled = divmod(depth, 2)
            if not name.isascii():
                foreign.update(dict.fromkeys([name] if filled else ()))
            elif filled:
                self.inputs[name] = ""
            else:
                literal[name] = None
            return pairs + filled

        written = rewrite(text, theirs)
        self.literal |= literal
        for name in literal:
            self.remarks.append(Remark(field=where, reason=f"{{{name}}} is an input there, {self.given}"))
        for name in foreign:
            reason = f"CrewAI takes ASCII letters alone in an input's name, and leaves {{{name}}} as it is"
            self.remarks.append(Remark(field=where, reason=reason))
        return written
