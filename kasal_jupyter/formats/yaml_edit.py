"""Changes to a YAML text that leave the rest of it as it was.

A form changes a value; whoever wrote the text keeps their comments, their order, their quotes and their line
breaks, to the character. The change is made in the text where that can be done. Where it cannot (a value that
several places share by an alias, say), it is made in what ruamel's round-trip loader read, which keeps
comments and quotes as well, but not every line break. What comes out was read again and is what was wanted.
"""

from __future__ import annotations

import copy
import io
from functools import lru_cache
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_source import ENDLESS, Source, key_text, plain_key, same
from kasal_jupyter.formats.yaml_splice import Splice, Unsuited, applied, next_splices
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
