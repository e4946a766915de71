"""The words behind `%kasal`: options as a shell takes them, and values from the notebook."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError


class WordsWanted(Exception):
    """`--help` was asked for; the text is what to show."""


class Parser(argparse.ArgumentParser):
    """A parser that raises what a cell can show, instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Refuse the words."""
        raise CellError(f"{message}. {self.format_usage().strip()}")

    def print_help(self, file: Any = None) -> None:  # noqa: ARG002
        """Hand the help text to the cell."""
        raise WordsWanted(self.format_help())


def split(line: str) -> list[str]:
    """Split a line into words, with a shell's quotes.

    Raises
    ------
    CellError
        A quote is not closed.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise CellError(f"The line cannot be read: {error}; close the quote") from None


def read_inputs(words: Iterable[str], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``key=value`` words.

    Parameters
    ----------
    words
        ``topic=tea`` gives the text; ``topic=$name`` the value of the notebook's variable, and
        ``'rows=$len(df)'`` that of an expression; ``price=$$5`` the text *$5*.
    namespace
        The notebook's variables.

    Raises
    ------
    CellError
        A word has no ``=``, a variable does not exist, or its value cannot be sent.
    """
    inputs: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CellError(f"{word!r} is no input; write it as name=value, with quotes around spaces")
        if value.startswith("$$"):
            inputs[key] = value[1:]
        elif value.startswith("$"):
            inputs[key] = sendable(word, _value(word, value[1:], namespace))
        else:
            inputs[key] = value
    return inputs


def _value(word: str, expression: str, namespace: Mapping[str, Any]) -> Any:
    if expression.isidentifier() and expression in namespace:
        return namespace[expression]
    try:
        code = compile(expression, word, "eval")
    except SyntaxError:
        # An amount of money, say: prices=$5 million.
        raise CellError(
            f"{word}: what follows the $ is no Python expression; write $$ for a dollar"
        ) from None
    try:
        # The notebook's own author wrote it, into the notebook's own cell.
        return eval(code, dict(namespace))  # noqa: S307
    except NameError as error:
        name = str(error.name)
        raise CellError(f"{word}: the notebook has no variable {name!r}{nearest(name, namespace)}") from None


def sendable(word: str, value: Any) -> Any:
    """Give a value as JSON knows it: an array as lists, a date as text.

    Raises
    ------
    CellError
        It is none of these.
    """
    # By what they can do, not by their class: numpy need not be installed.
    for method in ("tolist", "isoformat"):
        if hasattr(value, method):
            value = getattr(value, method)()
            break
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CellError(f"{word} cannot be sent to a crew: {error}; pass text, numbers or lists") from None
    return value
