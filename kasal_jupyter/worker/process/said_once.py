"""What a run's prompts say again and again, written once: what is on its way already is named.

How, :mod:`kasal_jupyter.events.prompts` tells.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from kasal_jupyter.events.prompts import runs_of

MOST_KNOWN = 40_000
"""Messages that are known, in some 10 MB; beyond, all are forgotten, and written once more.

One call has less.
"""

LONG = 2_000
"""Bytes of a message in which a quotation is looked for, and characters that one has at the least."""

LATEST = 8
"""Long messages in which it is looked for."""

ANCHOR = 64
"""Characters by which a text that stands in another is found there."""

PIECE = 8_192
"""Characters of two texts that are compared at once."""


class SaidOnce:
    """Names in a run's events what earlier ones have.

    Of each message its digest is kept, with where it was seen last: there its neighbours are the same mostly,
    so that the whole of a conversation is named in a word or two. Of equal messages in one call, each is
    known by itself. In a long new one, what it has of the latest long ones is named as well: a task's prompt
    has the results of those before.

    Parameters
    ----------
    written
        Writes a message as JSON.
    hidden
        Takes the secrets out of it.
    """

    def __init__(self, written: Callable[[Any], bytes], hidden: Callable[[bytes], bytes]) -> None:
        self._written = written
        self._hidden = hidden
        self._seen: dict[tuple[bytes, int], tuple[int, int]] = {}
        self._texts: deque[tuple[str, int, int]] = deque(maxlen=LATEST)

    def named(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give an event with what is new in its prompt, and with where the rest of it is."""
        if event["type"] == "llm_call":
            return self._call(event)
        if event["type"] == "agent_start" and len(event["prompt"]) > LONG:
            return self._start(event)
        return event

    def _call(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        span, seen = event["span_id"], dict[bytes, int]()
        own: list[orjson.Fragment] = []
        places: list[tuple[int, int]] = []
        marks = []
        for message in event["messages"]:
            line = self._written(message)
            digest = hashlib.blake2b(line, digest_size=16).digest()
            mark = (digest, seen.get(digest, 0))
            seen[digest] = mark[1] + 1
            marks.append(mark)
            place = self._seen.get(mark) or self._seen.get((digest, 0))
            if place is None:
                place = (span, len(own))
                own.append(orjson.Fragment(self._new(self._hidden(line), *place)))
            places.append(place)
        if own:
            # A call that says nothing new is no step on the way to where things are written.
            if len(self._seen) > MOST_KNOWN:
                self._seen.clear()
            self._seen.update((mark, (span, at)) for at, mark in enumerate(marks))
        named = {name: own if name == "messages" else value for name, value in event.items()}
        return named if len(own) == len(marks) else {**named, "whole": runs_of(places)}

    def _start(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        hidden = self._hidden(self._written(event["prompt"]))
        text, quotes = self._quoting(orjson.loads(hidden))
        return {**event, "prompt": text, **({"quotes": quotes} if quotes else {})}

    def _new(self, line: bytes, span: int, index: int) -> bytes:
        """Give a new message's line; where it is long, with what is new in its text alone."""
        if len(line) <= LONG:
            return line
        message = orjson.loads(line)
        if not isinstance(message, dict) or not isinstance(whole := message.get("content"), str):
            return line
        text, quotes = self._quoting(whole)
        self._texts.appendleft((whole, span, index))
        return line if not quotes else orjson.dumps({**message, "content": text, "quotes": quotes})

    def _quoting(self, text: str) -> tuple[str, list[int]]:
        """Give what a text has that the latest do not, and the longest of what it has of one of them."""
        best: list[int] = []
        for earlier, span, index in self._texts:
            searched = 0
            for part in (1, 2, 3):
                middle = part * len(earlier) // 4
                if middle < searched:
                    continue
                at, first, count = _common(text, earlier, middle)
                searched = first + count
                if count > max(LONG, best[-1] if best else 0):
                    best = [at, span, index, first, count]
            if best and 2 * best[-1] > len(text):
                break
        return (text[: best[0]] + text[best[0] + best[-1] :], best) if best else (text, best)


def _common(text: str, earlier: str, middle: int) -> tuple[int, int, int]:
    """Give what stands in two texts around a place of the earlier one: where in each, and how long it is."""
    # Where a line begins, it is told apart best, and what comes again and again is found where it was.
    middle = earlier.find("\n", middle, middle + LONG) + 1 or middle
    anchor = earlier[middle : middle + ANCHOR]
    at = text.find(anchor, max(0, middle - LONG))
    if at < 0 and (at := text.find(anchor)) < 0:
        return 0, 0, 0
    before = _most(
        min(at, middle), lambda low, high: text[at - high : at - low] == earlier[middle - high : middle - low]
    )
    behind = _most(
        min(len(text) - at, len(earlier) - middle),
        lambda low, high: text[at + low : at + high] == earlier[middle + low : middle + high],
    )
    return at - before, middle - before, before + behind


def _most(most: int, same: Callable[[int, int], bool]) -> int:
    """Give how far, up to the most, two texts are the same; ``same`` says it of a piece of both."""
    low, step = 0, PIECE
    while low < most and step:
        high = min(low + step, most)
        if same(low, high):
            low = high
        else:
            step = min(step, high - low) // 2
    return low
