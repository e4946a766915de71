"""Arithmetic, read as an expression tree and never evaluated as Python.

Whatever an expression says, each of its steps is small: a number that goes into a step has so many bits at
the most, and what says *how often* something is done (an exponent, digits to round to) is looked at before.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from kasal_jupyter.tools.tool import Tool, ToolContext, always

Number = int | float

MAX_CHARACTERS = 500
"""Longest expression."""

MAX_BITS = 4_096
"""Largest integer, in bits: about 1,200 digits."""

MAX_COUNT = MAX_BITS
"""Largest exponent of an integer, and most digits that are rounded to."""

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of numbers, whose work grows with their size alone.

    ``counted`` is one that takes a count behind its number: its work grows with the count's value.
    """

    call: Callable[..., Number]
    counted: bool = False


_FUNCTIONS: dict[str, _Function] = {
    "abs": _Function(abs),
    "cos": _Function(math.cos),
    "exp": _Function(math.exp),
    "log": _Function(math.log),
    "log10": _Function(math.log10),
    "max": _Function(max),
    "min": _Function(min),
    "round": _Function(round, counted=True),
    "sin": _Function(math.sin),
    "sqrt": _Function(math.sqrt),
    "tan": _Function(math.tan),
}
_CONSTANTS: dict[str, Number] = {"e": math.e, "pi": math.pi}


def calculate(expression: str) -> Number:
    """Give the value of an arithmetic expression.

    Parameters
    ----------
    expression
        Numbers, ``+ - * / // % **``, brackets, ``pi``, ``e`` and the functions
        abs, cos, exp, log, log10, max, min, round, sin, sqrt, tan. ``^`` is read as a power.

    Raises
    ------
    ValueError
        Anything else, or a result that is too large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ValueError(f"The expression is longer than {MAX_CHARACTERS} characters.")
    try:
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval")
        return _value(tree.body)
    except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"{expression!r} is not an arithmetic expression.") from error
    except ZeroDivisionError as error:
        raise ValueError(f"{expression!r} divides by zero.") from error
    except OverflowError as error:
        raise ValueError(f"The result of {expression!r} is too large.") from error


def _value(node: ast.expr) -> Number:
    return _bounded(_worked_out(node))


def _worked_out(node: ast.expr) -> Number | complex:
    match node:
        case ast.Constant(value=bool()):
            pass  # a bool is an int to Python, and not a number to anyone else
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _BINARY:
            return _BINARY[type(operation)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            function = _FUNCTIONS[name]
            values = [_value(argument) for argument in arguments]
            if function.counted:
                values[1:] = map(_count, values[1:])
            return function.call(*values)
        case _:
            pass
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic.")


def _count(number: Number) -> Number:
    """Give what says how often something is done, where that is not too often."""
    if abs(number) > MAX_COUNT:
        raise OverflowError
    return number


def _power(base: Number, exponent: Number) -> Number | complex:
    """Raise to a power, having refused what would take for ever or fill the memory."""
    # Of a negative exponent the result is a float, and 0, 1 and -1 stay as they are.
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and exponent > 0
        and abs(base) > 1
        and base.bit_length() * _count(exponent) > MAX_BITS
    ):
        raise OverflowError
    return base**exponent


def _bounded(number: Number | complex) -> Number:
    if isinstance(number, complex):
        raise ValueError("The result is not a real number.")  # noqa: TRY004 - of no use to an agent
    if number.bit_length() > MAX_BITS if isinstance(number, int) else not math.isfinite(number):
        raise OverflowError
    return number


def _run(_context: ToolContext, expression: str) -> str:
    value = calculate(expression)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value) if whole else value)


TOOL = Tool(
    name="calculator",
    description="Works out an arithmetic expression exactly, such as 2 * (3 + 4) or sqrt(2) ** 3.",
    category="computation",
    parameters={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "Numbers, + - * / // % **, brackets, pi, e, and sqrt, log, max …",
                "examples": ["6 * 7"],
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
)
