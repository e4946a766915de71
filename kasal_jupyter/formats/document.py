"""A YAML or JSON file as plain values, and the line that each of them stands on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.bundle import refused
from kasal_jupyter.formats.yaml_text import DEEPEST, MOST_NODES, is_exact, line_of, parse_mapping, plain
from kasal_jupyter.wellformed import well_formed

MOST_OF_YAML = 300_000
"""Characters of a YAML file: its reader takes seconds for more."""

Step = str | int
Path = tuple[Step, ...]
"""Where a value stands in a document: keys, and places in lists."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was read.

    Attributes
    ----------
    file
        Its path, as it was given.
    data
        What it holds: one mapping.
    lines
        The lines of its entries, counted from 1.
    tags
        YAML tags such as ``!!python/object``, which no value of a crew has.
    """

    file: str
    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    tags: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Say where a value stands: ``tasks.yaml, line 3``."""
        while path:
            if path in self.lines:
                return f"{self.file}, line {self.lines[path]}"
            path = path[:-1]
        return self.file


def written(path: Path) -> str:
    """Write a path as fields are written: ``tasks.report.tools[0]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read_yaml(file: str, text: str, expected: str) -> Document:
    """Read a YAML file that is one mapping.

    Parameters
    ----------
    file
        Its path, for the errors.
    text
        Its content.
    expected
        What to say where it is no mapping.

    Raises
    ------
    InvalidRequest
        It is none, or too large; with the file and the line.
    """
    if len(text) > MOST_OF_YAML:
        raise refused(file, f"it has more than {MOST_OF_YAML:,} characters, which no crew's YAML has")
    try:
        root = parse_mapping(text, expected)
    except InvalidRequest as error:
        raise refused(file, error.faults[0].reason) from None
    lines: dict[Path, int] = {}
    tags: dict[Path, str] = {}
    _note(root, (), lines, tags)
    return Document(file, plain(root), lines, tags)


def read_json(file: str, text: str) -> Document:
    """Read a JSON file that is one object; comments and commas before a closing bracket are passed over.

    That is what CrewAI takes for JSONC as well.

    Raises
    ------
    InvalidRequest
        It is none, or too large; with the file and the line.
    """
    text = blanked(text)
    try:
        lines = _lines(text)
        data = json.loads(
            text, parse_constant=_no_constant, object_pairs_hook=_object, parse_int=_whole_number
        )
    except json.JSONDecodeError as error:
        raise refused(file, f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise refused(file, str(error)) from None
    if not isinstance(data, dict):
        raise refused(file, "line 1: a JSON object is expected")
    return Document(file, well_formed(data), lines)


_TOKEN = re.compile(
    r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)|[{}\[\],:]|[^\s{}\[\],:"/]+|/', re.DOTALL
)
"""A string, a comment, a bracket, or anything else in JSON that is no blank."""


def blanked(text: str) -> str:
    """Give JSONC as JSON: blanks stand where comments and superfluous commas stood, lines stay lines."""
    pieces: list[str] = []
    comma: int | None = None
    end = 0
    for found in _TOKEN.finditer(text):
        word = found[0]
        pieces.append(text[end : found.start()])
        end = found.end()
        if word.startswith(("//", "/*")):
            pieces.append(re.sub(r"[^\n]", " ", word))
            continue
        if word in "}]" and comma is not None:
            pieces[comma] = " "
        comma = len(pieces) if word == "," else None
        pieces.append(word)
    return "".join([*pieces, text[end:]])


def _lines(text: str) -> dict[Path, int]:
    """Find the line of every entry of an object or a list.

    Raises
    ------
    ValueError
        It nests too deep, or has too many values.
    """
    lines: dict[Path, int] = {}
    path: list[Step] = []
    objects: list[bool] = []
    line, end, key = 1, 0, True
    for found in _TOKEN.finditer(text):
        line += text.count("\n", end, found.start())
        end = found.start()
        word = found[0]
        if word in "{[":
            if objects and not objects[-1]:
                lines.setdefault(tuple(path), line)
            objects.append(word == "{")
            path.append(0 if word == "[" else "")
            key = word == "{"
            if len(objects) > DEEPEST:
                raise ValueError(f"line {line}: it nests deeper than {DEEPEST} levels")
        elif word in "}]":
            if objects:
                objects.pop()
                path.pop()
        elif word == ",":
            if objects and objects[-1]:
                key = True
            elif path and isinstance(path[-1], int):
                path[-1] += 1
        elif word == ":":
            key = False
        elif objects and objects[-1] and key and word.startswith('"'):
            path[-1] = _key(word)
            lines[tuple(path)] = line
        elif objects and not objects[-1]:
            lines.setdefault(tuple(path), line)
        if len(lines) > MOST_NODES:
            raise ValueError(f"line {line}: it has more than {MOST_NODES:,} values")
    return lines


def _key(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError:
        return word


def _whole_number(digits: str) -> int:
    if len(digits) > 20 or not is_exact(number := int(digits)):
        raise ValueError(f"{digits[:40]} has more than 64 bits, and would lose digits; write it in quotes")
    return number


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for twice, _ in pairs:
            if twice in seen:
                break
            seen.add(twice)
        raise ValueError(f"{twice!r} stands twice in one object; leave one out")
    return found


def _note(node: object, path: Path, lines: dict[Path, int], tags: dict[Path, str]) -> None:
    tag = getattr(getattr(node, "tag", None), "value", None)
    if tag:
        tags[path] = str(tag)
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            line = line_of(node, key)
            if line is not None:
                lines[*path, str(key)] = line
            _note(value, (*path, str(key)), lines, tags)
    elif isinstance(node, CommentedSeq):
        for place, value in enumerate(node):
            spots = node.lc.data or {}
            if place in spots:
                lines[*path, place] = int(spots[place][0]) + 1
            _note(value, (*path, place), lines, tags)
    elif isinstance(node, Mapping | list):
        for step, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            _note(value, (*path, step), lines, tags)
