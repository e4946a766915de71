"""The arguments of an MCP server's tools, as its server describes them.

Not through CrewAI's models of JSON schemas: those make dates, addresses and paths of texts, refuse names such
as ``_id``, and lose what stands beside ``allOf``. The server checks what it gets by itself.
"""

from __future__ import annotations

import copy
import json
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from kasal_jupyter.schemas.json_schema import referred

MAX_NODES = 500
"""Parts of a schema beyond which it is cut off: a few references to references stand for billions."""

MAX_DEPTH = 24
"""Levels below which it is cut off: a tree's nodes have children that have children."""

_NULL = {"type": "null"}

_KEPT = frozenset(
    {
        *("type", "title", "description", "default", "examples", "enum", "const", "format", "pattern"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    }
)
"""What is told of a value as it is. What is made of schemas is written anew; the rest is for the server."""


class McpArguments(BaseModel):
    """Takes any arguments, and shows a model the server's schema."""

    model_config = ConfigDict(extra="allow")


def arguments_of(schema: dict[str, Any], name: str) -> type[BaseModel]:
    """Make a class that CrewAI takes for the model of a tool's arguments.

    CrewAI tells models that every property is needed; what may be left out may be null instead.

    Parameters
    ----------
    schema
        The server's JSON schema.
    name
        The class's.
    """
    shown = _Shown(schema).schema()

    class Arguments(McpArguments):
        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            """Give the server's schema: without references, and with null for what may be left out."""
            return copy.deepcopy(shown)

    Arguments.__name__ = Arguments.__qualname__ = name
    return Arguments


def given(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments without the nulls that stand for what was left out."""
    return cast("dict[str, Any]", _given(arguments, schema, schema, 0))


def _given(value: Any, schema: Any, root: dict[str, Any], depth: int) -> Any:
    schema = _resolved(schema, root)
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, list):
        items = schema.get("items", {})
        return [_given(each, items, root, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    properties, required = _members(schema, root)
    kept = {}
    for name, part in value.items():
        about = properties.get(name, {})
        if part is None and name not in required and not _takes_null(about, root):
            continue
        kept[name] = _given(part, about, root, depth + 1)
    return kept


def _members(schema: dict[str, Any], root: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Give what is said of an object's properties, and which of them are required; also by ``allOf``."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    for part in [*(_resolved(each, root) for each in _list(schema.get("allOf"))), schema]:
        properties |= part["properties"] if isinstance(part.get("properties"), dict) else {}
        required |= {name for name in _list(part.get("required")) if isinstance(name, str)}
    return properties, required


def _takes_null(schema: Any, root: dict[str, Any]) -> bool:
    schema = _resolved(schema, root)
    if not schema:
        return False
    kinds = schema.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return True
    if None in _list(schema.get("enum")) or ("const" in schema and schema["const"] is None):
        return True
    return any(
        isinstance(each, dict) and (each.get("type") == "null" or None in _list(each.get("enum")))
        for word in ("anyOf", "oneOf")
        for each in _list(schema.get(word))
    )


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference; what is no schema of an object's part says nothing."""
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, dict):
            return {}
        if not isinstance(reference := schema.get("$ref"), str):
            return schema
        found = referred(reference, root)
        rest = {key: part for key, part in schema.items() if key != "$ref"}
        schema = {**found, **rest} if isinstance(found, dict) else rest
    return {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class _Shown:
    """Writes a schema for a model: without references, and not without end."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def schema(self) -> dict[str, Any]:
        properties, required = _members(_resolved(self._root, self._root), self._root)
        shown = self._object(properties, required, 0)
        for word in ("description", "title"):
            if isinstance(self._root.get(word), str):
                shown[word] = self._root[word]
        return shown

    def _object(self, properties: dict[str, Any], required: set[str], depth: int) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {
                name: self._part(about, depth + 1)
                if name in required
                else self._or_null(self._part(about, depth + 1))
                for name, about in properties.items()
            },
            "required": [name for name in properties if name in required],
        }

    def _or_null(self, part: dict[str, Any]) -> dict[str, Any]:
        if _takes_null(part, {}) or not part:
            return part
        # What is told of the property stands beside the choice, where models look for it.
        beside: dict[str, Any] = {
            word: part.pop(word) for word in ("description", "default", "examples") if word in part
        }
        return {"anyOf": [part, _NULL], **beside}

    def _part(self, schema: Any, depth: int) -> dict[str, Any]:
        schema = _resolved(schema, self._root)
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            return {}
        # A reference within an example, too, would be followed by CrewAI.
        part = {
            word: value
            for word, value in schema.items()
            if word in _KEPT and '"$ref"' not in json.dumps(value)
        }
        properties, required = _members(schema, self._root)
        if properties:
            part |= self._object(properties, required, depth)
        for each in _list(schema.get("allOf")):
            # Of texts and numbers, what each says holds.
            part = {**self._part(each, depth + 1), **part}
        if isinstance(schema.get("items"), dict):
            part["items"] = self._part(schema["items"], depth + 1)
        for word in ("anyOf", "oneOf"):
            if choices := _list(schema.get(word)):
                part["anyOf"] = [self._part(each, depth + 1) for each in choices]
        return part
