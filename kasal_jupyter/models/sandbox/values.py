"""Values made up from a JSON schema, for the sandbox model's tool arguments and structured answers.

The same schema and the same hints always give the same value, and the value validates:
``const`` comes first, then an input of the same name and type, which is how a run says what its
tools are called with, then ``default``, ``examples`` and ``enum``, then the simplest value of the
type within its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kasal_jupyter.schemas.json_schema import referred

MAX_DEPTH = 8
"""Levels below which a recursive schema is ended with its simplest value."""

_FORMATS = {
    "date": "2024-01-15",
    "date-time": "2024-01-15T10:30:00Z",
    "time": "10:30:00Z",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "duration": "PT1H",
}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a value may be filled with.

    Attributes
    ----------
    inputs
        The run's inputs; one is taken for a property of the same name.
    text
        The text of a string that nothing else is known about.
    """

    inputs: Mapping[str, Any]
    text: str


def make_value(schema: Mapping[str, Any], hints: Hints) -> Any:
    """Make a value that the schema accepts.

    Parameters
    ----------
    schema
        A JSON schema; local ``$ref`` are followed.
    hints
        What strings and properties are filled with.
    """
    return _Maker(schema, hints).value(schema, name=None, depth=0)


@dataclass(frozen=True, slots=True)
class _Maker:
    root: Mapping[str, Any]
    hints: Hints

    def value(self, schema: Any, *, name: str | None, depth: int) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        for union in ("anyOf", "oneOf"):
            if options := schema.get(union):
                rest = {key: value for key, value in schema.items() if key != union}
                return self.value({**self._preferred(options), **rest}, name=name, depth=depth)
        if name is not None and name in self.hints.inputs:
            given_input = self.hints.inputs[name]
            if _fits(given_input, self._kind(schema)) and given_input in schema.get("enum", [given_input]):
                return given_input
        if "default" in schema and not schema.get("examples"):
            return schema["default"]
        for choices in ("examples", "enum"):
            if schema.get(choices):
                return schema[choices][0]
        kind = self._kind(schema)
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema)

    def _resolved(self, schema: Any) -> dict[str, Any]:
        """Follow ``$ref`` and merge ``allOf``, so that what is left is plain."""
        if not isinstance(schema, Mapping):
            return {}
        plain = dict(schema)
        for _ in range(MAX_DEPTH):
            if not isinstance(ref := plain.pop("$ref", None), str):
                break
            found = referred(ref, self.root)
            plain = {**found, **plain} if isinstance(found, Mapping) else plain
        for part in plain.pop("allOf", ()):
            resolved = self._resolved(part)
            plain = {
                **resolved,
                **plain,
                "properties": {**resolved.get("properties", {}), **plain.get("properties", {})},
                "required": [*resolved.get("required", ()), *plain.get("required", ())],
            }
        return plain

    def _preferred(self, options: list[Any]) -> dict[str, Any]:
        """Give the first option that is more than ``null``."""
        resolved = [self._resolved(option) for option in options]
        return next((option for option in resolved if option.get("type") != "null"), resolved[0])

    def _kind(self, schema: Mapping[str, Any]) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if isinstance(kind, str):
            return kind
        if "properties" in schema:
            return "object"
        return "array" if "items" in schema else "string"

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        made = {}
        for name, part in schema.get("properties", {}).items():
            # Optional parts end a recursive schema; required ones have to be made at any depth.
            if depth < MAX_DEPTH or name in required:
                made[name] = self.value(part, name=name, depth=depth + 1)
        for name in required:
            if name not in made:
                made[name] = self._string({})
        return made

    def _array(self, schema: Mapping[str, Any], name: str | None, depth: int) -> list[Any]:
        if prefix := schema.get("prefixItems"):
            return [self.value(part, name=None, depth=depth + 1) for part in prefix]
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 1)))
        count = least if depth >= MAX_DEPTH else min(max(least, 1), most)
        items = self._resolved(schema.get("items", {}))
        made = [self.value(items, name=name, depth=depth + 1) for _ in range(count)]
        if schema.get("uniqueItems") and count > 1:
            return [_varied(value, at, items) for at, value in enumerate(made)]
        return made

    def _string(self, schema: Mapping[str, Any]) -> str:
        if known := _FORMATS.get(schema.get("format", "")):
            return known
        text = self.hints.text
        if (most := schema.get("maxLength")) is not None:
            text = text[: int(most)]
        return text.ljust(int(schema.get("minLength", 0)), ".")


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "object": dict,
    }
    return isinstance(value, types.get(kind, ()))


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf") or 1
    low = schema.get("minimum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = above + step if whole else math.nextafter(above, math.inf)
        high = schema.get("exclusiveMaximum", schema.get("maximum"))
        if not whole and high is not None:
            low = (above + high) / 2
        elif not whole:
            low = above + 1
    if low is None:
        top = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = 1 if top is None or top > 1 else top - step
    if "multipleOf" in schema:
        low = math.ceil(low / step) * step
    return math.ceil(low) if whole else low


def _varied(value: Any, at: int, schema: Mapping[str, Any]) -> Any:
    """Make the members of a set differ."""
    choices = schema.get("enum") or schema.get("examples")
    if choices:
        return choices[at % len(choices)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value + at
    return f"{value} {at + 1}" if isinstance(value, str) else value
