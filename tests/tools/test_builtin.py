"""The built-in tools, called as an agent calls them."""

from dataclasses import replace

import jsonschema
import pytest

from kasal_jupyter.errors import NotFound
from kasal_jupyter.tools.tool import Question, ToolContext, builtin_tools, find_tool


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return ToolContext(folder)


def test_wait_is_bounded(context):
    assert find_tool("wait").run(context, seconds=0) == "Waited 0 seconds."
    with pytest.raises(ValueError, match="600"):
        find_tool("wait").run(context, seconds=601)
    with pytest.raises(ValueError, match="600"):
        find_tool("wait").run(context, seconds=float("nan"))


def test_wait_ends_with_the_run(context):
    class Ended(Exception):
        pass

    def sleep(_seconds):
        raise Ended

    with pytest.raises(Ended):
        find_tool("wait").run(replace(context, sleep=sleep), seconds=600)


def test_a_question_is_asked_as_it_was_meant(context):
    asked = []

    def ask(question):
        asked.append(question)
        return "yes"

    said = find_tool("ask_human").run(
        replace(context, ask=ask), question=" Go on? ", choices=["yes", " no ", "yes"], timeout=60
    )
    assert said == "yes"
    assert asked == [Question("Go on?", ("yes", "no"), 60)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"question": "  "}, "question"),
        ({"question": "x" * 4_001}, "question"),
        ({"question": "Go on?", "choices": ["yes", ""]}, "choices"),
        ({"question": "Go on?", "choices": ["Yes", "yes"]}, "choices"),
        ({"question": "Go on?", "choices": [str(number) for number in range(21)]}, "choices"),
        ({"question": "Go on?", "timeout": 0}, "timeout"),
        ({"question": "Go on?", "timeout": 90_000}, "timeout"),
    ],
)
def test_a_question_that_makes_no_sense_is_not_asked(context, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        find_tool("ask_human").run(context, **arguments)


def test_where_nobody_can_be_asked_the_agent_is_told(context):
    with pytest.raises(ValueError, match="Nobody can be asked"):
        find_tool("ask_human").run(context, question="Go on?")


# -- What tools there are, and how they are found ------------------------------------------------------


def test_it_is_known_which_calls_may_be_made_twice():
    pure = {tool.name for tool in builtin_tools() if tool.idempotent({})}
    assert {tool.name for tool in builtin_tools()} - pure == {"python"}
    request, writer = find_tool("http_request"), find_tool("file_writer")
    assert request.idempotent({"method": "HEAD"})
    assert not request.idempotent({"method": "POST"})
    assert not writer.idempotent({"append": True})


def test_every_tool_has_a_valid_schema_and_a_description():
    for tool in builtin_tools():
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
        assert tool.parameters["type"] == "object"
        assert tool.description
        assert tool.name == tool.name.lower()


def test_names_are_unique_and_sorted():
    names = [tool.name for tool in builtin_tools()]
    assert names == sorted(set(names))
    assert {"calculator", "file_reader", "wait"} <= set(names)


def test_a_tool_is_found_by_its_name():
    assert find_tool("calculator").category == "computation"


def test_an_unknown_tool_is_named_in_the_error():
    with pytest.raises(NotFound, match="'abacus'"):
        find_tool("abacus")
