"""Functions as tools: what agents are told of their arguments, and what becomes of the agents' own."""

import enum
from dataclasses import dataclass
from typing import Annotated, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.functions import notebook_tools
from kasal_jupyter.kernel.functions.notebook_tools import make_tool, registered, tool
from kasal_jupyter.kernel.functions.tool_schema import ArgumentsRefused
from kasal_jupyter.schemas.tools import ClientTool
from kasal_jupyter.tools.tool import builtin_tools


class Unit(enum.Enum):
    KG = "kg"
    LB = "lb"


@dataclass
class Place:
    city: str
    floor: int = 0


class Order(BaseModel):
    items: list[str]


def properties(function):
    made = make_tool(function)
    # What the server takes it for.
    ClientTool.model_validate(made.definition.model_dump())
    return made.definition.parameters["properties"]


def called(function, **arguments):
    """Call a function as an agent does."""
    args, kwargs = make_tool(function).signature.bind(arguments)
    return function(*args, **kwargs)


def google(product: str, days: int = 30) -> float:
    """Tell the mean price.

    Of the last days.

    Args:
        product (str): Its name.
        days: How many days.

    Returns:
        The price in euros.
    """


def numpydoc(product: str, days: int = 30) -> float:
    """Tell the mean price.

    Of the last days.

    Parameters
    ----------
    product
        Its name.
    days : int
        How many days.

    Returns
    -------
    float
        The price in euros.
    """


def rest(product: str, days: int = 30) -> float:
    """Tell the mean price.

    Of the last days.

    :param product: Its name.
    :param days: How many days.
    :returns: The price in euros.
    """


@pytest.mark.parametrize("function", [google, numpydoc, rest])
def test_every_style_of_docstring_describes_the_tool_and_its_arguments(function):
    made = make_tool(function).definition
    assert made.description == "Tell the mean price.\n\nOf the last days.\n\nReturns: The price in euros."
    assert made.parameters == {
        "type": "object",
        "properties": {
            "product": {"type": "string", "description": "Its name."},
            "days": {"type": "integer", "default": 30, "description": "How many days."},
        },
        "required": ["product"],
        "additionalProperties": False,
    }


def test_annotated_says_more_by_a_text_or_a_field():
    def function(
        a: Annotated[int, "how many"],
        b: Annotated[float, Field(ge=1, description="how much")] = 2,
        c: Annotated[str, "of the hint"] = "x",
    ):
        """Do.

        Args:
            c: Of the docstring.
        """

    found = properties(function)
    assert found["a"] == {"type": "integer", "description": "how many"}
    assert found["b"] == {"type": "number", "minimum": 1, "default": 2, "description": "how much"}
    assert found["c"]["description"] == "Of the docstring."


def test_hints_of_every_kind_are_converted():
    def function(  # noqa: PLR0917 - all of them
        unit: Unit,
        place: Place,
        order: Order,
        kind: Literal["a", "b"],
        many: list[dict[str, int]],
        either: int | str,
        maybe: Optional[int] = None,  # noqa: UP045 - as many write it
    ):
        return unit, place, order, kind, many, either, maybe

    assert called(
        function,
        unit="lb",
        place={"city": "Rome"},
        order={"items": ["tea"]},
        kind="b",
        many=[{"x": "1"}],
        either="one",
        maybe=None,
    ) == (Unit.LB, Place("Rome"), Order(items=["tea"]), "b", [{"x": 1}], "one", None)


def test_a_function_without_docstring_or_hints_works():
    def function(what, count=3, flag=False, name="x", thing=None):
        return what, count, flag, name, thing

    made = make_tool(function).definition
    assert made.description == "Call function(what, count, flag, name, thing)."
    assert made.parameters["required"] == ["what"]
    assert made.parameters["properties"]["flag"] == {"type": "boolean", "default": False}
    assert called(function, what=["anything"], count=2) == (["anything"], 2, False, "x", None)
    assert called(function, what=1, count=2.5, thing={"a": 1}) == (1, 2.5, False, "x", {"a": 1})


def test_hints_written_as_text_are_read():
    def function(what: "Annotated[list[str], 'names']"):
        return what

    assert properties(function)["what"]["items"] == {"type": "string"}


def test_null_stands_for_what_was_left_out():
    def function(count: int = 3, name: str | None = "x"):
        return count, name

    assert called(function, count=None, name=None) == (3, None)


def test_positional_only_and_keyword_only_arguments_are_put_where_they_belong():
    def function(a, b=2, /, c=3, *, d=4):
        return a, b, c, d

    assert called(function, a=1, d=0) == (1, 2, 3, 0)
    assert called(function, a=1, b=5, c=6) == (1, 5, 6, 4)


def test_an_argument_that_no_agent_can_give_keeps_its_default():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1, 2]})

    def function(column: str, df: pandas.DataFrame = frame, _cache: int = 1):
        return list(df[column]), _cache

    assert list(properties(function)) == ["column"]
    assert called(function, column="n") == ([1, 2], 1)


def test_names_that_a_pydantic_model_has_itself_are_arguments_like_others():
    def function(copy: int, json: str, schema: str = "s", validate: bool = True):
        return copy, json, schema, validate

    assert called(function, copy="1", json="{}") == (1, "{}", "s", True)


def test_wrong_arguments_are_all_named():
    def function(a: int, b: Literal["x"] = "x"):
        return a, b

    with pytest.raises(ArgumentsRefused) as refused:
        called(function, b="<script>" * 50, c=1)
    text = str(refused.value)
    assert "a is missing" in text
    assert "b: Input should be 'x', not" in text
    assert "there is no argument c" in text
    assert len(text) < 250


def test_a_bound_method_is_a_tool():
    class Shop:
        def price(self, what: str):
            """Tell a price."""
            return f"{what}: 3"

    assert called(Shop().price, what="tea") == "tea: 3"
    with pytest.raises(CellError, match="make a tool of one object's"):
        make_tool(Shop.price)


def takes_args(*numbers):
    pass


def takes_kwargs(**numbers):
    pass


def takes_a_module(module: type(pytest)):
    pass


def takes_a_function(function: "CellErrors"):  # noqa: F821 - that is the point
    pass


def hides(_secret):
    pass


def reserved(model_dump: int):
    pass


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (takes_args, r"takes \*numbers"),
        (takes_kwargs, r"takes \*\*numbers"),
        (takes_a_module, "cannot give takes_a_module its module: a module cannot be written as JSON"),
        (takes_a_function, "names CellErrors, which the notebook does not have"),
        (hides, "begins with an underscore"),
        (reserved, "call it something else"),
        (print, r"takes \*args"),
        (3, "not of a int"),
        (lambda: 1, "cannot be called '<lambda>'"),
    ],
)
def test_what_cannot_be_a_tool_says_why_when_it_is_decorated(function, said):
    with pytest.raises(CellError, match=said):
        make_tool(function)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": 3601}, {"max_chars": 0}, {"max_chars": 10**7}, {"name": "a b"}]
)
def test_options_have_their_bounds(options):
    with pytest.raises(CellError, match=f"{next(iter(options.values()))!r}"):
        make_tool(google, **options)


def test_the_decorator_gives_the_function_back_and_the_last_one_counts(monkeypatch):
    monkeypatch.setattr(notebook_tools, "_registered", {})

    @tool
    def price(what: str):
        """Tell a price."""
        return what

    @tool(name="cost", description="Tells it", timeout=5, max_chars=10)
    def other(what: str):
        return what

    assert price("tea") == other("tea") == "tea"
    assert list(registered()) == ["price", "cost"]
    cost = registered()["cost"]
    assert (cost.name, cost.definition.description) == ("cost", "Tells it")
    assert (cost.definition.timeout, cost.max_chars) == (5, 10)

    @tool
    def price():
        """Tell another."""
        return "another"

    assert registered()["price"].definition.parameters["properties"] == {}


@pytest.mark.parametrize("name", sorted(each.name for each in builtin_tools()))
def test_a_built_in_tools_name_is_refused_where_it_is_written(monkeypatch, name):
    monkeypatch.setattr(notebook_tools, "_registered", {})
    with pytest.raises(CellError, match=f"'{name}' is a built-in tool.*give yours another name"):
        tool(name=name, description="Mine")(lambda what: what)
    assert registered() == {}


def test_a_tool_without_a_description_is_one_and_its_author_is_told(monkeypatch):
    monkeypatch.setattr(notebook_tools, "_registered", {})
    with pytest.warns(UserWarning, match="price has no description.*Write a docstring") as told:

        @tool
        def price(what: str):
            return what

    # At the place of the function, not within the package.
    assert told[0].filename == __file__
    assert list(registered()) == ["price"]
    with pytest.warns(UserWarning, match="cost has no description"):
        tool(name="cost")(price)
