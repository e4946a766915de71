"""JSON schemas that users give: for a tool's arguments, for a task's result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema


def object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Give a schema back that describes an object and keeps to itself.

    Raises
    ------
    ValueError
        It is no JSON schema, describes something else, or refers to another document: what reads it
        later would fetch that, from wherever the schema's author likes.
    """
    try:
        fault = _fault(json.dumps(schema))
    except RecursionError:
        fault = "it nests too deep; make it flatter"
    if fault:
        raise ValueError(fault)
    return schema


@lru_cache(maxsize=512)
def _fault(written: str) -> str | None:
    """Say what is wrong with a schema. It takes a millisecond, and stored ones are read again and again."""
    from jsonschema import Draft202012Validator, SchemaError

    schema = json.loads(written)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"not a JSON schema: {error.message}"
    if schema.get("type") != "object":
        return 'the schema must say "type": "object"; put other results into a property'
    for reference in _references(schema):
        if not reference.startswith("#"):
            return f"the schema may refer to its own parts only, as in #/$defs/name, not to {reference!r}"
    return None


def _references(schema: Any) -> Iterator[str]:
    """Give every ``$ref``, wherever it stands: CrewAI follows those in examples, too."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                yield reference
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


OBJECT_SCHEMA_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"const": "object"}},
    "required": ["type"],
}
"""What can be said of a JSON schema of an object without the schema of all schemas."""

ObjectSchema = Annotated[dict[str, Any], AfterValidator(object_schema), WithJsonSchema(OBJECT_SCHEMA_FORM)]
"""A JSON schema of an object, as a field of a body."""
