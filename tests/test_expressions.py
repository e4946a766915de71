"""No regular expression of the package takes more than linear time, whatever text it meets."""

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import kasal_jupyter
from tests.linear import ambiguity

PACKAGE = Path(kasal_jupyter.__file__).parent

APPLIED = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}

BOUNDED = {
    ("api.postman", r"re.escape(endpoint.path) + '/\\{([a-z_]+)\\}'"): "it meets the API's own paths",
    (
        "formats.crewai_export",
        "task.condition.matches",
    ): "it is compiled, to see whether Python can, and not used",
    ("formats.yaml_text", "_NAME"): "each run of blanks or letters is read from one pair of braces alone",
    ("kernel.frames.row_filter", "_QUOTED"): "a condition has 1,000 characters",
}
"""What the checker cannot call linear, by module and the expression's name or text: why it costs nothing."""


@dataclass(frozen=True)
class Use:
    """One expression in the code: where it stands, what is written there, and how it is applied."""

    module: str
    line: int
    name: str
    written: str
    flags: str
    how: str

    @property
    def expression(self):
        """What the code makes of it."""
        try:
            return eval(self.written, {"re": re})
        except NameError:
            return eval(self.written, vars(importlib.import_module(self.module)))


@cache
def trees():
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found[module] = ast.parse(file.read_text())
    return found


def is_re(node, names):
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "re"
        and node.attr in names
    )


def uses():
    """Give all of them. An expression that has a name counts as searched for, unless it is only matched."""
    applied: dict[str, set[str]] = {}
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in APPLIED:
                name = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
                applied.setdefault(name, set()).add(node.attr)
    for module, tree in trees().items():
        named = {
            id(node.value): node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not is_re(node.func, {*APPLIED, "compile"}):
                continue
            how = node.func.attr
            if how == "compile":
                ways = applied.get(named.get(id(node), ""), {"search"})
                how = (
                    next(iter(ways))
                    if len(ways) == 1
                    else "match"
                    if ways <= {"match", "fullmatch"}
                    else "search"
                )
            rest = node.args[1 if node.func.attr == "compile" else {"sub": 3, "subn": 3}.get(how, 2) :]
            flags = [*rest, *(each.value for each in node.keywords if each.arg == "flags")]
            if node.func.attr in {"sub", "subn", "split"}:
                flags = [each.value for each in node.keywords if each.arg == "flags"]
            written = ast.unparse(node.args[0])
            yield Use(
                module,
                node.lineno,
                named.get(id(node), written),
                written,
                ast.unparse(flags[0]) if flags else "0",
                how,
            )


def test_every_expression_is_linear():
    found = {}
    for use in uses():
        try:
            why = ambiguity(use.expression, eval(use.flags, {"re": re}), use.how)
        except NameError:
            why = "it is made as the program runs"
        if why is not None:
            found[use.module.removeprefix("kasal_jupyter."), use.name] = f"line {use.line}, {use.how}: {why}"
    assert {each: why for each, why in found.items() if each not in BOUNDED} == {}
    assert set(BOUNDED) <= set(found), "what is linear needs no reason"


def test_nothing_else_than_re_and_re2_reads_expressions():
    """What is imported under another name would be missed above."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in {"re", "regex"}, module
            if isinstance(node, ast.Import):
                assert not [
                    each.name
                    for each in node.names
                    if each.name == "regex" or (each.name == "re" and each.asname is not None)
                ], module


@pytest.mark.parametrize(
    ("expression", "how", "linear"),
    [
        (r"a+", "search", True),
        (r"a+b", "match", True),
        (r"a+b", "search", False),
        (r"<[^<>]*>", "search", True),
        (r"<[^>]*>", "search", False),
        (r"\[.*\]", "search", False),
        (r"(a|b)*c", "match", True),
        (r"(a+)+c", "match", False),
        (r"(a*)*c", "match", False),
        (r"(ab|a|b)*c", "match", False),
        (r"a*b?a*c", "match", False),
        (r"\s+$", "search", False),
        (r"(?<!\s)\s+$", "search", True),
        (r"(?m)^\s*x", "search", False),
        (r"(?m)^[ \t]*x", "search", True),
        (r"(?s)/.*\Z", "search", True),
        (r"/.*\Z", "search", False),
        (r"x(?=a*b)", "search", False),
        (r"a{1,50}b", "search", True),
        (r"a{1,5000}b", "search", False),
        (r'"(?:[^"\\]|\\.)*"?', "search", True),
        (r'"(?:[^"\\]|\\.)*"', "search", False),
        (r"a*(b*c)?", "search", False),
        (r"(?i)A+[b-d]a", "match", True),
        (r"(?i)A*a*b", "match", False),
        (r"(?:^|=)\s*x", "search", True),
        (r"(?:^|\b)\s*x", "search", False),
    ],
)
def test_the_checker_tells_them_apart(expression, how, linear):
    assert (ambiguity(expression, 0, how) is None) == linear
