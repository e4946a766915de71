"""The inputs of a run as a notebook writes them: texts, and values of its variables.

::

    topic=tea             a text, unless the notebook has a variable of that name
    topic="green tea"     a text, whatever the notebook has
    data=df               the variable
    rows=len(df)          the value of the expression
    topic=$name           the variable; an error where there is none
    'rows=$df.head( 3 )'  the value of an expression with blanks
    price=$$5             the text $5
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import isclass, ismodule, isroutine
from typing import Any

from kasal_jupyter.errors import InvalidRequest, nearest
from kasal_jupyter.kernel.command_line import Word, raw_of
from kasal_jupyter.kernel.failure import CellError

_LONGEST = 10_000
"""Characters of an expression; what is longer is a text."""


@dataclass(slots=True)
class Inputs:
    """What a run is given.

    Attributes
    ----------
    values
        By the inputs' names, as the notebook has them.
    taken
        The words that were read as Python although nothing marked them so: whoever meant a text is told.
    """

    values: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def note(self) -> str | None:
        """Say what was taken from the notebook unasked; None where nothing was."""
        if not self.taken:
            return None
        return f"From the notebook: {', '.join(self.taken)} (in quotes it would be a text)"


@dataclass(frozen=True, slots=True)
class Notebook:
    """The variables that inputs may mention.

    Attributes
    ----------
    namespace
        All names of the notebook.
    hidden
        Those that IPython itself put there.
    """

    namespace: Mapping[str, Any]
    hidden: Collection[str] = ()

    def is_variable(self, name: str) -> bool:
        """Say whether the notebook's author made this name."""
        return name in self.namespace and name not in self.hidden and not name.startswith("_")

    def variables(self) -> list[str]:
        """Give the names of the author's values: no modules, functions or classes."""
        return [name for name in self.namespace if self.is_variable(name) and not self._is_code(name)]

    def _is_code(self, name: str) -> bool:
        value = self.namespace[name]
        return ismodule(value) or isclass(value) or isroutine(value)

    def reads_as_python(self, text: str) -> bool:
        """Say whether an unmarked text is an expression of the notebook's variables.

        It mentions at least one, and else only names that are known; a module or a function alone
        (``topic=json``) is the word and not the thing.
        """
        names = _names(text)
        if not names:
            return False
        known = all(name in self.namespace or hasattr(builtins, name) for name in names)
        if not known or not any(self.is_variable(name) for name in names):
            return False
        return not (text.strip().isidentifier() and self._is_code(text.strip()))

    def value(self, name: str, expression: str) -> Any:
        """Give an expression's value, for the input of that name.

        Raises
        ------
        CellError
            It is no expression, or fails; with Python's own words.
        """
        if expression.isidentifier() and expression in self.namespace:
            return self.namespace[expression]
        try:
            code = compile(expression.strip(), f"<the input {name}>", "eval")
        except (SyntaxError, ValueError):
            # An amount of money, say: prices=$5 million.
            raise CellError(
                f"{name}=${expression}: what follows the $ is no Python expression; write $$ for a dollar"
            ) from None
        try:
            # The notebook's own author wrote it, into the notebook's own cell.
            return eval(code, dict(self.namespace))  # noqa: S307
        except NameError as error:
            missing = str(error.name)
            raise CellError(
                f"{name}={expression}: the notebook has no variable {missing!r}"
                f"{nearest(missing, self.namespace)}"
            ) from None
        except Exception as error:
            # What the author's own objects raise is theirs to know.
            raise CellError(
                f"The input {name} has no value: {expression} raises {type(error).__name__}: {error}; "
                "put quotes around a text"
            ) from error


def read_inputs(words: Iterable[str], notebook: Notebook) -> Inputs:
    """Read ``name=value`` words.

    Raises
    ------
    CellError
        A word has no ``=``, a name comes twice, or an expression has no value.
    """
    inputs = Inputs()
    for each in words:
        word = raw_of(each)
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise CellError(f"{str(word)!r} is no input; write it as name=value, with quotes around blanks")
        if name in inputs.values:
            raise CellError(f"The input {name} is given twice")
        inputs.values[name] = _value(word, name, text, notebook, inputs)
    return inputs


def _value(word: Word, name: str, text: str, notebook: Notebook, inputs: Inputs) -> Any:
    if text.startswith("$$"):
        return text[1:]
    if text.startswith("$"):
        return notebook.value(name, text[1:])
    # With its quotes: data=df["region"] is not what a shell makes of it.
    _, _, written = word.raw.partition("=")
    if word.quoted or written[:1] in {"'", '"'} or not notebook.reads_as_python(written):
        return text
    inputs.taken.append(name if name == written else f"{name}={written}")
    return notebook.value(name, written)


def read_cell(cell: str | None, notebook: Notebook) -> dict[str, Any]:
    """Read the inputs that stand in a cell as YAML.

    A ``{{name}}`` alone is the variable itself, a DataFrame too; within a text it is written out.

    Raises
    ------
    CellError
        It is no YAML, no mapping, or a ``{{name}}`` has no value; with the line.
    """
    if cell is None or not cell.strip():
        return {}
    from kasal_jupyter.formats.yaml_text import fill_names, line_of, mark_names, parse_mapping, plain

    try:
        # The cell's first line is the magic's: counted as the notebook counts them.
        root = parse_mapping(f"\n{mark_names(cell)}", "write the inputs as name: value, one a line")
    except InvalidRequest as error:
        raise CellError(f"The inputs in the cell cannot be read: {error.faults[0].reason}") from None
    inputs: dict[str, Any] = {}
    for key, value in root.items():
        missing: set[str] = set()
        inputs[str(key)] = fill_names(plain(value), notebook.namespace, missing, whole=True)
        for name in sorted(missing):
            raise CellError(
                f"The input {key} in line {line_of(root, key)}: {{{{{name}}}}} has no value"
                f"{nearest(name, notebook.namespace)}"
            )
    return inputs


def _names(text: str) -> set[str]:
    """Give the names that an expression takes from outside; none where it is no expression."""
    if len(text) > _LONGEST:
        return set()
    try:
        with warnings.catch_warnings():
            # Python warns of texts such as "5 is 5", which this one may be.
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    nodes = list(ast.walk(tree))
    if any(isinstance(node, ast.NamedExpr | ast.Await) for node in nodes):
        return set()
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names - own - {node.arg for node in nodes if isinstance(node, ast.arg)}
