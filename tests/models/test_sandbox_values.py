"""Values made from JSON schemas."""

import jsonschema
import pytest

from kasal_jupyter.models.sandbox.values import Hints, make_value

HINTS = Hints(inputs={"city": "Oslo", "count": 7, "flag": "no boolean"}, text="a text")


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 5}, 5),
        ({"type": "string", "examples": ["x"], "default": "y"}, "x"),
        ({"type": "string", "default": "y", "enum": ["z", "y"]}, "y"),
        ({"enum": ["z", "y"]}, "z"),
        ({"type": "string"}, "a text"),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "integer"}, 1),
        ({"type": ["null", "integer"]}, 1),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3}]}, 3),
        ({"properties": {"city": {"type": "string"}}}, {"city": "Oslo"}),
        ({"properties": {"count": {"type": "number"}}}, {"count": 7}),
        ({"properties": {"flag": {"type": "boolean"}}}, {"flag": True}),
        ({"properties": {"city": {"enum": ["Bergen"]}}}, {"city": "Bergen"}),
        ({"properties": {}, "required": ["free"]}, {"free": "a text"}),
        ({}, "a text"),
    ],
)
def test_the_nearest_source_is_taken(schema, value):
    assert make_value(schema, HINTS) == value


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        TREE,
        {"type": "integer", "minimum": 10, "maximum": 12},
        {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
        {"type": "integer", "maximum": -4},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 1, "multipleOf": 7},
        {"type": "integer", "minimum": 2.5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        {"type": "number", "maximum": 0.5},
        {"type": "number", "exclusiveMinimum": 4},
        {"type": "number", "minimum": 0.1, "multipleOf": 0.5},
        {"type": "string", "minLength": 50},
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "uuid"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
        {"oneOf": [{"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]}]},
    ],
)
def test_what_is_made_validates(schema):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(make_value(schema, HINTS))


def test_the_same_schema_gives_the_same_value():
    assert make_value(TREE, HINTS) == make_value(TREE, HINTS)
