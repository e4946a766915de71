"""The built-in tools, called as an agent calls them."""

import pytest

from kasal_jupyter.tools.builtin.calculator import calculate
from kasal_jupyter.tools.catalog import find_tool
from kasal_jupyter.tools.tool import ToolContext


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


def test_file_reader_reads_and_lists_the_runs_folder(context):
    (context.folder / "notes").mkdir()
    (context.folder / "notes" / "a.txt").write_text("hello", encoding="utf-8")
    reader = find_tool("file_reader")
    assert reader.run(context) == "notes/"
    assert reader.run(context, path=None) == "notes/"
    assert reader.run(context, path="notes/a.txt") == "hello"


def test_file_reader_gives_the_beginning_of_a_long_file(context):
    (context.folder / "long.txt").write_text("x" * 60_000, encoding="utf-8")
    text = find_tool("file_reader").run(context, path="long.txt")
    assert text.startswith("x" * 50_000)
    assert text.endswith("this is its beginning.]")


@pytest.mark.parametrize("path", ["../secret.txt", "notes/../../secret.txt", "link.txt", "linked/secret.txt"])
def test_no_path_and_no_link_leads_out_of_the_folder(context, path):
    outside = context.folder.parent
    (outside / "secret.txt").write_text("secret", encoding="utf-8")
    (context.folder / "notes").mkdir()
    (context.folder / "link.txt").symlink_to(outside / "secret.txt")
    (context.folder / "linked").symlink_to(outside)
    with pytest.raises(ValueError, match="outside"):
        find_tool("file_reader").run(context, path=path)


def test_an_absolute_path_is_refused(context):
    with pytest.raises(ValueError, match="outside"):
        find_tool("file_reader").run(context, path=str(context.folder.parent))


def test_a_missing_file_is_named(context):
    with pytest.raises(ValueError, match=r"absent\.txt"):
        find_tool("file_reader").run(context, path="absent.txt")
