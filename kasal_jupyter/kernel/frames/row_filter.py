"""Conditions on rows as agents write them, read without ever being evaluated as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import reduce
from operator import add, and_, eq, ge, gt, le, lt, mul, ne, neg, or_, sub, truediv
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import narwhals as nw

MOST_CHARACTERS = 1_000
"""Of a condition."""

MOST_PARTS = 200
"""Of a condition: what is nested deeper than that, no library need be able to follow."""

_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: eq,
    ast.NotEq: ne,
    ast.Lt: lt,
    ast.LtE: le,
    ast.Gt: gt,
    ast.GtE: ge,
}
_CALCULATED: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.Div: truediv,
}

_QUOTED = re.compile(r"`([^`]+)`|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


class ConditionRefused(ValueError):
    """A condition that cannot be read; the text tells the agent what may be written."""


def read_condition(text: str, schema: nw.Schema) -> nw.Expr:
    """Read a condition as an expression on a frame's columns.

    ``price > 10 and region in ["EU", "US"] and not sold``: comparisons, also in chains and with ``in``, of
    columns, texts, numbers and calculations with numbers, joined by ``and``, ``or`` and ``not``. A column
    whose name is no word stands in backticks. ``name == None`` asks for missing values. Dates are written as
    texts.

    Only that is understood. Nothing is called, and no attribute is looked at.

    Parameters
    ----------
    text
        The condition.
    schema
        The frame's columns with their types.

    Raises
    ------
    ConditionRefused
        It is written in another way, or names a column that is not there.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConditionRefused(f"The condition is longer than {MOST_CHARACTERS:,} characters")
    quoted: dict[str, str] = {}

    def stand_in(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        name = f"column_in_backticks_{len(quoted)}"
        quoted[name] = found[1]
        return name

    try:
        tree = ast.parse(_QUOTED.sub(stand_in, text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConditionRefused(
            f"{text!r} is no condition; write for example: price > 10 and region == 'EU'"
        ) from None
    if sum(1 for _ in ast.walk(tree)) > MOST_PARTS:
        raise ConditionRefused("The condition has too many parts; ask in several steps")
    return _Reader(schema, quoted).condition(tree.body)


class _Reader:
    def __init__(self, schema: nw.Schema, quoted: Mapping[str, str]) -> None:
        self._schema = schema
        self._quoted = quoted

    def condition(self, node: ast.expr) -> nw.Expr:
        match node:
            case ast.BoolOp(op=op, values=values):
                return reduce(and_ if isinstance(op, ast.And) else or_, map(self.condition, values))
            # pandas' own spelling of both.
            case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
                return self.condition(left) & self.condition(right)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.condition(left) | self.condition(right)
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.condition(operand)
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others], ops, others, strict=False)
                return reduce(and_, [self._comparison(one, op, other) for one, op, other in pairs])
            case ast.Name():
                return self._column(node)
            case _:
                raise ConditionRefused(f"{_shown(node)} is no condition; compare a column with a value")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> nw.Expr:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise ConditionRefused(f"Behind `in` stands a list, such as ['a', 'b'], not {_shown(right)}")
            values = [self._moment(self._constant(each), left) for each in right.elts]
            found: nw.Expr = self._value(left).is_in(values)
            return ~found if isinstance(op, ast.NotIn) else found
        for one, other in ((left, right), (right, left)):
            if isinstance(other, ast.Constant) and other.value is None:
                missing: nw.Expr = self._value(one).is_null()
                return missing if isinstance(op, ast.Eq | ast.Is) else ~missing
        compare = _COMPARED.get(type(op))
        if compare is None:
            raise ConditionRefused("Columns are compared by ==, !=, <, <=, >, >=, in and not in")
        result: nw.Expr = compare(self._value(left, beside=right), self._value(right, beside=left))
        return result

    def _value(self, node: ast.expr, beside: ast.expr | None = None) -> nw.Expr:
        import narwhals as nw

        match node:
            case ast.Name():
                return self._column(node)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _CALCULATED:
                result: nw.Expr = _CALCULATED[type(op)](self._number(left), self._number(right))
                return result
            case _:
                return nw.lit(self._moment(self._constant(node), beside))

    def _number(self, node: ast.expr) -> nw.Expr:
        """Read a part of a calculation: it is a number, so that each step takes as much room as a column.

        Texts would be repeated and joined, for each of a million rows, to any length.
        """
        match node:
            case ast.Name() if not self._schema[self._name(node)].is_numeric():
                pass
            case ast.Constant(value=bool() | str()):
                pass
            case _:
                return self._value(node)
        raise ConditionRefused(f"{_shown(node)} is no number; only numbers are calculated with")

    def _moment(self, value: Any, beside: ast.expr | None) -> Any:
        """Read a text as a date where a column of dates stands beside it."""
        import narwhals as nw

        if not isinstance(value, str) or not isinstance(beside, ast.Name):
            return value
        kind = self._schema[self._name(beside)]
        if not isinstance(kind, nw.Date | nw.Datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ConditionRefused(f"{value[:60]!r} is no date; write it as 2024-01-31") from None
        if isinstance(kind, nw.Date):
            return moment.date()
        if kind.time_zone is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(kind.time_zone))
        return moment

    def _constant(self, node: ast.expr) -> str | float | bool:
        match node:
            case ast.Constant(value=int() as value) if value.bit_length() > 63:
                raise ConditionRefused("A number is too large")
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return neg(value)
            case _:
                raise ConditionRefused(
                    f"{_shown(node)} is no text, number or column; only those can be compared"
                )

    def _column(self, node: ast.Name) -> nw.Expr:
        import narwhals as nw

        return nw.col(self._name(node))

    def _name(self, node: ast.Name) -> str:
        return known_column(self._quoted.get(node.id, node.id), list(self._schema))


def known_column(name: str, columns: list[str]) -> str:
    """Give a column's name back.

    Raises
    ------
    ConditionRefused
        There is none of this name; the nearest is named.
    """
    from kasal_jupyter.errors import nearest

    if name in columns:
        return name
    there = ", ".join(columns[:40]) + (" …" if len(columns) > 40 else "")
    raise ConditionRefused(
        f"There is no column {name[:80]!r}{nearest(name, columns) or f'; there are {there}'}"
    )


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
