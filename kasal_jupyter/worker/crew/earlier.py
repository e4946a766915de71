"""An earlier run's journal, as what it was asked and answered: each call is found by its identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import orjson

from kasal_jupyter.events.packed import open_plain
from kasal_jupyter.events.prompts import Prompts
from kasal_jupyter.schemas.spec import RunSource
from kasal_jupyter.worker.process.outbox import encode

CallKind = Literal["model", "tool", "memory", "person"]

_KINDS: Mapping[str, CallKind] = {
    "llm_call": "model",
    "tool_call": "tool",
    "memory_recalled": "memory",
    "input_request": "person",
}
_ENDS = frozenset(
    {"llm_response", "llm_failed", "tool_result", "tool_failed", "memory_recalled", "input_answer"}
)
_READ = (b'"key"', b'"llm_retry"', b'"memory_stored"', b'"llm_call"', b'"tool_approved"', b'"input_request"')
"""What stands in the lines that are looked at; most others are pieces of answers."""

_OF_THE_RUN = frozenset(
    {"seq", "job_id", "time", "type", "span_id", "parent_id", "task_id", "task", "agent", "key", "recorded"}
)
"""What of an event says where and when it was, and not what."""


@dataclass(frozen=True, slots=True)
class Given:
    """A call with its answer.

    Attributes
    ----------
    call, answer
        What the events that begin and end it say, without where and when that was; ``answer`` is empty where
        it has none.
    answered
        The type of the event that ends it; None where there is none.
    wait
        Seconds that were waited before the call was made again; None where it was not.
    went_on
        Whether its agent has asked a model after it.
    held
        Whether it was not made: a person was asked about it first, and has not allowed it.
    own
        Whether it was made by this very run, in a process before.
    asked_human
        Whether a human was asked within it.
    stands
        Where it stands, seen from the place that a fork begins at.
    """

    call: Mapping[str, Any]
    answer: Mapping[str, Any]
    answered: str | None
    wait: float | None = None
    went_on: bool = False
    held: bool = False
    own: bool = False
    asked_human: bool = False
    stands: Literal["before", "at", "behind"] = "before"

    @property
    def settled(self) -> bool:
        """Whether it has an answer that its agent has gone on with, or can."""
        return self.answered is not None and (self.answered != "llm_failed" or self.went_on)

    @property
    def cut(self) -> int:
        """How many characters of the answer are not recorded."""
        return int(self.answer.get("cut", 0))


@dataclass(slots=True)
class _Place:
    """Where in the journal a call begins and ends: first byte, and length."""

    kind: CallKind
    task: str | None
    agent: str | None
    begins: tuple[int, int]
    ends: tuple[int, int] | None = None
    wait: float | None = None
    went_on: bool = False
    held: bool = False
    asked_human: bool = False
    stands: Literal["before", "at", "behind"] = "before"


class EarlierRun:
    """What a run has recorded.

    Its journal is read once, and of each call is kept where it stands: a run may have recorded more than
    another has memory for.

    Parameters
    ----------
    source
        The run. Where it had a source of its own, that is read as well: cut off early, a run has not told
        again all that it could have been given.
    folder
        The working folder of the run that reads: what was said of that run's, is said of this one.
    own
        Whether that is the same run.
    """

    def __init__(self, source: RunSource, folder: bytes, *, own: bool = False) -> None:
        self._own = own
        self._before = EarlierRun(source.before, folder) if source.before is not None else None
        self._file = open_plain(Path(source.journal))  # The run's own end closes it.
        self._fork = source.place
        self._folders = encode(str(Path(source.journal).with_suffix("")))[1:-1], folder
        self._places: dict[str, _Place] = {}
        self._calls: dict[int, tuple[int, int]] = {}
        self._prompts = Prompts(self._call)
        self.models: set[str] = set()
        """The models that were asked."""
        self.stored: set[str] = set()
        """What the crew was to remember of it."""
        self._index()
        if self._before is not None:
            self.models |= self._before.models
            self.stored |= self._before.stored

    def find(self, key: str) -> Given | None:
        """Give a call by its key."""
        place = self._places.get(key)
        given = self._given(place) if place is not None else None
        if self._before is None or (given is not None and given.settled):
            return given
        # What had begun once more when the run was cut off may have been answered before.
        before = self._before.find(key)
        counts = before is not None and before.settled and before.stands == "before"
        return before if given is None or counts else given

    def alike(self, kind: CallKind, task: str | None, agent: str | None) -> Iterator[Mapping[str, Any]]:
        """Give the calls of an agent in a task, as their first events have them; messages are canonical."""
        for place in self._places.values():
            if (place.kind, place.task, place.agent) == (kind, task, agent):
                call = _said(self._begun(place))
                yield call | {"messages": canonical(call.get("messages", ()))}
        if self._before is not None:
            yield from self._before.alike(kind, task, agent)

    def _given(self, place: _Place) -> Given:
        ended = self._here(self._read(place.ends)) if place.ends is not None else {}
        return Given(
            call=_said(self._begun(place)),
            answer=_said(ended),
            answered=ended.get("type"),
            wait=place.wait,
            went_on=place.went_on,
            held=place.held,
            own=self._own,
            asked_human=place.asked_human,
            stands=place.stands,
        )

    def _begun(self, place: _Place) -> dict[str, Any]:
        return self._here(orjson.dumps(self._prompts.event(orjson.loads(self._read(place.begins)))))

    def _here(self, line: bytes) -> dict[str, Any]:
        """Read an event as this run says it: of a text that is whole, since its folder may be longer."""
        event: dict[str, Any] = orjson.loads(line.replace(*self._folders))
        return event

    def _call(self, span_id: int) -> dict[str, Any] | None:
        where = self._calls.get(span_id)
        return orjson.loads(self._read(where)) if where is not None else None

    def _read(self, where: tuple[int, int]) -> bytes:
        begin, length = where
        self._file.seek(begin)
        return self._file.read(length)

    @staticmethod
    def _ask(call: _Place | None, question: Mapping[str, Any]) -> None:
        """Note that a person is asked within a call: one that waits for leave is made when that is there."""
        if call is not None:
            call.asked_human = True
            call.held = call.held or question.get("kind") == "approval"

    def _index(self) -> None:
        failed: dict[int | None, list[_Place]] = {}
        of_span: dict[int, _Place] = {}
        at = 0
        for line in self._file:
            where = (at, len(line))
            at += len(line)
            event = _event(line)
            if event is None:
                continue
            kind, key = str(event.get("type")), event.get("key")
            if kind == "llm_call":
                for place in failed.pop(event.get("parent_id"), ()):
                    place.went_on = True
                self._calls[event["span_id"]] = where
                self.models.add(str(event.get("model")))
            if kind in _KINDS and isinstance(key, str):
                place = _Place(_KINDS[kind], event.get("task"), event.get("agent"), where)
                if self._fork is not None and self._fork.is_behind(event):
                    place.stands = "at" if event["seq"] == self._fork.at else "behind"
                self._places[key] = place
                if kind == "input_request":
                    self._ask(of_span.get(event["span_id"]), event)
                else:
                    of_span[event["span_id"]] = place
            if kind in _ENDS and isinstance(key, str) and (known := self._places.get(key)):
                known.ends = where
                if kind == "llm_failed":
                    failed.setdefault(event.get("parent_id"), []).append(known)
            elif kind == "llm_retry" and (known := of_span.get(event["span_id"])):
                known.wait = event["wait"]
            elif kind == "tool_approved" and (known := of_span.get(event["span_id"])):
                known.held = False
            elif kind == "memory_stored":
                self.stored |= {memory["content"] for memory in event["memories"]}


def canonical(messages: str | Iterable[Any]) -> list[dict[str, Any]]:
    """Give messages without what differs from run to run: the ids of tool calls are numbered as they come.

    Parameters
    ----------
    messages
        As CrewAI has them; its own marks are left out.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    ids: dict[Any, int] = {}
    return [_canonical(message, ids) for message in cast("Iterable[dict[str, Any]]", messages)]


def _canonical(message: Mapping[str, Any], ids: dict[Any, int]) -> dict[str, Any]:
    kept: dict[str, Any] = {"role": message.get("role"), "content": message.get("content") or ""}
    if name := message.get("name"):
        kept["name"] = name
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [
            {
                "id": ids.setdefault(call.get("id"), len(ids) + 1),
                "name": (call.get("function") or {}).get("name"),
                "arguments": (call.get("function") or {}).get("arguments"),
            }
            for call in calls
        ]
    if (call_id := message.get("tool_call_id")) is not None:
        kept["tool_call_id"] = ids.setdefault(call_id, len(ids) + 1)
    return kept


def _event(line: bytes) -> dict[str, Any] | None:
    """Read a line, if it is one that matters; what a crash has damaged does not."""
    if not any(mark in line for mark in _READ):
        return None
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) else None


def _said(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in _OF_THE_RUN}
