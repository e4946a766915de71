"""The built-in tools, called as an agent calls them."""

from dataclasses import replace

import pytest

from kasal_jupyter.tools.builtin.calculator import calculate
from kasal_jupyter.tools.catalog import find_tool
from kasal_jupyter.tools.tool import Question, ToolContext


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return ToolContext(folder)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6 * 7", 42),
        ("2 * (3 + 4) - -1", 15),
        ("2 ** 10", 1024),
        ("2^10", 1024),
        ("7 // 2 + 7 % 2", 4),
        ("sqrt(16) + max(1, 2, 3)", 7),
        ("round(pi, 2)", 3.14),
        ("1e3", 1000),
        ("-2 ** 2", -4),
        ("10 ** -2", 0.01),
    ],
)
def test_the_calculator_calculates(expression, value):
    assert calculate(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__",
        "x",
        "'a' * 10",
        "[1] * 3",
        "lambda: 1",
        "True + 1",
        "1 if 1 else 2",
        "9 ** 9 ** 9",
        "10 ** 100000",
        "-9 ** 99999",
        "2.0 ** 100000",
        "exp(100000)",
        "(-8) ** 0.5",
        "1 / 0",
        "max()",
        "sqrt(2, 3, 4)",
        "round(1, ndigits=2)",
        "1 +",
        "",
        "1e308 * 10",
        "1" * 501,
        "sqrt(-1)",
    ],
)
def test_the_calculator_refuses_everything_else(expression):
    with pytest.raises(ValueError, match=r"."):
        calculate(expression)


def test_a_whole_result_is_written_without_a_decimal_point(context):
    assert find_tool("calculator").run(context, expression="84 / 2") == "42"
    assert find_tool("calculator").run(context, expression="1 / 8") == "0.125"


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
