"""Changes to a YAML text that leave the rest of it as it was.

A form changes a value; whoever wrote the text keeps their comments, their order, their quotes and their line
breaks, to the character. The change is made in the text where that can be done. Where it cannot (a value that
several places share by an alias, say), it is made in what ruamel's round-trip loader read, which keeps
comments and quotes as well, but not every line break. What comes out was read again and is what was wanted.
"""

from __future__ import annotations

import copy
import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_source import (
    ENDLESS,
    Entry,
    Source,
    flow_text,
    header_comment,
    indented,
    key_text,
    plain_key,
    same,
    write_entry,
    write_value,
)
from kasal_jupyter.formats.yaml_text import parse_mapping, plain

MOST_LOOKS = 24
"""How often a text is read anew for a change: each look makes all changes of one kind. What takes more is
another text."""


def read_plain(text: str) -> dict[str, Any]:
    """Read a text as plain values.

    Raises
    ------
    InvalidRequest
        It cannot be read, or is no mapping; with the line.
    """
    return copy.deepcopy(_read(text))


@lru_cache(maxsize=8)
def _read(text: str) -> dict[str, Any]:
    """Read a text. It takes a millisecond a line, and each is read on both sides of a change."""
    values: dict[str, Any] = plain(parse_mapping(text, "a crew begins with `agents:` and `tasks:`"))
    return values


def rewrite(text: str, wanted: dict[str, Any]) -> str:
    """Change a text so that it reads as what is wanted, and is otherwise the same.

    Parameters
    ----------
    text
        The YAML of a mapping.
    wanted
        Plain values; the order of their keys counts.

    Raises
    ------
    InvalidRequest
        The text cannot be read.
    """
    try:
        return _spliced(text, wanted)
    except (Unsuited, YAMLError, InvalidRequest):
        read_plain(text)
        merged = _merged(text, wanted)
    return merged if same(read_plain(merged), wanted) else _dumped(CommentedMap(wanted))


def rename_key(text: str, path: list[str], new: str) -> str:
    """Change a key of a text, and nothing else.

    Parameters
    ----------
    text
        The YAML of a mapping.
    path
        The keys that lead to it, itself the last.
    new
        What it shall be; its mapping must not have it.

    Raises
    ------
    InvalidRequest
        The text cannot be read.
    KeyError
        It has no such key.
    """
    wanted = read_plain(text)
    around: Any = wanted
    for step in path[:-1]:
        around = around[step]
    entries = [(new if key == path[-1] else key, value) for key, value in around.items()]
    if path[-1] not in around:
        raise KeyError(path[-1])
    around.clear()
    around.update(entries)
    source = Source(text)
    node = source.root
    key: Node | None = None
    for step in path:
        pairs = node.value if isinstance(node, MappingNode) else []
        key, node = next(((key, value) for key, value in pairs if plain_key(key) == step), (None, None))
    if key is not None:
        candidate = applied(
            source.text, [Splice(int(key.start_mark.index), int(key.end_mark.index), key_text(new))]
        )
        try:
            if same(read_plain(candidate), wanted):
                return candidate
        except InvalidRequest:
            # An anchor stood there, say; it is written another way.
            pass
    return rewrite(text, wanted)


def _spliced(text: str, wanted: dict[str, Any]) -> str:
    """Make the changes in the text, kind after kind, each found anew."""
    suited = not any(sign in text for sign in "\r\x85\u2028\u2029\ufeff")
    for _ in range(MOST_LOOKS):
        data = read_plain(text)
        if same(data, wanted):
            return text
        source = Source(text)
        splices: list[Splice] = []
        if suited and isinstance(source.root, MappingNode) and data:
            splices = next_splices(source, source.root, data, wanted)
        if not splices:
            raise Unsuited
        text = applied(source.text, splices)
    raise Unsuited


def _merged(text: str, wanted: dict[str, Any]) -> str:
    """Make the changes in what the round-trip loader reads."""
    root = _round_trip().load(text)
    _merge(root, wanted, _shared(root))
    return _dumped(root)


def _merge(node: CommentedMap, wanted: dict[str, Any], shared: set[int]) -> None:
    for key in [each for each in node if str(each) not in wanted]:
        del node[key]
    names = {str(key): key for key in node}
    for name, value in wanted.items():
        key = names.get(name, name)
        old = node.get(key)
        if isinstance(old, CommentedMap) and isinstance(value, dict) and id(old) not in shared:
            _merge(old, value, shared)
        elif key not in node or not same(plain(old), value):
            node[key] = value
    if [str(key) for key in node] != list(wanted):
        for name in wanted:
            node.move_to_end(names.get(name, name))


def _shared(root: Any) -> set[int]:
    """Give the ids of the collections that stand in several places: to change one would change the others."""
    seen: set[int] = set()
    twice: set[int] = set()
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, (dict, list)):
            continue
        if id(part) in seen:
            twice.add(id(part))
            continue
        seen.add(id(part))
        waiting += part.values() if isinstance(part, dict) else part
    return twice


def _dumped(root: CommentedMap) -> str:
    stream = io.StringIO()
    _round_trip().dump(root, stream)
    return stream.getvalue()


def _round_trip() -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = ENDLESS
    return yaml


# -- splices --------------------------------------------------------------------------------------------

# The changes that a YAML text needs so that it reads as something else, one after the other.
#
# Each replaces a part of the text and leaves every other character; a change of an entry is one of its lines.


@dataclass(frozen=True, slots=True)
class Splice:
    """What replaces a part of a text, from one index to another."""

    start: int
    end: int
    new: str


class Unsuited(Exception):
    """The text is written in a way that is not edited in place."""


def applied(text: str, splices: Sequence[Splice]) -> str:
    """Give the text with changes made; of two at one place the first comes first.

    Raises
    ------
    Unsuited
        One touches another.
    """
    pieces: list[str] = []
    end = 0
    for splice in sorted(splices, key=lambda each: (each.start, each.end)):
        if splice.start < end:
            raise Unsuited
        pieces += [text[end : splice.start], splice.new]
        end = splice.end
    return "".join([*pieces, text[end:]])


def next_splices(
    source: Source, node: MappingNode, data: dict[str, Any], wanted: dict[str, Any], *, depth: int = 0
) -> list[Splice]:
    """Give the next changes that a mapping needs; none where it needs none.

    Entries are taken out first, then put in order, then added; what is in them is changed when they are all
    there. Each of these is one look at the text, however many entries it is about.

    Parameters
    ----------
    source
        The text.
    node
        The mapping in it.
    data
        What it is now.
    wanted
        What it shall be; the order of the keys counts.
    depth
        How many mappings it is in; those in the crew's own are its lists of members.

    Raises
    ------
    Unsuited
        It is written in a way that is not edited in place.
    """
    if node.flow_style or not node.value:
        return _flow_mapping(source, node, data, wanted)
    entries = source.entries(node)
    if entries is None or [plain_key(each.key) for each in entries] != list(data):
        raise Unsuited
    by_key = dict(zip(data, entries, strict=True))
    column = int(entries[0].key.start_mark.column)
    if gone := [place for place, key in enumerate(data) if key not in wanted]:
        return _removed(source, entries, gone, whole=depth == 1)
    order = [key for key in wanted if key in data]
    if order != list(data):
        return [_reordered(source, entries, [by_key[key] for key in order])]
    added: list[Splice] = []
    before: Entry | None = None
    for key, value in wanted.items():
        if key in data:
            before = by_key[key]
            continue
        lines = write_entry(key, value, source.layout, column)
        added.append(_inserted(source, entries, before, lines, top=depth == 0))
    return added or [
        splice
        for key, entry in by_key.items()
        for splice in _value_splices(source, entry, data[key], wanted[key], depth)
    ]


def _value_splices(source: Source, entry: Entry, data: Any, wanted: Any, depth: int) -> list[Splice]:
    if same(data, wanted):
        return []
    node = entry.value
    if node.start_mark.index < entry.key.start_mark.index:
        # An alias: a change there would be one in the place that it stands for.
        raise Unsuited
    if isinstance(data, dict) and isinstance(wanted, dict) and data and wanted:
        if isinstance(node, MappingNode) and (
            splices := next_splices(source, node, data, wanted, depth=depth + 1)
        ):
            return splices
    elif isinstance(data, list) and isinstance(wanted, list) and data and wanted:
        splice = _list_splice(source, node, data, wanted)
        if splice is not None:
            return [splice]
    return [_replaced(source, entry, wanted)]


def _removed(source: Source, entries: list[Entry], gone: list[int], *, whole: bool) -> list[Splice]:
    """Take entries out; a member's comments go with it, those above a field stay."""
    splices: list[Splice] = []
    last = len(entries) - 1
    while gone and gone[-1] == last and last:
        # Those at the end go with the blank lines before them, the others with those behind them.
        gone, last = gone[:-1], last - 1
    if last < len(entries) - 1:
        entry = entries[last + 1]
        start = min(entry.lead, entry.line) if whole else entry.line
        while start and not source.lines[start - 1].strip():
            start -= 1
        splices.append(Splice(source.at(start), source.at(entries[-1].end), ""))
    for place in gone:
        entry = entries[place]
        end = entry.end
        while place < len(entries) - 1 and end < len(source.lines) and not source.lines[end].strip():
            end += 1
        start = entry.lead if whole else entry.line
        splices.append(Splice(source.at(start), source.at(end), ""))
    return splices


def _reordered(source: Source, entries: list[Entry], wanted: list[Entry]) -> Splice:
    """Put whole entries in another order; the blank lines between them stay where they are."""
    new: list[str] = []
    for place, entry in enumerate(wanted):
        new += source.lines[entry.lead : entry.end]
        if place + 1 < len(entries):
            new += source.lines[entries[place].end : entries[place + 1].lead]
    return Splice(source.at(entries[0].lead), source.at(entries[-1].end), "\n".join([*new, ""]))


def _inserted(
    source: Source, entries: list[Entry], before: Entry | None, lines: list[str], *, top: bool
) -> Splice:
    """Put an entry behind another, or first; a blank line apart where the others are."""
    apart = len(entries) > 1 and all(one.end < other.lead for one, other in pairwise(entries))
    if before is None:
        at = source.at(entries[0].line if top else entries[0].lead)
        return Splice(at, at, "\n".join([*lines, *([""] if apart else []), ""]))
    at = source.at(before.end)
    return Splice(at, at, "\n".join([*([""] if apart else []), *lines, ""]))


def _replaced(source: Source, entry: Entry, wanted: Any) -> Splice:
    """Write a value anew behind its key; a comment in its line stays."""
    key, node = entry.key, entry.value
    start = source.text.index(":", int(key.end_mark.index)) + 1
    end = max(start, source.end_of(node))
    line_end = source.text.index("\n", end)
    # An empty text is in quotes because it has to be.
    style = node.style if isinstance(node, ScalarNode) and node.value else None
    comment = header_comment(source.text[int(node.start_mark.index) : end])
    rest = source.text[end:line_end]
    if rest.strip():
        if not rest.strip().startswith("#"):
            raise Unsuited
        comment, end = rest.rstrip(), line_end
    head, body = write_value(wanted, source.layout, style=style)
    first = f" {head}" if head else ""
    return Splice(start, end, "\n".join([f"{first}{comment}", *indented(body, int(key.start_mark.column))]))


def _list_splice(source: Source, node: Node, data: list[Any], wanted: list[Any]) -> Splice | None:
    """Change items of a list, each in its line or between its commas."""
    if not isinstance(node, SequenceNode) or not all(isinstance(item, ScalarNode) for item in node.value):
        return None
    start, end = int(node.start_mark.index), source.end_of(node)
    steps = list(_steps(data, wanted))
    if node.flow_style:
        if "\n" in source.text[start:end]:
            return None
        items = [
            source.text[int(node.value[old].start_mark.index) : int(node.value[old].end_mark.index)]
            if old is not None
            else flow_text(new)
            for old, new in steps
        ]
        return Splice(start, end, f"[{', '.join(items)}]")
    lines = [int(item.start_mark.line) for item in node.value]
    dash = source.lines[lines[0]]
    column = len(dash) - len(dash.lstrip())
    bottom = source.text.count("\n", 0, end) + 1
    if len(set(lines)) < len(lines) or not dash.lstrip().startswith("-"):
        return None
    new_lines: list[str] = []
    for old, new in steps:
        if old is None:
            head, body = write_value(new, source.layout)
            new_lines += [f"{' ' * column}- {head}", *indented(body, column)]
        else:
            new_lines += source.lines[lines[old] : lines[old + 1] if old + 1 < len(lines) else bottom]
    return Splice(source.at(lines[0]), source.at(bottom), "\n".join([*new_lines, ""]))


def _steps(data: list[Any], wanted: list[Any]) -> Iterator[tuple[int | None, Any]]:
    """Give the wanted items, each with its place in the old list where it stood there."""
    places: dict[str, deque[int]] = {}
    for place, item in enumerate(data):
        places.setdefault(repr(item), deque()).append(place)
    for item in wanted:
        free = places.get(repr(item))
        yield (free.popleft() if free else None), item


def _flow_mapping(
    source: Source, node: MappingNode, data: dict[str, Any], wanted: dict[str, Any]
) -> list[Splice]:
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    if same(data, wanted):
        return []
    if not data or "\n" in source.text[start:end] or [plain_key(key) for key, _ in node.value] != list(data):
        raise Unsuited
    written = dict(zip(data, node.value, strict=True))
    parts = []
    for key, value in wanted.items():
        if key in data and same(data[key], value):
            name, old = written[key]
            parts.append(source.text[int(name.start_mark.index) : source.end_of(old)])
        else:
            parts.append(f"{key_text(key)}: {flow_text(value)}")
    return [Splice(start, end, f"{{{', '.join(parts)}}}")]
