"""Prompts: a message that an earlier call of a run has is named in its journal, not written again.

Of an ``llm_call`` event, ``messages`` are those that no earlier call has. Where it has others as well, ``whole``
says in which order they stand: ``[span_id, first, count]`` is a run of ``count`` messages from the ``first`` on,
of all that the call of that span was asked, or, where the span is its own, of its ``messages``. So what a
conversation takes in a journal grows with what is said in it, and not with how often all of it is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import orjson

RECENT_CHARACTERS = 8_000_000
"""About how much text of whole prompts is kept at hand: most calls say again what one of the last has said."""

RECENT_CALLS = 64

MOST_MESSAGES = 100_000
"""Messages of one prompt, of which a line can name many in few words; the limits of an event are lower."""

Message = dict[str, Any]
Run = tuple[int, int, int]


class Prompts:
    """Gives calls with all that they were asked.

    Parameters
    ----------
    call
        Gives a call's event by its span, as the journal has it; None where it cannot be read.
    """

    def __init__(self, call: Callable[[int], Mapping[str, Any] | None]) -> None:
        self._call = call
        self._recent: OrderedDict[int, tuple[list[Message], int]] = OrderedDict()
        self._kept = 0

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Give an event with whole ``messages``, as it was before any of them was named; others as they are."""
        if event.get("type") != "llm_call" or "whole" not in event:
            return dict(event)
        messages = self._messages(event)
        return {
            name: messages if name == "messages" else value for name, value in event.items() if name != "whole"
        }

    def line(self, line: bytes) -> bytes:
        """Give an event's line of the journal with whole ``messages``; others as they are."""
        return orjson.dumps(self.event(orjson.loads(line))) if may_name(line) else line

    def _messages(self, event: Mapping[str, Any]) -> list[Message]:
        span = event["span_id"]
        if (known := self._recent.get(span)) is not None:
            self._recent.move_to_end(span)
            return known[0]
        messages = self._put_together(event)
        size = sum(_size(message) for message in messages)
        self._recent[span] = (messages, size)
        self._kept += size
        while len(self._recent) > 1 and (
            self._kept > RECENT_CHARACTERS or len(self._recent) > RECENT_CALLS
        ):
            self._kept -= self._recent.popitem(last=False)[1][1]
        return messages

    def _put_together(self, event: Mapping[str, Any]) -> list[Message]:
        """Follow the runs from call to call, to where each message is written."""
        calls: dict[int, Mapping[str, Any] | None] = {event["span_id"]: event}
        messages: list[Message] = []
        # What is to come, the next last: a conversation goes back further than Python's recursion.
        runs: list[tuple[int | list[Message], int, int]] = [(event["span_id"], 0, MOST_MESSAGES)]
        while runs:
            where, first, count = runs.pop()
            if isinstance(where, list):
                messages += where[first : first + count]
            elif (known := self._recent.get(where)) is not None:
                messages += known[0][first : first + count]
            else:
                if where not in calls:
                    calls[where] = self._call(where)
                call = calls[where]
                if call is None:
                    messages.append(_lost(count))
                else:
                    runs += reversed(_within(call, first, count))
        return messages


def may_name(line: bytes) -> bool:
    """Say whether a line of a journal may be a call's that names messages: most are told by a glance."""
    return b'"whole":[[' in line and b'"llm_call"' in line


def _within(call: Mapping[str, Any], first: int, count: int) -> list[tuple[int | list[Message], int, int]]:
    """Give the runs that a part of a call's prompt consists of."""
    own, named = call["messages"], call.get("whole")
    if named is None:
        return [(own, first, count)]
    found: list[tuple[int | list[Message], int, int]] = []
    at = 0
    for span, begin, length in named:
        low, high = max(first, at), min(first + count, at + length)
        if low < high:
            # Whatever stands there, no call has said what a later one has: it comes to an end.
            where = own if span == call["span_id"] else span if span < call["span_id"] else []
            found.append((where, begin + low - at, high - low))
        at += length
    return found


def _lost(count: int) -> Message:
    """Give what stands in the place of messages whose line a crash or a disk has damaged."""
    return {"role": "damaged", "content": f"[… {count:,} messages cannot be read any more]"}


def _size(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else message
    return len(content) + 100 if isinstance(content, str) else 1_000
