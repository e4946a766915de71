"""What a CrewAI project's ``crew.py`` shows without being executed: its syntax tree, read as data.

CrewAI binds the texts of ``agents.yaml`` and ``tasks.yaml`` to agents and tasks by methods that are marked
``@agent``, ``@task``, ``@llm`` and ``@crew``. Where such a method gives an ``Agent(…)``, a ``Task(…)``, an
``LLM(…)`` or a ``Crew(…)`` its arguments can be read, as far as they are written out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.formats.yaml_text import is_exact

MARKS = ("agent", "task", "llm", "crew")


@dataclass(frozen=True, slots=True)
class Written:
    """An expression that only running it would give the value of.

    Attributes
    ----------
    text
        As it is written: ``SerperDevTool()``, ``self.writer()``.
    """

    text: str

    @property
    def called(self) -> str | None:
        """The name of the class or the method that is called, if it is a call of one."""
        name, bracket, _ = self.text.partition("(")
        name = name.removeprefix("self.").rpartition(".")[2]
        return name if bracket and name.isidentifier() else None

    @property
    def last(self) -> str:
        """The last part of a dotted name: ``hierarchical`` of ``Process.hierarchical``."""
        return self.text.rpartition(".")[2]

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Made:
    """What a marked method makes.

    Attributes
    ----------
    method
        The method's name.
    kind
        What is made: ``Agent``, ``Task``, ``ConditionalTask``, ``LLM``, ``Crew``.
    arguments
        Its keyword arguments; those that are no plain values as :class:`Written`.
    config
        The key of the YAML whose fields it takes, if it takes any.
    line
        Its line.
    """

    method: str
    kind: str
    arguments: dict[str, Any]
    config: str | None
    line: int


@dataclass(slots=True)
class CrewPy:
    """A ``crew.py``.

    Attributes
    ----------
    agents, tasks, llms
        What its marked methods make, by the methods' names, in their order.
    crew
        Its crew's keyword arguments; None where there is no such method that can be read.
    unread
        Marked methods of which nothing can be read.
    """

    agents: dict[str, Made] = field(default_factory=dict)
    tasks: dict[str, Made] = field(default_factory=dict)
    llms: dict[str, Made] = field(default_factory=dict)
    crew: Made | None = None
    helpers: dict[str, Made] = field(default_factory=dict)
    """Agents of methods that are not marked: managers."""
    unread: list[str] = field(default_factory=list)


def read_crew_py(text: str) -> CrewPy:
    """Read a ``crew.py`` without executing any of it.

    Raises
    ------
    ValueError
        It is no Python.
    """
    try:
        # What parses may still nest too deep to be looked through: a()()()… is a call of a call.
        return _read(ast.parse(text))
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is no Python that can be read: {error or type(error).__name__}") from None


def _read(tree: ast.Module) -> CrewPy:
    found = CrewPy()
    for method in _methods(tree):
        marks = [_name(mark) for mark in method.decorator_list]
        mark = next((each for each in MARKS if each in marks), None)
        made = _made(method)
        if mark is None:
            if made is not None and made.kind.endswith("Agent"):
                found.helpers[method.name] = made
        elif made is None:
            found.unread.append(method.name)
        elif mark == "agent":
            found.agents[method.name] = made
        elif mark == "task":
            found.tasks[method.name] = made
        elif mark == "llm":
            found.llms[method.name] = made
        else:
            found.crew = made
    return found


def _methods(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (each for each in node.body if isinstance(each, ast.FunctionDef))


def _made(method: ast.FunctionDef) -> Made | None:
    """Find what a method gives, itself or by a name that it was bound to before."""
    bound: dict[str, ast.expr] = {}
    for statement in method.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                bound[target.id] = statement.value
        elif isinstance(statement, ast.Return):
            value = statement.value
            if isinstance(value, ast.Name):
                value = bound.get(value.id)
            if not isinstance(value, ast.Call):
                return None
            arguments = {each.arg: _value(each.value) for each in value.keywords if each.arg is not None}
            config = arguments.pop("config", None)
            return Made(method.name, _name(value.func), arguments, _config(config), method.lineno)
    return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        if isinstance(node.value, int) and not is_exact(node.value):
            raise ValueError(f"line {node.lineno}: a number has more than 64 bits")
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(key.value): _value(each) for key, each in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand)
        if isinstance(inner, int | float):
            return -inner
    if isinstance(node, ast.Lambda) and (condition := _condition(node.body)) is not None:
        return condition
    return Written(ast.unparse(node))


def _condition(node: ast.expr) -> dict[str, Any] | None:
    """Give a condition that an export of ours has written: ``holds(output, contains="yes")``."""
    if not (isinstance(node, ast.Call) and _name(node.func) == "holds"):
        return None
    found = {each.arg: _value(each.value) for each in node.keywords if each.arg is not None}
    return None if any(isinstance(each, Written) for each in found.values()) else found


def _config(value: object) -> str | None:
    """Give the key in ``self.agents_config["writer"]``."""
    if not isinstance(value, Written):
        return None
    try:
        node = ast.parse(value.text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return None


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
