"""JSON schemas that users give: for a tool's arguments, for a task's result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a schema back that describes an object and keeps to itself.

    Raises
    ------
    ValueError
        It is no JSON schema, describes something else, or refers to another document: what reads it
        later would fetch that, from wherever the schema's author likes.
    """
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.message}") from None
    if schema.get("type") != "object":
        raise ValueError('the schema must say "type": "object"; put other results into a property')
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(
                f"the schema may refer to its own parts only, as in #/$defs/name, not to {reference!r}"
            )
    return schema


def _references(part: Any) -> Iterator[str]:
    """Give every ``$ref``, wherever it stands: CrewAI follows those in examples, too."""
    waiting = [part]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if isinstance(reference := each.get("$ref"), str):
                yield reference
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
