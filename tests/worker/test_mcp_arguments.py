"""What a model is shown of an MCP tool's arguments, and what its server gets."""

from kasal_jupyter.worker.crew.mcp_arguments import arguments_of, given

SCHEMA = {
    "type": "object",
    "properties": {
        "when": {"type": "string", "format": "date-time", "description": "The day"},
        "node": {"$ref": "#/$defs/Node"},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}},
    },
    "required": ["node"],
    "$defs": {
        "Tag": {"allOf": [{"type": "string", "minLength": 2}]},
        "Node": {
            "type": "object",
            "properties": {"label": {"type": "string"}, "next": {"$ref": "#/$defs/Node"}},
            "required": ["label"],
        },
    },
}


def test_what_may_be_left_out_may_be_null_and_no_reference_is_left():
    shown = arguments_of(SCHEMA, "arguments").model_json_schema()
    assert shown["required"] == ["node"]
    assert shown["properties"]["when"] == {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
        "description": "The day",
    }
    assert shown["properties"]["note"] == {"type": ["string", "null"]}
    assert shown["properties"]["tags"]["anyOf"][0]["items"] == {"type": "string", "minLength": 2}
    node = shown["properties"]["node"]
    assert node["required"] == ["label"]
    assert node["properties"]["next"]["anyOf"][0]["properties"]["label"] == {"type": "string"}
    assert "$ref" not in str(shown)


def test_the_server_gets_no_null_that_stands_for_nothing():
    arguments = {"node": {"label": "a", "next": {"label": "b", "next": None}}, "when": None, "note": None}
    assert given(arguments, SCHEMA) == {"node": {"label": "a", "next": {"label": "b"}}, "note": None}
    # What its schema does not tell of is the server's to judge.
    assert given({"other": 1, "node": None}, SCHEMA) == {"other": 1, "node": None}


def test_any_arguments_are_taken_as_they_are():
    model = arguments_of(SCHEMA, "arguments")
    assert model.model_validate({"when": "2024-01-15", "_x": 1}).model_dump() == {
        "when": "2024-01-15",
        "_x": 1,
    }


def test_a_schema_that_explodes_is_cut_off():
    levels = {
        f"l{level}": {
            "type": "object",
            "properties": {f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(10)},
        }
        for level in range(20)
    }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/l0"}}, "$defs": levels}
    assert len(str(arguments_of(schema, "arguments").model_json_schema())) < 100_000
    loop = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"$ref": "#/$defs/b"}},
    }
    assert arguments_of(loop, "arguments").model_json_schema()["properties"] == {"a": {}}
