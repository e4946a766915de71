"""How much of what models and tools say an event holds: it is recorded, sent, stored and drawn.

What an agent's model or tool is given is not touched by this. What is left out of a record is said in its
place, and counted in the event's field ``cut``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from kasal_jupyter.hiding import here

MOST_TEXT = 1_000_000
"""Characters of one text of an event."""

MOST_EVENT = 4_000_000
"""Characters of all texts of an event together."""

MOST_ITEMS = 10_000
"""Items of one list or object of an event; of all together, ten times as many."""

MOST_DEPTH = 64
"""Lists and objects within each other."""

MOST_RESULT = 256_000
"""Characters of a run's result in its last event and in its document; the whole is in a file then."""

LEAST = 2_000
"""Characters of a text once the run has recorded all it may."""


def left_out(characters: int) -> str:
    """Say that a text goes on."""
    return f"[… {characters:,} characters left out]"


def shortened(text: str, most: int) -> str:
    """Cut a text that is longer, and say so; no part of a secret is left."""
    if len(text) > most:
        text = here().hide(text)
    return text if len(text) <= most else f"{text[:most]}\n{left_out(len(text) - most)}"


def fitted(
    event: Mapping[str, Any], *, most: int = MOST_TEXT, clean: Callable[[str], str] = str
) -> dict[str, Any]:
    """Give an event that is no larger than it may be, with ``cut`` where it was.

    Parameters
    ----------
    event
        The event.
    most
        Characters of one text.
    clean
        Takes from the end of a text that was cut what may be the beginning of a secret.
    """
    if _is_small(event):
        return dict(event)
    cutting = _Cutting(most, clean)
    whole = {name: cutting.fit(value, 0) for name, value in event.items()}
    # What was left out before, of pieces that were gathered, counts with it.
    if cut := cutting.cut + int(event.get("cut", 0)):
        whole["cut"] = cut
    return whole


def _is_small(event: Mapping[str, Any]) -> bool:
    """Say whether an event has a few short texts, as most have."""
    return all(
        (isinstance(value, int) and value.bit_length() < 64)
        or (isinstance(value, str) and len(value) <= LEAST)
        or value is None
        for value in event.values()
    )


class _Cutting:
    def __init__(self, most: int, clean: Callable[[str], str]) -> None:
        self.cut = 0
        self._most = most
        self._clean = clean
        self._left = max(most, MOST_EVENT if most == MOST_TEXT else most)
        self._items = 10 * MOST_ITEMS

    def fit(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            # No number that anybody means has so many digits; and to write it down takes long.
            return value if value.bit_length() <= 4_096 else left_out(value.bit_length() // 4)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            if depth >= MOST_DEPTH:
                self.cut += 1
                return "[…]"
            return self._collection(value, depth)
        return value

    def _text(self, text: str) -> str:
        most = min(self._most, max(self._left, 0))
        self._left -= min(len(text), most)
        if len(text) <= most:
            return text
        kept = self._clean(text[:most])
        self.cut += len(text) - len(kept)
        return f"{kept}\n{left_out(len(text) - len(kept))}".lstrip("\n")

    def _collection(self, value: Any, depth: int) -> Any:
        kept = max(0, min(len(value), MOST_ITEMS, self._items))
        self._items -= kept
        more = len(value) - kept
        self.cut += more
        if isinstance(value, Mapping):
            pairs = cast("Iterable[tuple[Any, Any]]", value.items())
            fit = {
                self._text(name) if isinstance(name, str) else name: self.fit(part, depth + 1)
                for (name, part), _ in zip(pairs, range(kept), strict=False)
            }
            return fit | {"…": f"[… {more:,} more left out]"} if more else fit
        parts = [
            self.fit(part, depth + 1)
            for part, _ in zip(cast("Iterable[Any]", value), range(kept), strict=False)
        ]
        return [*parts, f"[… {more:,} more left out]"] if more else parts
