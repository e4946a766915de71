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

``llm`` is an agent's model and ``manager_llm`` the crew's, as CrewAI calls them; ``model`` and
``manager_model``, as the API calls them, do as well.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.schemas.agents import AgentFields
from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails, CrewFields
from kasal_jupyter.schemas.tasks import TaskFields

INVALID = "The crew's YAML cannot be used"

_SPELLINGS = {"llm": "model", "manager_llm": "manager_model"}
"""CrewAI's words for ours."""

_MEMBERS = ("agents", "tasks")

_NAMES_CODE = ("tools", "llm", "model", "manager_llm", "manager_model", "agent", "context")
"""Where CrewAI would take a reference for code; prompts and JSON schemas are plain text and data."""

_AGENT_KEYS = {*AgentFields.model_fields, "llm"} - {"name"}
_TASK_KEYS = {*TaskFields.model_fields, "agent"} - {"name"}
_CREW_KEYS = {*CrewFields.model_fields, "manager_llm", "agents", "tasks"}


@dataclass(slots=True)
class _Reader:
    """The faults of one text, as they are found, and where each field stands."""

    faults: list[Fault] = field(default_factory=list)

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
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                self.fault(where, line, f"{key!r} is no field here; {hint}")
                continue
            if key in _MEMBERS:
                continue
            if key in _NAMES_CODE and (reference := code_reference(value)):
                self.fault(
                    where, line, f"{reference} would execute code, which a crew's YAML may not; name a tool"
                )
                continue
            found[_SPELLINGS.get(key, key)] = plain(value)
        return found


def load_crew(text: str, name: str | None = None) -> CrewCreate:
    """Read a crew.

    Parameters
    ----------
    text
        The YAML.
    name
        The crew's name, where the text need not have one; it wins over the text's.

    Raises
    ------
    InvalidRequest
        With every fault, each with its line and its field.
    """
    root = _parse(text)
    reader = _Reader()
    body = reader.fields(root, "", _CREW_KEYS)
    agents = _members(reader, root, "agents", _AGENT_KEYS)
    tasks = _members(reader, root, "tasks", _TASK_KEYS)
    nodes = {str(key): node for key, node in (root.get("tasks") or {}).items()} if tasks else {}
    for task_name, task in tasks.items():
        agent = task.get("agent")
        if agent is not None and (not isinstance(agent, str) or agent not in agents):
            close = difflib.get_close_matches(str(agent), list(agents), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(agents) or 'none'}"
            node = nodes[task_name]
            reader.fault(
                f"tasks.{task_name}.agent", line_of(node, "agent"), f"there is no agent {agent!r}; {hint}"
            )
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
        raise InvalidRequest(f"{INVALID}: {first.field}: {first.reason}", faults=reader.faults)
    return crew


def dump_crew(crew: CrewCreate | CrewDetails) -> str:
    """Write a crew as YAML that :func:`load_crew` reads back to the same crew."""
    if isinstance(crew, CrewDetails):
        names = {agent.id: agent.name for agent in crew.agents}
        head: dict[str, Any] = {"name": crew.name, "description": crew.description}
        head |= {"process": crew.configuration.process, "manager_llm": crew.configuration.manager_model}
        agents = [agent.model_dump(exclude_defaults=True) for agent in crew.agents]
        tasks = [
            {**task.model_dump(exclude_defaults=True), "agent": names.get(task.agent_id or "")}
            for task in crew.tasks
        ]
    else:
        head = crew.model_dump(exclude={"agents", "tasks", "manager_model"})
        head["manager_llm"] = crew.manager_model
        agents = [agent.model_dump(exclude_defaults=True) for agent in crew.agents]
        tasks = [task.model_dump(exclude_defaults=True) for task in crew.tasks]
    out = {key: value for key, value in head.items() if value}
    out["agents"] = _by_name(agents, _AGENT_KEYS, "role")
    out["tasks"] = _by_name(tasks, _TASK_KEYS, "id")
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 100
    yaml.dump(out, stream)
    return stream.getvalue()


def line_of(node: CommentedMap, key: object) -> int | None:
    """Give the line that a key stands on, counted from 1."""
    places = node.lc.data or {}
    return int(places[key][0]) + 1 if key in places else None


def code_reference(value: object) -> str | None:
    """Name the reference in a value that CrewAI would execute as code, if there is one."""
    if isinstance(value, str):
        return value if value.startswith("custom:") else None
    tag = getattr(getattr(value, "tag", None), "value", None)
    if tag:
        return str(tag)
    if isinstance(value, Mapping):
        if "python" in value:
            return '{"python": …}'
        return next(filter(None, map(code_reference, value.values())), None)
    if isinstance(value, list):
        return next(filter(None, map(code_reference, value)), None)
    return None


def plain(value: Any) -> Any:
    """Give a value as plain Python types."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _parse(text: str) -> CommentedMap:
    # The round-trip loader constructs no objects: a tag such as !!python/object stays a tag.
    try:
        root = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = f"line {line}: {' '.join(str(error.problem or error.context).split())}"
        raise InvalidRequest(f"{INVALID}: {reason}", faults=[Fault("yaml", reason)]) from None
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"{INVALID}: {reason}", faults=[Fault("yaml", reason)]) from None
    if not isinstance(root, CommentedMap):
        reason = "line 1: a crew begins with `agents:` and `tasks:`"
        raise InvalidRequest(f"{INVALID}: {reason}", faults=[Fault("yaml", reason)])
    return root


def _members(reader: _Reader, root: CommentedMap, key: str, known: set[str]) -> dict[str, dict[str, Any]]:
    if key not in root:
        return {}
    members = reader.mapping(root[key], key, line_of(root, key), key)
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
        for item in error.errors(include_url=False, include_input=False):
            steps = list(item["loc"])
            node: Any = root
            line: int | None = None
            if len(steps) > 1 and steps[0] in {"agents", "tasks"} and isinstance(steps[1], int):
                steps[1] = (agents if steps[0] == "agents" else tasks)[steps[1]]
            for step in steps:
                known = step if not isinstance(node, CommentedMap) or step in node else _spelled(str(step))
                if isinstance(node, CommentedMap) and known in node:
                    line = line_of(node, known) or line
                    node = node[known]
            reason = "Field required" if item["type"] == "missing" else item["msg"]
            reader.fault(".".join(map(str, steps)), line, reason)
        return None


def _spelled(name: str) -> str:
    return next((theirs for theirs, ours in _SPELLINGS.items() if ours == name), name)


def _by_name(members: list[dict[str, Any]], known: set[str], fallback: str) -> dict[str, dict[str, Any]]:
    named = {}
    for number, member in enumerate(members, 1):
        name = member.get("name") or member.get(fallback) or f"task_{number}"
        fields = {
            _spelled(key): value
            for key, value in member.items()
            if key in known and value not in (None, [], {})
        }
        named[str(name)] = fields
    return named
