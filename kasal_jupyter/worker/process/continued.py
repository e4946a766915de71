"""A run whose process is not its first: what its journal has already is not told again.

A run that was put away while it waited for people is brought back by going through it once more, with the
answers that its own journal has. It tells again what it has told before; that is recognised here and kept
back, and what is new goes on in the spans that were open. So its journal has each thing once, and a gap
nowhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.events.event import OPENING
from kasal_jupyter.schemas.spec import RunOwnRecord

_OPENING = OPENING | {"task_skipped"}


class Continued:
    """Passes on what a run's journal does not have yet.

    Parameters
    ----------
    own
        The run's journal.
    """

    def __init__(self, own: RunOwnRecord) -> None:
        # Of each kind within a span, in the order in which they began.
        self._begun: defaultdict[tuple[Any, ...], deque[int]] = defaultdict(deque)
        self._told: Counter[tuple[Any, ...]] = Counter()
        self._ids: dict[int, int] = {}
        self._last = 0
        with Path(own.journal).open("rb") as lines:
            # Line n is event n; the last one may still be written.
            for line in islice(lines, own.until):
                self._take(orjson.loads(line))

    def __call__(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Give an event as the journal takes it; None where that has it."""
        if "span_id" not in event:
            # That it runs is told by each of its processes.
            known = event.get("status") != "running" and self._known(_loose(event))
            return None if known else event
        parent = self._ids.get(event["parent_id"], event["parent_id"])
        if event["type"] in _OPENING:
            begun = self._begun[_opened(event, parent)]
            if begun:
                self._ids[event["span_id"]] = begun.popleft()
                return None
            self._last += 1
            self._ids[event["span_id"]] = self._last
        span_id = self._ids.get(event["span_id"], event["span_id"])
        if self._known((event["type"], span_id)):
            return None
        return {**event, "span_id": span_id, "parent_id": parent}

    def _take(self, event: Mapping[str, Any]) -> None:
        if "span_id" not in event:
            self._told[_loose(event)] += 1
            return
        self._last = max(self._last, event["span_id"])
        if event["type"] in _OPENING:
            self._begun[_opened(event, event["parent_id"])].append(event["span_id"])
        else:
            self._told[event["type"], event["span_id"]] += 1

    def _known(self, what: tuple[Any, ...]) -> bool:
        if not self._told[what]:
            return False
        self._told[what] -= 1
        return True


def _loose(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return (event["type"], event.get("status"))


def _opened(event: Mapping[str, Any], parent: int | None) -> tuple[Any, ...]:
    """Give what a span is known by: within which it is, of what kind, whose, and which call."""
    call = event.get("key")
    if call is None and event["type"] == "tool_call":
        # CrewAI's own, such as the one by which an agent has another work.
        call = event.get("tool")
    return (event["type"], parent, event["task_id"], event["agent"], call)
