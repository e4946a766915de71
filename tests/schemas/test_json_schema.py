"""JSON schemas that users give."""

import pytest

from kasal_jupyter.schemas.json_schema import object_schema
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
