"""Prompts: what an earlier call of a run was asked as well is named in its journal, and not written again.

Of an ``llm_call`` event, ``messages`` are those that no earlier call has. Where it has others as well,
``whole`` says in which order they stand: ``[span_id, first, count]`` is a run of ``count`` messages from the
``first`` on, of all that the call of that span was asked, or, where the span is its own, of its ``messages``.

A new message may have a long text in it that an earlier one has, such as the results of the tasks before. Its
``quotes``, ``[at, span_id, index, first, count]``, say that before the character ``at`` of its ``content``
stand ``count`` characters, from the ``first`` on, of the message ``index`` among the ``messages`` of that
span's call. The ``prompt`` of an ``agent_start`` event has the same.

So what a run takes in its journal grows with what is said in it, and not with how often that is said again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

RECENT_CHARACTERS = 8_000_000
"""About how much text of whole prompts is kept at hand: most calls say again what a late one has said."""

RECENT_CALLS = 64

MOST_MESSAGES = 100_000
"""Messages of one prompt, of which a line can name many in few words; the limits of an event are lower."""

Message = dict[str, Any]

Run = tuple[int | list[Message], int, int]
"""Messages, or characters, of a call: where they are written, or its span; the first; and how many."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """What a call was asked: all of it, and what of it is written there; both without quotes."""

    messages: list[Message]
    own: list[Message]
    size: int


class Prompts:
    """Gives events with whole prompts.

    Parameters
    ----------
    call
        Gives a call's event by its span, as the journal has it; None where it cannot be read.
    most
        About how many characters of prompts are kept at hand.
    calls
        Of how many calls.
    """

    def __init__(
        self,
        call: Callable[[int], Mapping[str, Any] | None],
        most: float = RECENT_CHARACTERS,
        calls: float = RECENT_CALLS,
    ) -> None:
        self._call = call
        self._most = most
        self._calls = calls
        self._recent: OrderedDict[int, _Prompt] = OrderedDict()
        self._kept = 0

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Give an event as it was before anything in it was named; most are as they are."""
        if event["type"] == "llm_call" and "messages" in event:
            messages = self._messages(event)
            named = {**event, "messages": messages}
            named.pop("whole", None)
            return named
        if event["type"] == "agent_start" and "quotes" in event:
            return self._without_quotes(event, "prompt")
        return dict(event)

    def line(self, line: bytes) -> bytes:
        """Give an event's line of the journal in the same way."""
        return orjson.dumps(self.event(orjson.loads(line))) if may_name(line) else line

    def _messages(self, event: Mapping[str, Any]) -> list[Message]:
        span = event["span_id"]
        if (known := self._recent.get(span)) is not None:
            self._recent.move_to_end(span)
            return known.messages
        own = self._whole(event["messages"])
        messages = own if "whole" not in event else self._put_together({**event, "messages": own})
        self._keep(span, _Prompt(messages, own, sum(map(_size, messages))))
        return messages

    def _keep(self, span: int, prompt: _Prompt) -> None:
        self._recent[span] = prompt
        self._kept += prompt.size
        while len(self._recent) > 1 and (self._kept > self._most or len(self._recent) > self._calls):
            self._kept -= self._recent.popitem(last=False)[1].size

    def _put_together(self, event: Mapping[str, Any]) -> list[Message]:
        """Follow the runs from call to call, to where each message is written."""
        calls: dict[int, Mapping[str, Any] | None] = {event["span_id"]: event}
        messages: list[Message] = []
        # What is to come, the next last: a conversation goes back further than Python's recursion.
        runs: list[Run] = [(event["span_id"], 0, MOST_MESSAGES)]
        while runs:
            where, first, count = runs.pop()
            if isinstance(where, list):
                messages += self._whole(where[first : first + count])
            elif (known := self._recent.get(where)) is not None:
                messages += known.messages[first : first + count]
            else:
                if where not in calls:
                    calls[where] = self._call(where)
                call = calls[where]
                if call is None:
                    messages.append({"role": "damaged", "content": _lost(count, "messages")})
                else:
                    runs += reversed(_within(call, first, count))
        return messages

    def _whole(self, messages: Iterable[Any]) -> list[Message]:
        return [
            self._without_quotes(message, "content")
            if isinstance(message, dict) and "quotes" in message
            else message
            for message in messages
        ]

    def _without_quotes(self, said: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Give a message, or an event, with all of a text in which others are quoted."""
        at, *where = said["quotes"]
        text = said[name]
        whole = {**said, name: f"{text[:at]}{self._quoted(*where)}{text[at:]}"}
        del whole["quotes"]
        return whole

    def _quoted(self, span: int, index: int, first: int, count: int) -> str:
        """Follow the quotes from message to message, to where each part of a text is written."""
        found: list[str] = []
        parts: list[str | tuple[int, int, int, int]] = [(span, index, first, count)]
        while parts:
            part = parts.pop()
            if isinstance(part, str):
                found.append(part)
                continue
            span, index, first, count = part
            if (known := self._recent.get(span)) is not None:
                found.append(known.own[index]["content"][first : first + count])
            elif (call := self._call(span)) is None:
                found.append(_lost(count, "characters"))
            else:
                parts += reversed(_parts_of(call["messages"][index], span, first, first + count))
        return "".join(found)


def runs_of(places: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Give the messages of a prompt, by their spans and places there, as an event's ``whole`` names them."""
    runs: list[list[int]] = []
    follows: tuple[int, int] | None = None
    for span, at in places:
        if (span, at) == follows:
            runs[-1][2] += 1
        else:
            runs.append([span, at, 1])
        follows = (span, at + 1)
    return runs


def may_name(line: bytes) -> bool:
    """Say whether a line of a journal may name what others have: most are told by a glance."""
    return (b'"whole":[[' in line or b'"quotes":[' in line) and (
        b'"llm_call"' in line or b'"agent_start"' in line
    )


def _within(call: Mapping[str, Any], first: int, count: int) -> list[Run]:
    """Give the runs that a part of a call's prompt consists of."""
    own, named = call["messages"], call.get("whole")
    if named is None:
        return [(own, first, count)]
    found: list[Run] = []
    at = 0
    for span, begin, length in named:
        low, high = max(first, at), min(first + count, at + length)
        if low < high:
            # Whatever stands there, no call has said what a later one has: it comes to an end.
            where = own if span == call["span_id"] else span if span < call["span_id"] else []
            found.append((where, begin + low - at, high - low))
        at += length
    return found


def _parts_of(
    message: Mapping[str, Any], span: int, first: int, last: int
) -> list[str | tuple[int, int, int, int]]:
    """Give what a part of a message's text consists of: what is written there, and what is quoted."""
    text: str = message["content"]
    quotes: Sequence[int] | None = message.get("quotes")
    if quotes is None:
        return [text[first:last]]
    at, of, index, begin, count = quotes
    found: list[str | tuple[int, int, int, int]] = [text[first : min(at, last)]]
    low, high = max(first, at), min(last, at + count)
    if low < high and of < span:
        found.append((of, index, begin + low - at, high - low))
    found.append(text[max(at, first - count) : max(at, last - count)])
    return found


def _lost(count: int, what: str) -> str:
    """Say that what is named stood in a line which a crash or a disk has damaged."""
    return f"[… {count:,} {what} cannot be read any more]"


def _size(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else message
    return len(content) + 100 if isinstance(content, str) else 1_000
