"""What YAML's own messages mean to whoever wrote a crew: on which line, and what to write instead."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml.error import MarkedYAMLError

_PLACEHOLDER = re.compile(r"\{[^\W\d]\w*\}")
_COMMAND = re.compile(r"(?:[^\W\d]\w* *= *)?%{1,2}[^\W\d]")
_FIELD = re.compile(r"( *(?:- +)?[^\s:#'\"{\[][^:#]*):[ \t]+(\S.*)")
_GLUED = re.compile(r" *([^\W\d]\w*):(\S+)")

_LONGEST = 60
"""Characters of a text that is written out again with quotes."""

_SCALARS = ("found character", "alphabetic or numeric", "undefined alias", "<block end>", "not allowed here")
"""What a text says that YAML takes for something else, because of a character that it has."""


def explained(error: MarkedYAMLError, text: str) -> str:
    """Say on which line a text is no YAML, and what to do about it."""
    lines = text.splitlines()
    problem = " ".join(str(error.problem or error.context).split())
    at = error.problem_mark.line if error.problem_mark else 0
    # A quote or a key that never ends is found out at the end of the text; it is where it began.
    if error.context_mark is not None and ("simple key" in str(error.context) or "end of stream" in problem):
        at = error.context_mark.line
    line = lines[at] if at < len(lines) else ""
    said = _said(problem, line, lines[at - 1] if 0 < at <= len(lines) else "")
    return f"line {at + 1}: {said or problem}"


def text_wanted(value: object) -> str:
    """Say what to do about a value that is no text where one belongs."""
    if value is None:
        return "it is empty; write a text, in quotes where it begins with #"
    if isinstance(value, list | dict):
        return "it is a list or has fields; write one text"
    return f'{str(value)[:_LONGEST]} is no text to YAML; put it in quotes: "{str(value)[:_LONGEST]}"'


def list_wanted(value: object) -> str:
    """Say how a single value is written where several may stand."""
    return f"it is a list; write [{value}]" if isinstance(value, str) else "it is a list; write [one, two]"


def _said(problem: str, line: str, before: str) -> str:
    if _COMMAND.match(line.strip()):
        return f"{line.strip()[:_LONGEST]!r} is a command; put it in a cell of its own"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "it is indented with a tab; YAML wants blanks"
    if "expected ':'" in problem:
        if glued := _GLUED.match(line):
            return f"a blank is needed behind the colon: {glued[1]}: {glued[2][:_LONGEST]}"
        return f"{line.strip()[:_LONGEST]!r} has no colon; write name: value"
    if "end of stream" in problem:
        return "a quote that begins here is not closed"
    if "duplicate key" in problem:
        return problem
    glued = _GLUED.match(before)
    if glued and "mapping values" in problem:
        return f"a blank is needed behind the colon of the line before: {glued[1]}: {glued[2][:_LONGEST]}"
    field = _FIELD.match(line)
    if field is not None and _looks_quotable(problem, field[2]):
        return f"{problem}; put the text in quotes: {field[1].strip()}: {_in_quotes(field[2])}"
    if found := _PLACEHOLDER.search(line):
        # In braces at its beginning, or within others, YAML takes a placeholder for a mapping.
        return f'{problem}; put the text with {found[0]} in quotes, "…"'
    if "mapping values" in problem and ":" not in before:
        return f"{problem}; the line before, {before.strip()[:_LONGEST]!r}, has no colon"
    if "mapping values" in problem or "<block end>" in problem:
        return f"{problem}; it is not indented as the lines that it belongs to"
    return ""


def _looks_quotable(problem: str, value: str) -> bool:
    """Say whether a text's own characters are what YAML trips over."""
    if "mapping values" in problem:
        return ": " in value or value.endswith(":")
    if "<block mapping start>" in problem or (value[:1] == "{" and not _PLACEHOLDER.match(value)):
        return False
    return any(each in problem for each in _SCALARS) or value[:1] in "|>@`%&*!,?[]{}'\""


def _in_quotes(value: str) -> str:
    if len(value) > _LONGEST:
        return '"…"'
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def reason_of(item: Any, value: object) -> str:
    """Give what a field's refusal means, by pydantic's own kind of it."""
    match item["type"]:
        case "string_type":
            return text_wanted(value)
        case "list_type":
            return list_wanted(value)
        case "string_too_short" if not value:
            return "it is empty; write a text"
        case "missing":
            return f"it is missing; write `{item['loc'][-1]}: …`"
        case "bool_type":
            return "write true or false, not a text"
        case "int_type" | "int_from_float":
            return "write a whole number, not a text"
        case "float_type":
            return "write a number, not a text"
    return str(item["msg"]).removeprefix("Value error, ")
