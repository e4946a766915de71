"""JSON schemas that users give."""

import random

import pytest
from jsonschema import Draft202012Validator, SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kasal_jupyter.schemas.json_schema import MOST_PARTS, _faults, object_schema, referred
from kasal_jupyter.schemas.tasks import TaskFields


def test_a_schema_of_an_object_is_taken_as_it_is():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a"}, "$ref": {"type": "string"}},
        "$defs": {"a": {"type": "string"}},
    }
    assert object_schema(schema) is schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "array"}, '"type": "object"'),
        ({}, '"type": "object"'),
        ({"type": "object", "properties": []}, "not a JSON schema"),
        ({"type": "object", "required": "a"}, "not a JSON schema"),
    ],
)
def test_anything_else_is_refused(schema, reason):
    with pytest.raises(ValueError, match=reason):
        object_schema(schema)


@pytest.mark.parametrize("where", ["http://169.254.169.254/key", "file:///etc/passwd", "other.json"])
def test_no_schema_may_have_another_document_fetched(where):
    for part in (
        {"properties": {"a": {"$ref": where}}},
        {"properties": {"a": {"anyOf": [{"type": "null"}, {"items": {"$ref": where}}]}}},
        {"examples": [{"$ref": where}]},
    ):
        with pytest.raises(ValueError, match="its own parts only"):
            object_schema({"type": "object", **part})


def test_the_result_of_a_task_neither():
    schema = {"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/key"}}}
    with pytest.raises(ValueError, match="its own parts only"):
        TaskFields(description="d", expected_output="e", output_schema=schema)


def nested(levels):
    schema = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def laughing(levels):
    return {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/l0"}},
        "$defs": {
            f"l{level}": {"properties": {f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(10)}}
            for level in range(levels)
        },
    }


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(60_000)}},
            f"more than {MOST_PARTS:,} values",
        ),
        ({"type": "object", "enum": list(range(60_000))}, f"more than {MOST_PARTS:,} values"),
        ({"type": "object", "description": "x" * 1_000_000}, "more than 200,000 characters"),
        (nested(2_000), "deeper than 40 levels"),
        ({"type": "object", "pattern": "(a+)+" * 400}, "a regular expression of at most 1,000"),
        (laughing(9), "references make more than 20,000 values"),
        (
            {
                "type": "object",
                "$ref": "#/$defs/d0",
                "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(2_000)},
            },
            "references make more than 120 levels",
        ),
    ],
    ids=["properties", "enum", "text", "levels", "pattern", "references", "chain"],
)
def test_a_schema_that_is_too_much_is_refused(schema, reason):
    with pytest.raises(ValueError, match=reason):
        object_schema(schema)


@pytest.mark.parametrize(
    "references",
    [
        {"properties": {"a": {"$ref": "#"}}},
        {
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            "properties": {"x": {"$ref": "#/$defs/a"}},
        },
        {"properties": {"a": {"$ref": "#/$defs/nowhere"}}},
    ],
)
def test_references_may_go_in_circles_and_nowhere(references):
    schema = {"type": "object", **references}
    assert object_schema(schema) is schema


def test_servers_schemas_are_not_replaced():
    assert object_schema(laughing(9), replaced=False)


KEYWORDS = [
    *("$id", "$ref", "$anchor", "$comment", "$defs", "definitions", "prefixItems", "items", "contains"),
    *("additionalProperties", "properties", "patternProperties", "dependentSchemas", "propertyNames", "if"),
    *("then", "else", "allOf", "anyOf", "oneOf", "not", "unevaluatedItems", "unevaluatedProperties", "type"),
    *("const", "enum", "multipleOf", "maximum", "minLength", "pattern", "maxItems", "uniqueItems"),
    *("minContains", "maxProperties", "required", "dependentRequired", "title", "description", "default"),
    *("deprecated", "examples", "format", "contentSchema", "x"),
]

PLAIN = (
    *("a", "object", ["a"], ["a", "a"], [], ["string", "null"], 1, 0, -1, 1.5, 2.0, True, False, None, {}),
    *({"a": {}}, [{}], {"a": ["b"]}, {"a": 1}, [1], {"x": {"type": "string"}}, "string"),
)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_a_schema_is_what_jsonschema_takes_for_one(seed):
    chance = random.Random(seed)

    def value(depth):
        return schema(depth - 1) if depth and chance.random() < 0.35 else chance.choice(PLAIN)

    def schema(depth=3):
        return {chance.choice(KEYWORDS): value(depth) for _ in range(chance.randint(0, 3))}

    for _ in range(400):
        drawn = schema()
        try:
            Draft202012Validator.check_schema(drawn)
            fault = None
        except SchemaError as error:
            fault = error.message
        assert (next(_faults(drawn), None) is None) == (fault is None), (drawn, fault)


@pytest.mark.parametrize(
    "reference",
    [
        *("#", "#/$defs/a", "#/$defs/a~1b", "#/$defs/t~0d", "#/$defs/per%25cent", "#/$defs/gr%C3%B6sse"),
        *("#/anyOf/1", "#/anyOf/1/const", "#/$defs/", "#/$defs/a/items/0"),
        *("#/anyOf/2", "#/anyOf/x", "#/nowhere", "#/" + "9" * 5000),
    ],
)
def test_a_reference_leads_where_the_standard_has_it(reference):
    schema = {
        "$defs": {"a": {"type": "array"}, "a/b": {}, "t~d": {}, "per%cent": {}, "grösse": {}, "": {}},
        "anyOf": [{"const": 1}, {"const": 2}],
    }
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    try:
        found = resolver.lookup(reference).contents
    except (Unresolvable, ValueError, TypeError):
        found = None
    assert referred(reference, schema) == found
