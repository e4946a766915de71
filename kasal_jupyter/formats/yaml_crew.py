"""Crews in YAML: CrewAI's dialect, with agents and tasks by name.

::

    process: sequential
    agents:
      writer:
        role: Content Writer
        goal: Write about {topic}
        llm: sandbox
    tasks:
      draft:
        description: Write three sentences about {topic}
        expected_output: Three sentences
        agent: writer

``llm`` is an agent's model, ``manager_llm`` and ``planning_llm`` are the crew's, as CrewAI calls them;
``model``, ``manager_model`` and ``planning_model``, as the API calls them, do as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from kasal_jupyter.errors import Fault, Faults, InvalidRequest, listed
from kasal_jupyter.formats.yaml_source import WIDTH, Layout, by_layout
from kasal_jupyter.formats.yaml_text import (
    INVALID,
    fill_names,
    is_own_key,
    line_of,
    mark_names,
    named,
    parse_mapping,
    plain,
    reason_of,
    tag_of,
)
from kasal_jupyter.schemas.agents import AgentFields
from kasal_jupyter.schemas.crews import MOST_AGENTS, MOST_TASKS, CrewCreate, CrewDetails, CrewFields
from kasal_jupyter.schemas.exchange import MOST_OF_AN_ANSWER, CrewGenerate
from kasal_jupyter.schemas.tasks import TaskFields

_SPELLINGS = {"llm": "model", "manager_llm": "manager_model", "planning_llm": "planning_model"}
"""CrewAI's words for ours."""

_MEMBERS = ("agents", "tasks")

_NAMES_CODE = (
    "tools",
    "llm",
    "model",
    "fallbacks",
    "manager_llm",
    "manager_model",
    "manager_agent",
    "planning_llm",
    "planning_model",
    "agent",
    "context",
)
"""Where CrewAI would take a reference for code; prompts and JSON schemas are plain text and data."""

_AGENT_KEYS = {*AgentFields.model_fields, "llm"} - {"name"}
_TASK_KEYS = {*TaskFields.model_fields, "agent"} - {"name"}
_CREW_KEYS = {*CrewFields.model_fields, "manager_llm", "planning_llm", "agents", "tasks"}


@dataclass(slots=True)
class _Reader:
    """The faults of one text, as they are found, and the values of its ``{{names}}``."""

    values: Mapping[str, Any]
    faults: Faults = field(default_factory=Faults)

    def fault(self, path: str, line: int | None, reason: str) -> None:
        where = f"line {line}: " if line is not None else ""
        self.faults.append(Fault(path, f"{where}{reason}"))

    def mapping(self, value: object, path: str, line: int | None, what: str) -> CommentedMap:
        """Give the value if it is a mapping; else note that it is none, and give an empty one."""
        if isinstance(value, CommentedMap):
            return value
        self.fault(path, line, f"{what} are written by name: `name:` and their fields below, indented")
        return CommentedMap()

    def fields(self, node: CommentedMap, path: str, known: Iterable[str]) -> dict[str, Any]:
        """Give a mapping's known fields, in our spelling, as plain values."""
        found: dict[str, Any] = {}
        known = sorted(known)
        for key, value in node.items():
            line = line_of(node, key)
            where = f"{path}.{key}" if path else str(key)
            if not path and is_own_key(key):
                continue
            if key not in known:
                hint = self.faults.nearest(str(key), known) or f"; there are {', '.join(known)}"
                self.fault(where, line, f"{key!r} is no field here{hint}")
                continue
            if key in _MEMBERS:
                continue
            reference = tag_of(value) or _reference(key, value)
            if reference:
                self.fault(where, line, f"{reference} would execute code, which a crew's YAML may not")
                continue
            missing: set[str] = set()
            found[_SPELLINGS.get(key, key)] = fill_names(plain(value), self.values, missing)
            for name in sorted(missing):
                self.fault(
                    where, line, f"{{{{{name}}}}} has no value{self.faults.nearest(name, self.values)}"
                )
        return found


def load_crew(text: str, name: str | None = None, values: Mapping[str, Any] | None = None) -> CrewCreate:
    """Read a crew.

    Parameters
    ----------
    text
        The YAML.
    name
        The crew's name, where the text need not have one; it wins over the text's.
    values
        What each ``{{name}}`` in the text stands for; without it they stay as they are, as each
        ``{placeholder}`` of a run does.

    Raises
    ------
    InvalidRequest
        With every fault, each with its line and its field.
    """
    if values is not None:
        text = mark_names(text)
    root = parse_mapping(text, "a crew begins with `agents:` and `tasks:`")
    reader = _Reader(values or {})
    body = reader.fields(root, "", _CREW_KEYS)
    agents = _members(reader, root, "agents", _AGENT_KEYS)
    tasks = _members(reader, root, "tasks", _TASK_KEYS)
    nodes = {str(key): node for key, node in (root.get("tasks") or {}).items()} if tasks else {}
    earlier: dict[str, None] = {}
    for task_name, task in tasks.items():
        _check_references(
            reader, nodes[task_name], f"tasks.{task_name}", task, agents=agents, earlier=earlier
        )
        earlier[task_name] = None
    if "manager_agent" in body:
        body["manager_agent"] = named(body["manager_agent"])
    manager = body.get("manager_agent")
    if manager is not None and (not isinstance(manager, str) or manager not in agents):
        hint = reader.faults.nearest(str(manager), agents) or f"; there are {listed(agents)}"
        line = line_of(root, "manager_agent")
        reader.fault("manager_agent", line, f"there is no agent {manager!r}{hint}")
    if name is not None:
        body["name"] = name
    elif "name" not in body:
        reader.fault("name", None, "the crew has no name; write `name:` or give one on the first line")
        body["name"] = "crew"
    body["agents"] = [{"name": key, **fields} for key, fields in agents.items()]
    body["tasks"] = [{"name": key, **fields} for key, fields in tasks.items()]
    crew = _validate(reader, body, root, list(agents), list(tasks))
    if reader.faults or crew is None:
        first = reader.faults[0]
        raise InvalidRequest(f"{INVALID}: {first.field}: {first.reason}", faults=reader.faults.told())
    return crew


def dump_crew(crew: CrewCreate | CrewDetails) -> str:
    """Write a crew as YAML that :func:`load_crew` reads back to the same crew."""
    if isinstance(crew, CrewDetails):
        names = {agent.id: agent.name for agent in crew.agents}
        head: dict[str, Any] = {"name": crew.name, "description": crew.description}
        how = crew.configuration.model_dump(exclude_defaults=True)
        if crew.configuration.manager_agent is not None:
            how["manager_agent"] = names.get(
                crew.configuration.manager_agent, crew.configuration.manager_agent
            )
        head |= {_spelled(key): value for key, value in how.items()}
        agents = [agent.model_dump(exclude_defaults=True) for agent in crew.agents]
        titles = {task.id: task.name or f"task_{number}" for number, task in enumerate(crew.tasks, 1)}
        tasks = [
            task.model_dump(exclude_defaults=True)
            | {
                "name": titles[task.id],
                "agent": names.get(task.agent_id or ""),
                "context": None
                if task.context is None
                else [titles.get(entry, entry) for entry in task.context],
            }
            for task in crew.tasks
        ]
    else:
        given = crew.model_dump(exclude_defaults=True, exclude={"agents", "tasks"})
        head = {"name": crew.name, "description": crew.description, "process": crew.process}
        head |= {_spelled(key): value for key, value in given.items()}
        agents = [agent.model_dump(exclude_defaults=True) for agent in crew.agents]
        tasks = [task.model_dump(exclude_defaults=True) for task in crew.tasks]
    out = {key: value for key, value in head.items() if value}
    out["agents"] = _by_name(agents, _AGENT_KEYS)
    out["tasks"] = _by_name(tasks, _TASK_KEYS)
    return _written(out)


def ascii_yaml(text: str) -> str:
    """Write a text of :func:`dump_crew` with the letters of ASCII alone; it is read back to the same crew."""
    return _written(plain(parse_mapping(text, "a crew's YAML is a mapping")), letters=False)


def _written(crew: dict[str, Any], *, letters: bool = True) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = WIDTH
    yaml.allow_unicode = letters
    # Only in quotes there are escapes.
    yaml.dump(by_layout(crew, Layout()) if letters else crew, stream)
    return stream.getvalue()


def _reference(key: str, value: object) -> str | None:
    """Name the code that CrewAI would execute for a field's value, if there is any."""
    if key in _NAMES_CODE:
        return code_reference(value)
    if key == "condition" and isinstance(value, str):
        return code_reference(value)
    # Their texts are data, whatever they begin with; a function of Python's is not.
    if key in {"guardrail", "condition"} and isinstance(value, Mapping) and "python" in value:
        return '{"python": …}'
    return None


def code_reference(value: object) -> str | None:
    """Name the reference in a value that CrewAI would execute as code, if there is one."""
    if isinstance(value, str):
        return value if value.startswith("custom:") else None
    if isinstance(value, Mapping):
        if "python" in value:
            return '{"python": …}'
        return next(filter(None, map(code_reference, value.values())), None)
    if isinstance(value, list):
        return next(filter(None, map(code_reference, value)), None)
    return None


def _check_references(
    reader: _Reader,
    node: CommentedMap,
    path: str,
    task: dict[str, Any],
    *,
    agents: Collection[str],
    earlier: Collection[str],
) -> None:
    """Note the agents and tasks that a task names and that are not there."""
    for key in ("agent", "context"):
        if key in task:
            task[key] = named(task[key])
    agent = task.get("agent")
    if agent is not None and (not isinstance(agent, str) or agent not in agents):
        hint = reader.faults.nearest(str(agent), agents) or f"; there are {listed(agents)}"
        line = line_of(node, "agent")
        reader.fault(f"{path}.agent", line, f"there is no agent {agent!r}{hint}")
    context = task.get("context")
    for entry in context if isinstance(context, list) else ():
        # More than one word is a text that the task is given as it is; one word is a task's name.
        if isinstance(entry, str) and entry not in earlier and not any(char.isspace() for char in entry):
            hint = reader.faults.nearest(entry, earlier) or f"; before it there are {listed(earlier)}"
            line = line_of(node, "context")
            reader.fault(f"{path}.context", line, f"there is no earlier task {entry!r}{hint}")


def _members(reader: _Reader, root: CommentedMap, key: str, known: set[str]) -> dict[str, dict[str, Any]]:
    if key not in root:
        return {}
    members = reader.mapping(root[key], key, line_of(root, key), key)
    most = MOST_AGENTS if key == "agents" else MOST_TASKS
    if len(members) > most:
        reader.fault(key, line_of(root, key), f"there are more than {most:,}, which no crew may have")
        return {}
    found = {}
    for name, node in members.items():
        line = line_of(members, name)
        fields = reader.mapping(node, f"{key}.{name}", line, "its fields")
        found[str(name)] = reader.fields(fields, f"{key}.{name}", known)
        model = found[str(name)].get("model")
        if isinstance(model, dict):
            # CrewAI writes a model with its settings as a mapping.
            settings = {each: value for each, value in model.items() if each != "model"}
            found[str(name)] |= {"model": model.get("model"), "settings": settings}
    return found


def _validate(
    reader: _Reader, body: dict[str, Any], root: CommentedMap, agents: list[str], tasks: list[str]
) -> CrewCreate | None:
    try:
        return CrewCreate.model_validate(body, strict=True)
    except ValidationError as error:
        refused = {fault.field for fault in reader.faults}
        for item in error.errors(include_url=False):
            steps = list(item["loc"])
            node: Any = root
            line: int | None = None
            if len(steps) > 1 and steps[0] in _MEMBERS and isinstance(steps[1], int):
                steps[1] = (agents if steps[0] == "agents" else tasks)[steps[1]]
            for step in steps:
                known = step if not isinstance(node, CommentedMap) or step in node else _spelled(str(step))
                if isinstance(node, CommentedMap) and known in node:
                    line = line_of(node, known) or line
                    node = node[known]
            path = ".".join(map(str, steps))
            # A field that was refused above is not missing besides.
            if path not in refused:
                reader.fault(path, line, reason_of(item, item["input"]))
        return None


def _spelled(name: str) -> str:
    return next((theirs for theirs, ours in _SPELLINGS.items() if ours == name), name)


def _by_name(members: list[dict[str, Any]], known: set[str]) -> dict[str, dict[str, Any]]:
    """Give members by their names: an agent without one is called by its role, a task by its place."""
    named = {}
    for number, member in enumerate(members, 1):
        name = member.get("name") or member.get("role") or f"task_{number}"
        named[str(name)] = {
            _spelled(key): value
            for key, value in member.items()
            if key in known and (value not in (None, [], {}) or (key == "context" and value == []))
        }
    return named


# -- a model's answer -----------------------------------------------------------------------------------

# A crew in what a model says: YAML, fenced or not, with text around it or not.

_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*(\w*)")


def crew_of_answer(answer: str, request: CrewGenerate) -> CrewCreate:
    """Read a model's answer as a crew: the YAML in its first fence, or all of it.

    Raises
    ------
    InvalidRequest
        It is none; with every fault.
    """
    text = answer.strip()
    if len(text) > MOST_OF_AN_ANSWER:
        reason = f"the answer has more than {MOST_OF_AN_ANSWER:,} characters"
        raise InvalidRequest(reason, faults=[Fault("yaml", reason)])
    fences = [inside for language, inside in _fenced(text) if language in {"", "yaml", "yml", "json"}]
    text = next((each for each in fences if "agents" in each), fences[0] if fences else text)
    crew = _named(text, request)
    agents = [
        agent.model_copy(update={"model": request.model}) if agent.model is None else agent
        for agent in crew.agents
    ]
    return crew.model_copy(update={"agents": agents})


def _named(text: str, request: CrewGenerate) -> CrewCreate:
    try:
        return load_crew(text, request.name)
    except InvalidRequest as error:
        if request.name is not None or [fault.field for fault in error.faults] != ["name"]:
            raise
    # All that is missing is a name.
    return load_crew(text, " ".join(request.description.split())[:60])


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """Give what stands in each fence that is closed, with its language; each line is looked at once."""
    mark = language = ""
    inside: list[str] = []
    for line in text.split("\n"):
        bare = line.strip(" \t\r")
        if mark:
            if bare == mark:
                yield language, "".join(inside)
                mark = ""
            else:
                inside.append(f"{line}\n")
        elif found := _FENCE.match(bare):
            mark, language, inside = found[1], found[2].lower(), []
