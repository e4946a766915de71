"""The inputs of a run as a notebook writes them: texts, and values of its variables.

::

    topic=tea             a text, unless the notebook has a variable of that name
    topic="green tea"     a text, whatever the notebook has
    data=df               the variable
    rows=len(df)          the value of the expression
    topic=$name           the variable; an error where there is none
    topic={name}          the same, as IPython's own magics have it
    'rows=$df.head( 3 )'  the value of an expression with blanks
    price=$$5             the text $5
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isclass, ismodule, isroutine
from typing import Any

from kasal_jupyter.errors import InvalidRequest, nearest, nearest_word
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Word, quoted, raw_of

_LONGEST = 10_000
"""Characters of an expression; what is longer is a text."""

_ALIKE, _LONG_NAME = 0.85, 4
"""How alike a word and a variable are, and how long the word is, before it is asked which was meant."""

_BRACES = re.compile(r"\{([^\W\d]\w*)\}")

_UNFILLED = {"…", "..."}
"""What stands for a value in the lines that are shown to be typed."""


@dataclass(slots=True)
class Inputs:
    """What a run is given.

    Attributes
    ----------
    values
        By the inputs' names, as the notebook has them.
    taken
        The words that were read as Python although nothing marked them so: whoever meant a text is told.
    doubts
        What was read as a text, and may have been meant as a variable.
    """

    values: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def note(self) -> str | None:
        """Say what was taken from the notebook unasked, or may have been meant so; None where nothing was."""
        lines = list(self.doubts)
        if self.taken:
            lines.append(f"From the notebook: {', '.join(self.taken)} (in quotes it would be a text)")
        return "\n".join(lines) or None


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

    def functions(self) -> list[str]:
        """Give the names of the author's functions."""
        return [name for name, value in self.namespace.items() if self.is_variable(name) and isroutine(value)]

    def _is_code(self, name: str) -> bool:
        value = self.namespace[name]
        return ismodule(value) or isclass(value) or isroutine(value)

    def near(self, name: str) -> str:
        """Give what :func:`nearest` does, among the author's own names: nobody means IPython's."""
        return nearest(name, filter(self.is_variable, self.namespace))

    def doubt(self, name: str, text: str) -> str | None:
        """Say of an unmarked text that it may have been meant as Python; None where that is not likely."""
        if said := self.braces(name, text):
            return said
        bare = text.strip()
        if bare.isidentifier():
            near = nearest_word(bare, self.variables(), cutoff=_ALIKE) if len(bare) >= _LONG_NAME else None
            if near is None or near == bare:
                return None
            return f"{name} is the text {bare!r}; the notebook has {near!r}, which {name}=${near} takes"
        unknown = sorted(each for each in _names(text) if not self._is_known(each))
        if not unknown or not _is_call(text):
            return None
        return (
            f"{name} is the text {bare!r}: the notebook has no variable {unknown[0]!r}{self.near(unknown[0])}"
        )

    def braces(self, name: str, text: str) -> str | None:
        """Say of a text that its ``{x}`` stays as it stands, where x is a variable; else None."""
        for found in _BRACES.findall(text[:_LONGEST]):
            if self.is_variable(found):
                return f'{name} has {{{found}}} as it stands; {name}=f"…" fills it in, as in Python'
        return None

    def _is_known(self, name: str) -> bool:
        return name in self.namespace or hasattr(builtins, name)

    def reads_as_python(self, text: str) -> bool:
        """Say whether an unmarked text is an expression of the notebook's variables.

        It mentions at least one, and else only names that are known; a module or a function alone
        (``topic=json``) is the word and not the thing.
        """
        names = _names(text)
        if not names:
            return False
        if not all(map(self._is_known, names)) or not any(self.is_variable(name) for name in names):
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
            near = self.near(missing)
            raise CellError(
                f"{name}={expression}: the notebook has no variable {missing!r}"
                f"{f'{near} In' if near else '; in'} quotes it would be a text"
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
    given = [raw_of(each) for each in words]
    for place, word in enumerate(given):
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise CellError(_no_input(given, place))
        if name in inputs.values:
            raise CellError(f"The input {name} is given twice")
        inputs.values[name] = _value(word, name, text, notebook, inputs)
    return inputs


def _no_input(words: Sequence[Word], place: int) -> str:
    """Say how a word that is no input has to be written, from what stands around it."""
    word = str(words[place])
    after = str(words[place + 1]) if place + 1 < len(words) else ""
    if word.endswith(":") and len(word) > 1:
        return f"{word!r} is no input; on this line it is {word[:-1]}={quoted(after) if after else 'value'}"
    if after.startswith("=") or word == "=":
        return "An input has no blanks around its =; write name=value"
    before = words[place - 1] if place else None
    if before is not None and "=" in before:
        name, _, text = before.partition("=")
        rest = [text]
        for each in words[place:]:
            if "=" in each:
                break
            rest.append(str(each))
        whole = quoted(" ".join(rest), '"')
        return f"{word!r} is no input; a text with blanks is in quotes: {name}={whole}"
    return f"{word!r} is no input; write it as name=value, with quotes around blanks"


def _value(word: Word, name: str, text: str, notebook: Notebook, inputs: Inputs) -> Any:
    if text in _UNFILLED and not word.quoted:
        raise CellError(f"{name}={text}: put what you want in its place, as in {name}=tea")
    if text.startswith("$$"):
        return text[1:]
    if text.startswith("$"):
        return notebook.value(name, text[1:])
    # With its quotes: data=df["region"] is not what a shell makes of it.
    _, _, written = word.raw.partition("=")
    if word.quoted or written[:1] in {"'", '"'}:
        inputs.doubts += filter(None, [notebook.braces(name, text)])
        return text
    if written[:1] == "{" and written[-1:] == "}" and written[1:-1].isidentifier():
        # To Python it would be a set of one.
        return notebook.value(name, written[1:-1])
    if not notebook.reads_as_python(written):
        inputs.doubts += filter(None, [notebook.doubt(name, written)])
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
        reason = error.faults[0].reason.removeprefix("line 1: ")
        raise CellError(f"The inputs in the cell cannot be read: {reason}") from None
    inputs: dict[str, Any] = {}
    for key, value in root.items():
        missing: set[str] = set()
        if isinstance(value, Mapping) and len(value) == 1 and None in value.values():
            braced = str(next(iter(value)))
            raise CellError(
                f"The input {key} in line {line_of(root, key)}: {{{braced}}} is a mapping to YAML; "
                f'{{{{{braced}}}}} is the variable, and "{{{braced}}}" the text'
            )
        inputs[str(key)] = fill_names(plain(value), notebook.namespace, missing, whole=True)
        for name in sorted(missing):
            raise CellError(
                f"The input {key} in line {line_of(root, key)}: {{{{{name}}}}} has no value"
                f"{notebook.near(name)}"
            )
    return inputs


def _is_call(text: str) -> bool:
    """Say whether an expression calls something or looks into something: ``len(df)``, ``df["a"]``.

    ``green-tea`` and ``example.com`` are expressions as well, and mostly texts.
    """
    body = ast.parse(text.strip(), mode="eval").body
    return isinstance(body, ast.Call | ast.Subscript)


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
