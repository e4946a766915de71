"""What tools there are, and how they are found."""

import jsonschema
import pytest

from kasal_jupyter.errors import NotFound
from kasal_jupyter.tools.catalog import builtin_tools, find_tool


def test_every_tool_has_a_valid_schema_and_a_description():
    for tool in builtin_tools():
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
        assert tool.parameters["type"] == "object"
        assert tool.description
        assert tool.name == tool.name.lower()


def test_it_is_known_which_calls_may_be_made_twice():
    pure = {tool.name for tool in builtin_tools() if tool.idempotent({})}
    assert {tool.name for tool in builtin_tools()} - pure == {"python"}
    request, writer = find_tool("http_request"), find_tool("file_writer")
    assert request.idempotent({"method": "HEAD"})
    assert not request.idempotent({"method": "POST"})
    assert not writer.idempotent({"append": True})


def test_names_are_unique_and_sorted():
    names = [tool.name for tool in builtin_tools()]
    assert names == sorted(set(names))
    assert {"calculator", "file_reader", "wait"} <= set(names)


def test_a_tool_is_found_by_its_name():
    assert find_tool("calculator").category == "computation"


def test_an_unknown_tool_is_named_in_the_error():
    with pytest.raises(NotFound, match="'abacus'"):
        find_tool("abacus")
