"""The tool calls of an OpenAI-compatible model's answer: whose piece is whose, and what the arguments are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.hiding import beginning

MOST_ENCODED = 3
"""How often arguments may be encoded as JSON, one in the other."""

MOST_NAME = 1_000
"""Characters of a tool's name, beyond which no pieces are put to it."""

MAX_SHOWN = 200
"""Characters of broken arguments that a model is shown again."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A tool that a model wants called.

    Attributes
    ----------
    id
        The server's, or one of ours where it gives none, or one twice.
    name
        The tool's.
    written
        The arguments as the model wrote them.
    arguments
        The same as a JSON object; ``{}`` where they are none.
    fault
        Why they are none, in words for the model; None where they are.
    """

    id: str
    name: str
    written: str
    arguments: str
    fault: str | None = None


class Calls:
    """Puts the calls of one answer together.

    Parameters
    ----------
    offered
        The schemas of the tools' arguments, by their names.
    number
        What is put into ids that are ours, to tell those of one conversation apart.
    """

    def __init__(self, offered: Mapping[str, Mapping[str, Any]], number: int) -> None:
        self._offered = offered
        self._number = number
        self._calls: list[_Call] = []
        self._latest: dict[tuple[int | str | None, str], _Call] = {}

    def take(self, entries: Any) -> None:
        """Take in what one piece of the answer says of calls."""
        here: list[_Call] = []
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict):
                continue
            function = entry.get("function")
            function = function if isinstance(function, dict) else entry
            index = entry.get("index")
            piece = _Piece(
                _text(entry.get("id")),
                _text(function.get("name")),
                function.get("arguments"),
                index if isinstance(index, (int, str)) else None,
            )
            call = self._whose(piece, here)
            call.add(piece, self._offered)
            here.append(call)

    def asked(self) -> list[AskedCall]:
        """Give the calls, once all of their pieces are there."""
        taken: set[str] = set()
        asked = []
        for at, call in enumerate(self._calls):
            if not call.name and not call.arguments():
                continue  # Nothing was asked for.
            call_id = call.id if call.id and call.id not in taken else f"call_{self._number}_{at}"
            taken.add(call_id)
            written = call.arguments()
            found = arguments_of(written, self._offered.get(call.name, {}))
            text = written if isinstance(written, str) else _json(written)
            if found is None:
                asked.append(AskedCall(call_id, call.name, text, "{}", _fault(call.name, text)))
            else:
                # A text that is an object stays as it is: the server has read it before, and need not again.
                same = isinstance(written, str) and _object(written) is not None
                asked.append(AskedCall(call_id, call.name, text, text if same else _json(found)))
        return asked

    def _whose(self, piece: _Piece, here: Sequence[_Call]) -> _Call:
        """Give the call that a piece belongs to, a new one where it begins one.

        ``here`` are those that the same list has named before: it names each once.
        """
        latest = self._latest
        known = latest.get((piece.index, piece.id)) or latest.get((piece.index, ""))
        if known is None and piece.index is None and self._calls:
            known = self._calls[-1]
        if known is None or self._begins(known, piece, known in here):
            known = _Call()
            self._calls.append(known)
        latest[piece.index, piece.id] = latest[piece.index, ""] = known
        return known

    def _begins(self, known: _Call, piece: _Piece, named: bool) -> bool:
        """Say whether a piece begins another call than the one of its index, or than the last one."""
        other = bool(piece.id and known.id and piece.id != known.id)
        if named:
            return other or bool(piece.name)
        if known.complete:
            # Some say the name, or the id, in every piece, the last one without arguments too.
            return other or bool(piece.name and (piece.name != known.name or piece.arguments))
        if known.begun:
            return bool(piece.name) and piece.name != known.name
        if other:
            return bool(piece.name)
        # Two calls without arguments, or a name in pieces: the tools' names say which.
        whole = known.name in self._offered and piece.name in self._offered
        return whole and piece.name != known.name and known.name + piece.name not in self._offered


@dataclass(frozen=True, slots=True)
class _Piece:
    id: str
    name: str
    arguments: Any
    index: int | str | None


@dataclass(slots=True, eq=False)
class _Call:
    id: str = ""
    name: str = ""
    _texts: list[str] = field(default_factory=list)
    _value: Any = None
    _depth: int = 0
    _quoted: bool = False
    _escaped: bool = False
    begun: bool = False
    complete: bool = False

    def add(self, piece: _Piece, offered: Mapping[str, Any]) -> None:
        self.id = self.id or piece.id
        if piece.name:
            self.name = _joined(self.name, piece.name, offered)
        if isinstance(piece.arguments, str):
            self._texts.append(piece.arguments)
            self._follow(piece.arguments)
        elif piece.arguments is not None:
            self._value = piece.arguments
            self.begun = self.complete = True

    def arguments(self) -> Any:
        return self._value if self._value is not None else "".join(self._texts)

    def _follow(self, text: str) -> None:
        """Note whether the arguments are whole: their brackets are closed, and their quotation marks."""
        for char in text:
            if self._quoted:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._quoted = False
                    self.complete = self._depth == 0
            elif char == '"':
                self.begun = self._quoted = True
            elif char in "{[":
                self.begun = True
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                self.complete = self._depth <= 0
            elif not char.isspace():
                self.begun = True


def arguments_of(written: Any, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a call's arguments, where it is clear what they mean; None where it is not.

    Parameters
    ----------
    written
        As the model has them: an object, or a text that should hold one. A value alone, or a list of one, is
        what a tool with one argument is called with.
    schema
        The tool's.
    """
    value = written
    for _ in range(MOST_ENCODED):
        if not isinstance(value, str):
            break
        if not value.strip():
            return {}
        parsed = _parsed(value)
        if parsed is _BROKEN:
            break
        value = parsed
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    return _only(value, schema)


def _only(value: Any, schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give a value as a tool's only argument, if it has one, and may be it."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(properties) != 1:
        return None
    ((name, about),) = properties.items()
    kinds = _kinds(about)
    if isinstance(value, list):
        if "array" in kinds:
            return {name: value}
        return _only(value[0], schema) if len(value) == 1 and not isinstance(value[0], list) else None
    if isinstance(value, str):
        # What begins like JSON was to be JSON, and is broken.
        return {name: value} if "string" in kinds and not value.lstrip().startswith(("{", "[", '"')) else None
    if isinstance(value, bool):
        return {name: value} if "boolean" in kinds else None
    return {name: value} if isinstance(value, (int, float)) and kinds & {"number", "integer"} else None


def _kinds(about: Any) -> set[str]:
    """Give the types that a schema's value may have."""
    if not isinstance(about, dict):
        return set()
    kind = about.get("type")
    kinds = set(kind) if isinstance(kind, list) else {kind} if isinstance(kind, str) else set()
    for each in about.get("anyOf") or ():
        if isinstance(each, dict) and isinstance(each.get("type"), str):
            kinds.add(each["type"])
    return kinds


_BROKEN = object()


def _parsed(text: str) -> Any:
    try:
        # Models write line breaks into their texts as they are.
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _BROKEN


def _object(text: str) -> dict[str, Any] | None:
    """Give the object that a text is in JSON as it is defined; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _joined(known: str, piece: str, offered: Mapping[str, Any]) -> str:
    """Put a name together, which comes whole, in pieces, or whole again with every piece."""
    if len(known) >= MOST_NAME:
        return known  # No tool is called so.
    joined = known + piece
    if any(name.startswith(joined) for name in offered):
        return joined
    return piece if piece.startswith(known) else joined


def _fault(name: str, written: str) -> str:
    return (
        f"The arguments of {name} are not a JSON object, so it was not called: "
        f"{beginning(written, MAX_SHOWN)}"
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
