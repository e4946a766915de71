"""Completion with Tab inside a `%%kasal` cell: a crew's fields, models, tools, agents; a run's inputs.

The YAML is still being typed, so nothing is parsed: where the cursor is, the indentation of the lines says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from kasal_jupyter.schemas.agents import AgentFields, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import CrewFields
from kasal_jupyter.schemas.tasks import TaskCondition, TaskFields
from kasal_jupyter.schemas.webhooks import Webhook

_KEY = re.compile(r"( *)(?:- +)?([^\s:#'\"][^:#]*):(?:\s|$)")
"""A line that begins with a key."""

_ENTRY = re.compile(r" *- +")

_NAME = re.compile(r"\{\{\s*(\w*)$")
"""A notebook's variable that is being typed."""

MODELS = frozenset({"llm", "model", "manager_llm", "manager_model", "planning_llm", "planning_model"})
MODEL_LISTS = frozenset({"fallbacks"})

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "agents": ("llm",),
    "crew": ("manager_llm", "planning_llm", "agents", "tasks"),
    "tasks": ("agent",),
}
"""What YAML says besides the API's own fields."""


@dataclass(frozen=True, slots=True)
class Known:
    """What may be named in a cell, each asked for when it is needed.

    Attributes
    ----------
    models, tools
        The server's, and the notebook's own functions.
    variables
        The notebook's variables.
    """

    models: Callable[[], list[str]]
    tools: Callable[[], list[str]]
    variables: Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class _Line:
    indent: int
    key: str
    value: str


def crew_words(text: str, known: Known) -> tuple[str, list[str]]:
    """Give what may stand at the end of a crew's YAML that is being typed.

    Parameters
    ----------
    text
        The cell below its first line, up to the cursor.
    known
        What there is.

    Returns
    -------
    tuple
        What stands there and would be replaced, and what would replace it.
    """
    *before, line = text.split("\n")
    if (name := _NAME.search(line)) is not None:
        return name[1], _begin(name[1], known.variables())
    entry = _ENTRY.match(line)
    indent = len(line) - len(line.lstrip(" "))
    read = _KEY.match(line)
    if read is not None and entry is None:
        path = _path(before, indent)
        return _value([*path, read[2].strip()], line[read.end() :], before, known)
    if entry is not None:
        # A list may stand as far left as its key.
        path = _path(before, indent + 1)
        return _value(path, line[entry.end() :], before, known)
    typed = line.lstrip(" ")
    path = _path(before, indent)
    beside = {each.key for each in _beside(before, indent)}
    return typed, [f"{key}: " for key in _begin(typed, _keys(path)) if key not in beside]


def input_words(text: str, names: Sequence[str], known: Known) -> tuple[str, list[str]]:
    """Give what may stand at the end of a run's inputs that are being typed as YAML."""
    *before, line = text.split("\n")
    if (name := _NAME.search(line)) is not None:
        return name[1], _begin(name[1], known.variables())
    if ":" in line or line[:1].isspace():
        return "", []
    done = {each.key for each in _beside(before, 0)}
    return line, [f"{name}: " for name in _begin(line, names) if name not in done]


def _value(path: list[str], typed: str, before: list[str], known: Known) -> tuple[str, list[str]]:
    """Give what may stand behind a key."""
    fragment = typed.lstrip()
    done: set[str] = set()
    if fragment[:1] == "[":
        *earlier, last = fragment[1:].split(",")
        done, fragment = {each.strip() for each in earlier}, last.lstrip()
    return fragment, [each for each in _begin(fragment, _values(path, before, known)) if each not in done]


def _values(path: list[str], before: list[str], known: Known) -> list[str]:
    key = path[-1]
    if key in MODELS | MODEL_LISTS:
        return known.models()
    if key == "tools":
        return known.tools()
    if key in {"agent", "manager_agent"}:
        return _members(before, "agents")
    if key == "context":
        # Those before this one; its own name stands above as well.
        return [name for name in _members(before, "tasks") if name not in path]
    field = _fields(path[:-1]).get(key)
    return _choices(field) if field is not None else []


def _keys(path: list[str]) -> list[str]:
    """Give the fields that may stand in a place."""
    fields = [key for key in _fields(path) if not (key == "name" and path)]
    kind = path[0] if len(path) == 2 and path[0] in SPELLINGS else "crew" if not path else ""
    return [*fields, *SPELLINGS.get(kind, ())]


@cache
def _parts() -> dict[tuple[str, ...], type[BaseModel]]:
    return {
        (): CrewFields,
        ("webhook",): Webhook,
        ("agents", "*"): AgentFields,
        ("agents", "*", "llm"): ModelSettings,
        ("agents", "*", "settings"): ModelSettings,
        ("agents", "*", "sandbox"): SandboxSettings,
        ("tasks", "*"): TaskFields,
        ("tasks", "*", "condition"): TaskCondition,
    }


def _fields(path: list[str]) -> dict[str, Any]:
    """Give the annotations of the fields in a place, by name."""
    place = tuple("*" if at == 1 and path[0] in {"agents", "tasks"} else key for at, key in enumerate(path))
    model = _parts().get(place)
    found = {} if model is None else {name: each.annotation for name, each in model.model_fields.items()}
    return {"model": str, **found} if place[2:] == ("llm",) else found


def _choices(annotation: Any) -> list[str]:
    """Give the values of a field that has few."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [str(each) for each in get_args(annotation)]
    if get_origin(annotation) in {Union, UnionType, list}:
        return [value for each in get_args(annotation) for value in _choices(each)]
    return []


def _path(before: list[str], indent: int) -> list[str]:
    """Give the keys around a line of that indentation, the outermost first."""
    path: list[str] = []
    for line in _lines(reversed(before)):
        if line.indent < indent:
            path.append(line.key)
            indent = line.indent
        if indent == 0:
            break
    return path[::-1]


def _beside(before: list[str], indent: int) -> Iterator[_Line]:
    """Give the lines above in the same mapping."""
    for line in _lines(reversed(before)):
        if line.indent < indent:
            return
        if line.indent == indent:
            yield line


def _members(before: list[str], kind: str) -> list[str]:
    """Give the names of the agents, or of the tasks, that stand above."""
    found: list[str] = []
    within, depth = False, 0
    for line in _lines(before):
        if line.indent == 0:
            within, depth = line.key == kind, 0
        elif within:
            depth = depth or line.indent
            if line.indent == depth:
                found.append(line.key)
    return found


def _lines(lines: Any) -> Iterator[_Line]:
    for line in lines:
        if (read := _KEY.match(line)) is not None:
            yield _Line(len(read[1]), read[2].strip(), line[read.end() :].strip())


def _begin(fragment: str, words: Sequence[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word.startswith(fragment)]
