"""The changes that a YAML text needs so that it reads as something else, one after the other.

Each replaces a part of the text and leaves every other character; a change of an entry is one of its lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kasal_jupyter.formats.yaml_source import (
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
