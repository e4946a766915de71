"""Where things stand in a YAML text: the lines of a mapping's entries, and values as a text would write them.

Reading a text and writing it anew loses what no YAML library keeps: how wide lines were, which list was
indented, whose comment a comment was. So a change is made in the text itself, by line and column, and this
is what knows them. Comments belong to the entry that stands below them, at the same depth.
"""

from __future__ import annotations

import io
import re
import textwrap
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.scalarstring import (
    DoubleQuotedScalarString,
    LiteralScalarString,
    ScalarString,
    SingleQuotedScalarString,
)

ENDLESS = 1_000_000
"""A line's width where no line is to be broken."""

WIDTH = 100
"""Where a line that is written anew is broken, counted from its key."""

FOLD_WIDTH = 80
"""Where a folded text is broken, counted from its indentation."""

_UNSEEN = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]")
"""What YAML takes for the end of a line, or does not take at all, unless it is escaped."""

_BLOCK = re.compile(r"[^\s](.|\n)*?[^\n]\n?\Z")
"""A text of several lines that reads the same as a block: its first line tells how deep it is indented."""

_HEADER = re.compile(r"[|>][-+0-9]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value, in a block mapping of a text.

    Attributes
    ----------
    key, value
        Their nodes.
    lead
        The first line that is its own: that of the comments right above it, else ``line``.
    line
        The key's line, counted from 0.
    end
        The line behind its last one; blank lines that follow are not its own.
    """

    key: ScalarNode
    value: Node
    lead: int
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text is written, so that what is added looks like the rest.

    Attributes
    ----------
    step
        Blanks that a mapping in a mapping is indented by.
    offset
        Blanks before the dash of a list, counted from its key.
    flow
        Whether lists are written in brackets.
    """

    step: int = 2
    offset: int = 0
    flow: bool = False


class Source:
    """A text, and the nodes it is made of.

    Parameters
    ----------
    text
        YAML that has been read before.

    Raises
    ------
    YAMLError
        It is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text if text.endswith("\n") else f"{text}\n"
        self.lines = self.text.split("\n")[:-1]
        self._starts = [0, *accumulate(len(line) + 1 for line in self.lines)]
        self.root: Node | None = YAML(typ="rt", pure=True).compose(self.text)
        self.layout = _layout(self.root) if self.root is not None else Layout()

    def at(self, line: int) -> int:
        """Give the index of a line's first character."""
        return self._starts[line]

    def end_of(self, node: Node) -> int:
        """Give the index behind a value's last character, without blanks and comments that follow."""
        if isinstance(node, MappingNode) and not node.flow_style and node.value:
            key, value = node.value[-1]
            return max(self.end_of(value), int(key.end_mark.index))
        if isinstance(node, SequenceNode) and not node.flow_style and node.value:
            return max(self.end_of(node.value[-1]), int(node.start_mark.index) + 1)
        start, end = int(node.start_mark.index), int(node.end_mark.index)
        if start == end:
            # A value that is left out stands, to the parser, where the next token is.
            return 0
        if isinstance(node, ScalarNode) and node.style in {"|", ">"}:
            return start + len(self.text[start:end].rstrip())
        return end

    def entries(self, node: MappingNode) -> list[Entry] | None:
        """Give the entries of a block mapping; None where it is not written with a line for each key."""
        starts = [int(key.start_mark.line) for key, _ in node.value]
        column = int(node.value[0][0].start_mark.column)
        for key, _ in node.value:
            if key.start_mark.column != column or self.lines[key.start_mark.line][:column].strip():
                return None
        found = []
        for place, (key, value) in enumerate(node.value):
            last = self._line_at(max(self.end_of(value), int(key.end_mark.index)))
            bottom = starts[place + 1] if place + 1 < len(starts) else len(self.lines)
            lead = self._lead(starts[place], column, starts[place - 1] if place else -1)
            end = last + 1
            following = self._lead(bottom, column, last) if place + 1 < len(starts) else bottom
            # Comments that are indented as the entry is, or deeper, are still about it.
            for line in range(end, following):
                written = self.lines[line].lstrip()
                if not written.startswith("#"):
                    if written:
                        break
                    continue
                if len(self.lines[line]) - len(written) < max(column, 1):
                    break
                end = line + 1
            found.append(Entry(key, value, lead, starts[place], end))
        return found

    def _lead(self, line: int, column: int, above: int) -> int:
        while line - 1 > above:
            written = self.lines[line - 1]
            if not written.lstrip().startswith("#") or len(written) - len(written.lstrip()) != column:
                break
            line -= 1
        return line

    def _line_at(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1


def plain_key(key: Node) -> str:
    """Give a key as its mapping's plain value has it."""
    return str(key.value)


def header_comment(text: str) -> str:
    """Give the comment in the first line of a block text (``| # …``), with the blanks before it."""
    line = text.split("\n", 1)[0]
    found = _HEADER.match(line)
    rest = line[found.end() :] if found else ""
    return rest.rstrip() if rest.strip().startswith("#") else ""


def write_value(value: Any, layout: Layout, *, style: str | None = None) -> tuple[str, list[str]]:
    """Write a value as it stands behind its key.

    Parameters
    ----------
    value
        A plain value.
    layout
        How the text around it is written.
    style
        The sign of the scalar style to keep, where the new value can be written so.

    Returns
    -------
    head
        What stands in the key's own line; may be nothing.
    body
        The lines below, indented as below a key in column 0.
    """
    if isinstance(value, str):
        if style == ">" and (folded := _folded(value)) is not None:
            return folded
        value = _styled(value, style)
    if layout.flow and isinstance(value, list):
        return flow_text(value), []
    first, *body = _dump({"k": value}, layout).split("\n")
    return first.removeprefix("k:").strip(), body


def write_entry(key: str, value: Any, layout: Layout, column: int) -> list[str]:
    """Write a key with its value as lines that begin at a column."""
    head, body = write_value(by_layout(value, layout), layout)
    return indented([f"{key_text(key)}: {head}".rstrip(), *body], column)


def key_text(key: str) -> str:
    """Write a key, in quotes where it needs them."""
    return str(_dump({key: 1}, Layout())).removesuffix(": 1")


def flow_text(value: Any) -> str:
    """Write a value in one line, as it stands inside brackets."""
    yaml = _writer(Layout())
    yaml.width = ENDLESS
    yaml.default_flow_style = True
    stream = io.StringIO()
    yaml.dump([value], stream)
    return stream.getvalue().strip()[1:-1]


def indented(lines: list[str], column: int) -> list[str]:
    """Give lines moved to the right."""
    return [" " * column + line if line else line for line in lines]


def same(one: Any, other: Any) -> bool:
    """Say whether plain values are the same, types and the order of keys included."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def by_layout(value: Any, layout: Layout) -> Any:
    """Give a value marked to be written as the layout says, and texts of several lines as such."""
    from ruamel.yaml.comments import CommentedSeq

    if isinstance(value, Mapping):
        return {key: by_layout(each, layout) for key, each in value.items()}
    if isinstance(value, list):
        items = CommentedSeq(by_layout(each, layout) for each in value)
        if layout.flow:
            items.fa.set_flow_style()
        return items
    return _styled(value, None) if isinstance(value, str) and not isinstance(value, ScalarString) else value


def _styled(value: str, style: str | None) -> str:
    written: str = value
    if _UNSEEN.search(value) or ("\n" in value and not _BLOCK.match(value)):
        written = DoubleQuotedScalarString(value)
    elif "\n" in value and style not in {"'", '"'}:
        written = LiteralScalarString(value)
    elif style == "'":
        written = SingleQuotedScalarString(value)
    elif style == '"':
        written = DoubleQuotedScalarString(value)
    return written


def _folded(value: str) -> tuple[str, list[str]] | None:
    """Write a text folded, as CrewAI's own files are; None where folding would change it."""
    text = value.removesuffix("\n")
    head = ">" if value.endswith("\n") else ">-"
    body: list[str] = []
    for place, paragraph in enumerate(text.split("\n")):
        if place:
            body.append("")
        body += (
            textwrap.wrap(paragraph, FOLD_WIDTH, break_long_words=False, break_on_hyphens=False)
            if paragraph
            else []
        )
    body = indented(body, 2)
    try:
        read = YAML(typ="safe", pure=True).load("\n".join([f"k: {head}", *body, ""]))
    except YAMLError:
        return None
    return (head, body) if read == {"k": value} else None


def _layout(root: Node) -> Layout:
    steps = [
        int(value.value[0][0].start_mark.column) - int(key.start_mark.column)
        for key, value in _pairs(root)
        if isinstance(value, MappingNode) and value.value and not value.flow_style
    ]
    lists = [(key, value) for key, value in _pairs(root) if isinstance(value, SequenceNode) and value.value]
    offsets = [
        int(value.start_mark.column) - int(key.start_mark.column)
        for key, value in lists
        if not value.flow_style
    ]
    return Layout(
        step=next((step for step in steps if step > 0), 2),
        offset=next((offset for offset in offsets if offset >= 0), 0),
        flow=bool(lists) and bool(lists[0][1].flow_style),
    )


def _pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    for key, value in node.value if isinstance(node, MappingNode) else ():
        yield key, value
        if value.start_mark.index > key.start_mark.index:
            # An alias stands for a node that was met before.
            yield from _pairs(value)


def _dump(value: Any, layout: Layout) -> str:
    stream = io.StringIO()
    _writer(layout).dump(value, stream)
    text = stream.getvalue()
    return text.removesuffix("\n")


def _writer(layout: Layout) -> YAML:
    yaml = YAML()
    yaml.width = WIDTH
    yaml.indent(mapping=layout.step, sequence=layout.offset + 2, offset=layout.offset)
    return yaml
