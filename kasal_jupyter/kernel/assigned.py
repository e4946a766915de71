"""Which variable a cell gives a magic's value to: one that fails may leave there what it has."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Mapping
from typing import Any


def assigned_name(namespace: Mapping[str, Any]) -> str | None:
    """Give the name on the left of ``name = %kasal …``, where that is what runs now; else None.

    Parameters
    ----------
    namespace
        The notebook's variables: of the frames that lead here, the cell's has them.
    """
    frame = sys._getframe()  # noqa: SLF001 - Python has no other name for it
    while frame is not None and (frame.f_code.co_name != "<module>" or frame.f_globals is not namespace):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    try:
        cell = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    for statement in cell.body:
        if isinstance(statement, ast.Assign) and _covers(statement, frame.f_lineno):
            target = statement.targets[0]
            if len(statement.targets) == 1 and isinstance(target, ast.Name) and _is_magic(statement.value):
                return target.id
    return None


def _covers(statement: ast.stmt, line: int) -> bool:
    return statement.lineno <= line <= (statement.end_lineno or statement.lineno)


def _is_magic(value: ast.expr) -> bool:
    """Say whether an expression is what IPython makes of ``%kasal …``."""
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in {"run_line_magic", "run_cell_magic"}
        and bool(value.args)
        and isinstance(value.args[0], ast.Constant)
        and value.args[0].value == "kasal"
    )
