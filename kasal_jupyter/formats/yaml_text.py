"""YAML as a text with lines: read without executing anything, and without blowing up.

The round-trip loader constructs no objects, and knows where each key stands. What it
would still do is recurse as deep as a text nests, and hand out an alias's node again at
every mention, so that a kilobyte may stand for gigabytes. The limits here are far beyond
any crew's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.wellformed import well_formed

INVALID = "The crew's YAML cannot be used"

DEEPEST = 50
"""Levels of a text."""

MOST_NODES = 100_000
"""Values of a text, those counted again that an alias repeats."""

LONG_VALUE = 100
"""Characters of a value that count as one more: an alias repeats them."""

MOST_MERGES = 200
"""Mappings that take others in (``<<``): to the loader, each is a look at all before."""

MOST_CHARACTERS = 2_000_000
"""Of a text."""

_OPEN, _CLOSE = "\ue000", "\ue001"
"""What stands for the braces of ``{{name}}`` while YAML is read, to which they are mappings."""

_MISREAD = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, AssertionError, RuntimeError)
"""What the loader raises besides its own errors: for a 30th of February, say, or a number of 5,000 digits."""

_NAME = re.compile(r"(\{\{)?\{\{\s*([^\W\d]\w*)\s*\}\}(?(1)\}\})")
_MARKED = re.compile(f"{_OPEN}(\\w+){_CLOSE}")


def parse_mapping(text: str, expected: str) -> CommentedMap:
    """Read a text that is one mapping. It is not to be changed: others may be given the same.

    Parameters
    ----------
    text
        The YAML.
    expected
        What to say where it is none.

    Raises
    ------
    InvalidRequest
        It is no YAML, no mapping, or too large; with the line.
    """
    root = _loaded(text)
    if not isinstance(root, CommentedMap):
        raise refusal(f"line 1: {expected}")
    return root


@lru_cache(maxsize=4)
def _loaded(text: str) -> Any:
    """Read a text, which is not to be changed: an editor asks for the same again and again."""
    if len(text) > MOST_CHARACTERS:
        raise refusal(f"it has more than {MOST_CHARACTERS:,} characters, which no crew's YAML has")
    try:
        _measure(text)
        root = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        raise refusal(explained(error, text)) from None
    except YAMLError as error:
        raise refusal(" ".join(str(error).split())) from None
    except _MISREAD as error:
        raise refusal(f"a value in it cannot be read: {' '.join(str(error).split())[:200]}") from None
    if (key := _key_of_endless_number(root)) is not None:
        where = f"{key!r} has" if key else "it has"
        raise refusal(f"{where} a number of more than 64 bits, which would lose digits; write it in quotes")
    return root


def _key_of_endless_number(root: object) -> str | None:
    """Give the key of a number that not everybody can read, nor Python write out again, as 0xfff… is."""
    seen: set[int] = set()
    level: list[tuple[str, object]] = [("", root)]
    while level:
        key, each = level.pop()
        if isinstance(each, int):
            if not is_exact(each):
                return key
        elif isinstance(each, Mapping | list) and id(each) not in seen:
            seen.add(id(each))
            if isinstance(each, Mapping):
                level += ((key, name) for name in each)
                level += ((name if isinstance(name, str) else key, value) for name, value in each.items())
            else:
                level += ((key, value) for value in each)
    return None


def is_exact(number: int) -> bool:
    """Say whether a whole number keeps its digits whoever reads it: whether it has 64 bits at the most."""
    return -(2**63) <= number < 2**64


def refusal(reason: str) -> InvalidRequest:
    """Make the error for a text that cannot be read at all."""
    return InvalidRequest(f"{INVALID}: {reason}", faults=[Fault("yaml", reason)])


def line_of(node: CommentedMap, key: object) -> int | None:
    """Give the line that a key stands on, counted from 1."""
    places = node.lc.data or {}
    return int(places[key][0]) + 1 if key in places else None


def is_own_key(key: object) -> bool:
    """Say whether a key at the top is its author's alone, ``x-defaults`` say, to be mentioned elsewhere."""
    return isinstance(key, str) and key.startswith("x-")


def named(value: Any) -> Any:
    """Give a name, or a list of names, as texts: YAML reads some of them as numbers."""
    if isinstance(value, list):
        return [named(each) for each in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def tag_of(value: object) -> str | None:
    """Name a tag such as ``!!python/object`` in a value, if there is one; YAML's own types have none here."""
    tag = getattr(getattr(value, "tag", None), "value", None)
    if tag:
        return str(tag)
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next(filter(None, map(tag_of, inside)), None)


def plain(value: Any) -> Any:
    """Give a value as plain Python types; escapes of YAML may name what no UTF-8 can hold."""
    if isinstance(value, Mapping):
        return {well_formed(str(key)): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return well_formed(kind(value))
    return value


def mark_names(text: str) -> str:
    """Give the text with each ``{{name}}`` as something that YAML reads as text, quoted or not.

    ``{{{{name}}}}`` is ``{{name}}`` itself, which to a run is the text ``{name}``.
    """
    return _NAME.sub(lambda found: f"{{{{{found[2]}}}}}" if found[1] else f"{_OPEN}{found[2]}{_CLOSE}", text)


def names_in(text: str) -> list[str]:
    """Give the names that stand in double braces in a text, each once."""
    return list(dict.fromkeys(name for itself, name in _NAME.findall(text) if not itself))


def fill_names(value: Any, values: Mapping[str, Any], missing: set[str], *, whole: bool = False) -> Any:
    """Give a plain value with the marked names replaced.

    A text that is one name alone becomes its value, a number say; within other text it is written out.

    Parameters
    ----------
    value
        What :func:`plain` gave.
    values
        The names' values.
    missing
        Takes the names that have none.
    whole
        Whether one name alone becomes its value whatever that is, a DataFrame say.
    """
    if isinstance(value, dict):
        return {key: fill_names(each, values, missing, whole=whole) for key, each in value.items()}
    if isinstance(value, list):
        return [fill_names(each, values, missing, whole=whole) for each in value]
    if not isinstance(value, str):
        return value
    names = _MARKED.findall(value)
    missing.update(name for name in names if name not in values)
    if any(name not in values for name in names):
        return value
    alone = _MARKED.fullmatch(value)
    if alone and (whole or isinstance(values[alone[1]], (bool, int, float, list, dict))):
        return values[alone[1]]
    return _MARKED.sub(lambda found: str(values[found[1]]), value)


@dataclass(slots=True)
class _Around:
    """A collection around the place that is being read.

    Attributes
    ----------
    size
        The values in it so far.
    anchor
        What aliases call it.
    keys
        Whether the next node in it is a key; None in what has none.
    """

    size: int
    anchor: str | None = None
    keys: bool | None = None


def _measure(text: str) -> None:
    """Refuse a text that nests or repeats beyond the limits, before anything is built of it.

    A key that is a mapping or a list is refused as well: the loader builds it twice, and those in it
    twice again.
    """
    sizes: dict[str, int] = {}
    merges = 0
    # The text itself is the first.
    around = [_Around(0)]
    for event in YAML(typ="rt", pure=True).parse(text):
        if isinstance(event, CollectionEndEvent):
            done = around.pop()
            if done.anchor is not None:
                sizes[done.anchor] = done.size
            around[-1].size += done.size
        elif isinstance(event, NodeEvent):
            line = event.start_mark.line + 1
            place = around[-1]
            is_key = bool(place.keys)
            if place.keys is not None:
                place.keys = not place.keys
            if isinstance(event, CollectionStartEvent):
                if is_key:
                    raise refusal(f"line {line}: a key is a text, and here it is a mapping or a list")
                around.append(
                    _Around(1, event.anchor, keys=True if isinstance(event, MappingStartEvent) else None)
                )
            elif isinstance(event, AliasEvent):
                if any(each.anchor == event.anchor for each in around):
                    raise refusal(f"line {line}: *{event.anchor} stands within itself")
                place.size += sizes.get(str(event.anchor), 1)
            elif isinstance(event, ScalarEvent):
                size = 1 + len(event.value) // LONG_VALUE
                if event.anchor is not None:
                    sizes[event.anchor] = size
                place.size += size
                merges += is_key and event.value == "<<"
        if len(around) > DEEPEST:
            raise refusal(f"line {event.start_mark.line + 1}: it nests deeper than {DEEPEST} levels")
        if around[-1].size > MOST_NODES:
            raise refusal(f"line {event.start_mark.line + 1}: it has more than {MOST_NODES:,} values")
        if merges > MOST_MERGES:
            raise refusal(f"line {event.start_mark.line + 1}: it has `<<` more than {MOST_MERGES} times")


# -- what is wrong --------------------------------------------------------------------------------------

# What YAML's own messages mean to whoever wrote a crew: on which line, and what to write instead.

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
