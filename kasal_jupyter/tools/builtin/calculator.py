"""Arithmetic, read as an expression tree and never evaluated as Python."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from kasal_jupyter.tools.tool import Tool, ToolContext

Number = int | float

MAX_CHARACTERS = 500
"""Longest expression."""

MAX_BITS = 4_096
"""Largest integer, in bits: about 1,200 digits."""

_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "cos": math.cos,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
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
            return _bounded(_BINARY[type(operation)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*(_value(argument) for argument in arguments)))
        case _:
            pass
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic.")


def _power(base: Number, exponent: Number) -> Number:
    """Raise to a power, having refused what would take for ever or fill the memory."""
    if (
        isinstance(base, int)
        and isinstance(exponent, int)
        and exponent > 0
        and base.bit_length() * exponent > MAX_BITS
    ):
        raise OverflowError
    return _bounded(base**exponent)


def _bounded(number: Number | complex) -> Number:
    if isinstance(number, complex):
        raise ValueError("The result is not a real number.")  # noqa: TRY004 - of no use to an agent
    if (isinstance(number, int) and number.bit_length() > MAX_BITS) or not math.isfinite(number):
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
)
