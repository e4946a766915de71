"""The reference's examples, and what is like them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.sample_crews import is_time

TOKEN = "eyJ0eXAi..."
"""How the reference writes any token."""

_ID = re.compile(r"(crew|agent|task|job|tool)_\w*\d\w*")
"""How it writes ids."""


@dataclass(frozen=True)
class Example:
    """A request of the reference with its answer."""

    operation: str
    status: int
    parameter: str | None = None
    request: Any = None
    response: Any = None
    free: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return self.operation.split()[0]

    @property
    def path(self) -> str:
        """The path, with the parameter as the reference writes it."""
        return re.sub(r"\{\w+\}", self.parameter or "", self.operation.split()[1])

    def __str__(self) -> str:
        return self.operation if self.request is None else f"{self.operation} {self.request}"


@dataclass(frozen=True)
class Message:
    """A message of the reference's WebSocket."""

    message: str
    sent: Any = None
    received: Any = None
    free: tuple[str, ...] = ()


def examples() -> list[Example]:
    """Give the examples in the reference's order."""
    return [Example(**entry) for entry in _read("examples.yaml")]


def messages() -> dict[str, Message]:
    """Give the WebSocket's messages by what the reference calls them."""
    return {entry["message"]: Message(**entry) for entry in _read("events.yaml")}


def _read(name: str) -> list[dict[str, Any]]:
    return YAML(typ="safe").load(Path(__file__).with_name(name))


@dataclass
class Names:
    """What the ids and tokens of the examples stand for here.

    Attributes
    ----------
    known
        By how the reference writes them.
    """

    known: dict[str, str] = field(default_factory=dict)

    def fill(self, text: Any) -> Any:
        """Give what to send for what the reference sends: the same, but for its ids and tokens."""
        if isinstance(text, dict):
            return {name: self.fill(value) for name, value in text.items()}
        if isinstance(text, list):
            return [self.fill(value) for value in text]
        return self.known.get(text, text) if isinstance(text, str) else text

    def path(self, path: str) -> str:
        """Give the path to ask for."""
        return "/".join(self.fill(part) for part in path.split("/"))

    def differences(self, example: Any, given: Any, free: tuple[str, ...] = (), at: str = "") -> list[str]:
        """Say where an answer is not like the reference's, and note which ids it shows for the first time."""
        if type(given) is not type(example):
            return [f"{at}: {given!r} instead of {example!r}"]
        if isinstance(example, dict):
            return self._in_object(example, given, free, at)
        if isinstance(example, list):
            return self._in_list(example, given, free, at)
        if at.rpartition(".")[2] in free or (isinstance(example, str) and self._stands_for(example, given)):
            return []
        return [] if given == example else [f"{at}: {given!r} instead of {example!r}"]

    def _in_object(
        self, example: dict[str, Any], given: dict[str, Any], free: tuple[str, ...], at: str
    ) -> list[str]:
        if set(example) == {"..."}:
            return [] if given else [f"{at}: nothing in it"]
        found = [f"{at}.{name} is missing" for name in example if name not in given]
        for name, value in example.items():
            if name in given:
                found += self.differences(value, given[name], free, f"{at}.{name}")
        return found

    def _in_list(self, example: list[Any], given: list[Any], free: tuple[str, ...], at: str) -> list[str]:
        if example == ["..."]:
            return [] if given else [f"{at}: nothing in it"]
        found = []
        for place, item in enumerate(example):
            if not any(self._is_like(item, each, free, f"{at}[{place}]") for each in given):
                found.append(f"{at}: none of {given!r} is like {item!r}")
        return found

    def _is_like(self, example: Any, given: Any, free: tuple[str, ...], at: str) -> bool:
        tried = Names(dict(self.known))
        if tried.differences(example, given, free, at):
            return False
        self.known = tried.known
        return True

    def _stands_for(self, example: str, given: str) -> bool:
        """Say whether a text of the reference stands for the one that was given."""
        if is_time(example):
            return is_time(given)
        if example == TOKEN:
            return given.startswith("eyJ")
        if is_id := _ID.fullmatch(example):
            return given.startswith(f"{is_id[1]}_") and self.known.setdefault(example, given) == given
        return False
