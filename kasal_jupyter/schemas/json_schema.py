"""JSON schemas that users give: for a tool's arguments, for a task's result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import unquote

import orjson
from pydantic import AfterValidator, WithJsonSchema

MOST_PARTS = 5_000
"""Values in a schema: it stands in each model call."""

MOST_WHOLE = 20_000
"""Values in a schema whose references were all replaced by what they refer to, which is what CrewAI does."""

DEEPEST = 40
"""Levels of a schema."""

DEEPEST_WHOLE = 120
"""Levels of a schema whose references were all replaced."""

MOST_CHARACTERS = 200_000
"""Characters of all its texts."""

LONGEST_PATTERN = 1_000
"""Characters of a regular expression."""


def object_schema(schema: dict[str, Any], *, replaced: bool = True) -> dict[str, Any]:
    """Give a schema back that describes an object and keeps to itself. It takes a microsecond a value.

    Parameters
    ----------
    schema
        The schema.
    replaced
        Whether its references will all be replaced by what they refer to.

    Raises
    ------
    ValueError
        It is no JSON schema, describes something else, is too large, or refers to another document: what
        reads it later would fetch that, from wherever the schema's author likes.
    """
    _require_small(schema)
    if fault := next(_faults(schema), None):
        raise ValueError(f"not a JSON schema: {fault}")
    if schema.get("type") != "object":
        raise ValueError('the schema must say "type": "object"; put other results into a property')
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(
                f"the schema may refer to its own parts only, as in #/$defs/name, not to {reference[:200]!r}"
            )
    if replaced:
        _Whole(schema).require_small()
    return schema


def referred(reference: str, root: Any) -> Any:
    """Give the part of a schema that a reference such as ``#/$defs/name`` stands for (RFC 6901).

    Returns
    -------
    Any
        None where there is no such part, and for anchors and other documents.
    """
    # The package `referencing` takes a tenth of a second to be imported, and knows no more of these.
    pointer, part = reference.removeprefix("#"), root
    if pointer and not pointer.startswith("/"):
        return None
    for step in unquote(pointer).split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, Mapping):
            part = part.get(name)
        elif isinstance(part, list) and name.isascii() and name.isdecimal() and len(name) < 6:
            part = part[int(name)] if int(name) < len(part) else None
        else:
            return None
    return part


_KNOWN: dict[bytes, None] = {}
"""Digests of schemas that were looked at and are sound."""

MOST_KNOWN = 10_000
"""How many of them are remembered."""


def known_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Do what :func:`object_schema` does, once for each schema: what is stored is read again and again.

    Raises
    ------
    ValueError
        As :func:`object_schema`.
    """
    try:
        digest = hashlib.blake2b(orjson.dumps(schema), digest_size=16).digest()
    except TypeError:
        # It nests too deeply to be written, or has numbers of more than 64 bits.
        return object_schema(schema)
    if digest not in _KNOWN:
        object_schema(schema)
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[digest] = None
    return schema


def _require_small(schema: Any) -> None:
    parts = characters = 0
    level = [schema]
    for _ in range(DEEPEST + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                characters += sum(map(len, each))
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str):
                characters += len(each)
        parts += len(inner)
        if parts > MOST_PARTS:
            raise ValueError(f"the schema has more than {MOST_PARTS:,} values; describe less")
        if characters > MOST_CHARACTERS:
            raise ValueError(f"the schema has more than {MOST_CHARACTERS:,} characters; describe less")
        if not inner:
            return
        level = inner
    raise ValueError(f"the schema nests deeper than {DEEPEST} levels; make it flatter")


# -- the schema of all schemas -------------------------------------------------------------------------
#
# jsonschema checks against it in a third of a millisecond a value, and takes seconds to be imported.

_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == value // 1


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _is_type(value: Any) -> bool:
    return (
        value in _TYPES if isinstance(value, str) else bool(value) and _is_texts(value) and {*value} <= _TYPES
    )


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_PATTERN


def _is_lists_of_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_texts, value.values()))


_PLAIN: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        (
            *("$id", "$schema", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$comment"),
            *("title", "description", "format", "contentEncoding", "contentMediaType"),
        ),
        (_is_text, "a text"),
    ),
    **dict.fromkeys(("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum"), (_is_number, "a number")),
    **dict.fromkeys(
        (
            *("maxLength", "minLength", "maxItems", "minItems", "maxContains", "minContains"),
            *("maxProperties", "minProperties"),
        ),
        (_is_count, "a whole number from 0"),
    ),
    **dict.fromkeys(
        ("uniqueItems", "deprecated", "readOnly", "writeOnly"),
        (lambda value: isinstance(value, bool), "true or false"),
    ),
    **dict.fromkeys(("enum", "examples"), (lambda value: isinstance(value, list), "a list")),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "pattern": (_is_pattern, f"a regular expression of at most {LONGEST_PATTERN:,} characters"),
    "required": (_is_texts, "a list of names, each once"),
    "dependentRequired": (_is_lists_of_texts, "lists of names by name"),
    "type": (_is_type, f"one or several of {', '.join(sorted(_TYPES))}"),
    "$vocabulary": (lambda value: isinstance(value, dict), "an object"),
}
"""Keywords with a plain value: whether it is right, and what it should be."""

_SCHEMA = frozenset(
    {
        *("items", "contains", "additionalProperties", "propertyNames", "if", "then", "else", "not"),
        *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
    }
)
_SCHEMAS = frozenset({"prefixItems", "allOf", "anyOf", "oneOf"})
_BY_NAME = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})


def _faults(schema: Any) -> Iterator[str]:
    """Say what the schema of all schemas (2020-12) has against a schema."""
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict):
            yield f"{path or 'it'} is no schema, which is an object, or true or false"
            continue
        for keyword, value in part.items():
            where = f"{path}.{keyword}" if path else keyword
            if (rule := _PLAIN.get(keyword)) is not None:
                if not rule[0](value):
                    yield f"{where} is not {rule[1]}"
            elif keyword in _SCHEMA:
                waiting.append((where, value))
            elif keyword in _SCHEMAS:
                if not isinstance(value, list) or not value:
                    yield f"{where} is no list of schemas"
                else:
                    waiting += ((f"{where}[{place}]", each) for place, each in enumerate(value))
            elif keyword in _BY_NAME:
                if not isinstance(value, dict):
                    yield f"{where} is no object of schemas by name"
                else:
                    waiting += ((f"{where}.{name[:80]}", each) for name, each in value.items())


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


class _Whole:
    """How large a schema is whose references are replaced, without replacing any."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self._sizes: dict[str, int] = {}
        self._open: set[str] = set()

    def require_small(self) -> None:
        if self._size(self.schema, 0) > MOST_WHOLE:
            raise ValueError(
                f"the schema's references make more than {MOST_WHOLE:,} values of it; refer to less"
            )

    def _size(self, part: Any, depth: int) -> int:
        if depth > DEEPEST_WHOLE:
            raise ValueError(
                f"the schema's references make more than {DEEPEST_WHOLE} levels of it; make it flatter"
            )
        if isinstance(part, list):
            return 1 + sum([self._size(each, depth + 1) for each in part])
        if not isinstance(part, dict):
            return 1
        reference = part.get("$ref")
        size = 1 + sum([self._size(each, depth + 1) for each in part.values()])
        return size + self._referred(reference, depth + 1) if isinstance(reference, str) else size

    def _referred(self, reference: str, depth: int) -> int:
        if (known := self._sizes.get(reference)) is not None:
            return known
        if reference in self._open:
            # It stands within itself: a tree, say.
            return 1
        self._open.add(reference)
        size = min(MOST_WHOLE + 1, self._size(referred(reference, self.schema), depth))
        self._open.discard(reference)
        self._sizes[reference] = size
        return size


OBJECT_SCHEMA_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"const": "object"}},
    "required": ["type"],
}
"""What can be said of a JSON schema of an object without the schema of all schemas."""

ObjectSchema = Annotated[dict[str, Any], AfterValidator(known_schema), WithJsonSchema(OBJECT_SCHEMA_FORM)]
"""A JSON schema of an object, as a field of a body."""
