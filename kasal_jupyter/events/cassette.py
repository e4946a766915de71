"""A run's record as lines of a cassette: folded from its events, and unfolded again to what a journal has.

The lines are what a person would want to read of it, and the same whenever the run is recorded anew and
is answered the same: in the order of its tasks, without times and ids, each message once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import orjson
from pydantic import BaseModel, ValidationError

from kasal_jupyter.events.event import Event
from kasal_jupyter.events.prompts import runs_of
from kasal_jupyter.schemas.cassettes import (
    FOLDER,
    RecordedCall,
    RecordedMessage,
    RecordedRun,
    Settling,
)
from kasal_jupyter.schemas.executions import ENDED

Line = RecordedMessage | RecordedCall

_CALLS = {"llm_call": "model", "tool_call": "tool", "memory_recalled": "memory"}
_ENDS = frozenset({"llm_response", "llm_failed", "tool_result", "tool_failed"})

_OF_THE_EVENT = frozenset(
    {"seq", "job_id", "time", "type", "span_id", "parent_id", "task_id", "task", "agent", "key", "recorded"}
)
_ELSEWHERE = frozenset({"model", "tool", "messages", "duration_ms"})
"""What of an answer its question says as well, or differs each time."""

_NO_TIME = "1970-01-01T00:00:00.000000Z"


@dataclass(slots=True)
class _Call:
    """A call of the run."""

    kind: str
    begins: Mapping[str, Any]
    place: tuple[Any, ...]
    """Where it stands among the others: by what it is, and not by the moment at which it came."""
    ends: Mapping[str, Any] | None = None
    wait: float | None = None


@dataclass(slots=True)
class CassetteFold:
    """Makes lines of a run's events.

    Parameters
    ----------
    settling
        Gives texts as they are compared.
    """

    settling: Settling
    _calls: dict[str, _Call] = field(default_factory=dict)
    _of_span: dict[int, _Call] = field(default_factory=dict)
    _tasks: dict[str | None, int] = field(default_factory=dict)
    _rounds: Counter[str | None] = field(default_factory=Counter)
    _ended: bool = False

    def feed(self, event: Event) -> None:
        """Take the next event in; what comes behind the run's end is not asked in a replay."""
        said = cast("Mapping[str, Any]", event)
        kind, key = said["type"], said.get("key")
        if kind == "execution_status":
            self._tasks |= {task["id"]: place for place, task in enumerate(said.get("tasks", ()))}
            self._ended = self._ended or said["status"] in ENDED
        if self._ended:
            return
        if kind in _CALLS and isinstance(key, str):
            call = self._calls[key] = self._of_span[said["span_id"]] = self._begun(said)
            if kind == "memory_recalled":
                call.ends = said
        elif kind in _ENDS and key in self._calls:
            self._calls[cast("str", key)].ends = said
        elif kind == "llm_retry" and (failed := self._of_span.get(said["span_id"])) is not None:
            failed.wait = said["wait"]

    def _begun(self, event: Mapping[str, Any]) -> _Call:
        task, kind = event["task_id"], _CALLS[event["type"]]
        self._rounds[task] += kind == "model"
        # What a model asks for at once is begun by threads, in any order.
        at_once = (event["tool"], _written(event["arguments"]).decode()) if kind == "tool" else ()
        return _Call(kind, event, (self._tasks.get(task, -1), self._rounds[task], kind == "tool", at_once))

    def lines(self) -> Iterator[bytes]:
        """Give the lines, without their ends: those of messages, each before the first call that names it."""
        seen: set[str] = set()
        numbers = count(1)
        for call in sorted(self._calls.values(), key=lambda each: each.place):
            if call.ends is None:
                # It was cut off: there is nothing to give.
                continue
            named = [self._message(each) for each in _plain(call.begins.get("messages", ()))]
            for digest, message in named:
                if digest not in seen:
                    seen.add(digest)
                    yield _written({"message": digest, **message})
            yield _written(self._line(call, [digest for digest, _ in named], numbers))

    def _message(self, message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        settled = self.settling.settled(dict(message))
        return hashlib.sha256(_written(settled)).hexdigest()[:12], settled

    def _line(self, call: _Call, messages: list[str], numbers: Iterator[int]) -> dict[str, Any]:
        began, ended = call.begins, cast("Mapping[str, Any]", call.ends)
        asked = {"query"} if call.kind == "memory" else began.keys() - _OF_THE_EVENT - {"messages"}
        answer = {
            name: value
            for name, value in ended.items()
            if name not in _OF_THE_EVENT | _ELSEWHERE and name not in (asked if call.kind == "memory" else ())
        }
        if answer.get("tool_calls"):
            answer["tool_calls"] = [{**each, "id": f"call_{next(numbers)}"} for each in answer["tool_calls"]]
        line: dict[str, Any] = {
            "call": call.kind,
            "key": began["key"],
            "task": self.settling.settled(began["task"]),
            "agent": self.settling.settled(began["agent"]),
            "ask": self.settling.settled({name: began[name] for name in asked if name in began}),
            "answer": self.settling.shown(answer),
        }
        if call.kind == "model":
            line["messages"] = messages
        return line | ({"wait": call.wait} if call.wait is not None else {})


def run_line(run: RecordedRun) -> bytes:
    """Write the line that a recorded run begins with."""
    return _written(run.model_dump(mode="json", exclude_defaults=True))


def read_lines(text: str) -> tuple[RecordedRun, list[Line]]:
    """Read the lines of one recorded run.

    Raises
    ------
    ValueError
        They are none; it says which line, and why.
    """
    run: RecordedRun | None = None
    lines: list[Line] = []
    known: set[str] = set()
    for number, written in enumerate(text.splitlines(), 1):
        if not written.strip():
            continue
        try:
            found = orjson.loads(written)
            if run is None:
                run = RecordedRun.model_validate(found)
                continue
            line: Line = _kind_of(found).model_validate(found)
        except orjson.JSONDecodeError:
            raise ValueError(f"line {number} is no JSON") from None
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ValueError(f"line {number}: {where}: {fault['msg']}") from None
        if isinstance(line, RecordedMessage):
            known.add(line.message)
        elif missing := set(line.messages or ()) - known:
            raise ValueError(
                f"line {number} names the message {min(missing)}, which stands on none before it"
            )
        lines.append(line)
    if run is None:
        raise ValueError("it has no line")
    return run, lines


def _kind_of(found: Any) -> type[RecordedMessage | RecordedCall]:
    return RecordedMessage if isinstance(found, dict) and "message" in found else RecordedCall


def journal_lines(lines: Iterable[Line], folder: str, most: int) -> Iterator[bytes]:
    """Give the lines of a journal in which a run finds what a cassette has recorded.

    Parameters
    ----------
    lines
        As :func:`read_lines` gives them.
    folder
        The folder of the run that reads.
    most
        How many bytes they may come to.

    Raises
    ------
    ValueError
        They come to more.
    """
    messages: dict[str, dict[str, Any]] = {}
    agents: dict[tuple[str | None, str | None], int] = {}
    said = _Said()
    size = 0
    for number, line in enumerate(lines, 1):
        if isinstance(line, RecordedMessage):
            messages[line.message] = line.model_dump(exclude={"message"})
            continue
        about = {
            "time": _NO_TIME,
            "span_id": number,
            # Whose calls they are: a failure after which its agent has asked again has not ended the run.
            "parent_id": -1 - agents.setdefault((line.task, line.agent), len(agents)),
            "task_id": None,
            "task": line.task,
            "agent": line.agent,
            "key": line.key,
        }
        for event in _events(line, said.once(number, line.messages or (), messages), folder):
            written = orjson.dumps({**event, **about}) + b"\n"
            size += len(written)
            if size > most:
                raise ValueError(f"it comes to more than {most:,} bytes")
            yield written


@dataclass(slots=True)
class _Said:
    """Which messages earlier calls have: each is written once, see :mod:`kasal_jupyter.events.prompts`."""

    _places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def once(
        self, span: int, digests: Sequence[str], messages: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Give what an ``llm_call`` has of its messages."""
        own: list[Mapping[str, Any]] = []
        places: list[tuple[int, int]] = []
        for digest in digests:
            place = self._places.get(digest)
            if place is None:
                place = (span, len(own))
                own.append(messages[digest])
            places.append(place)
        for at, digest in enumerate(digests):
            self._places.setdefault(digest, (span, at))
        return {"messages": own} | ({"whole": runs_of(places)} if len(own) < len(digests) else {})


def _events(line: RecordedCall, asked: Mapping[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    answer = _in_folder(line.answer, folder)
    if line.call == "memory":
        yield {"type": "memory_recalled", "duration_ms": 0.0, **line.ask, **answer}
    elif line.call == "tool":
        yield {"type": "tool_call", **line.ask}
        kind = "tool_failed" if "error" in answer else "tool_result"
        yield {"type": kind, "tool": line.ask.get("tool"), **answer}
    else:
        yield {"type": "llm_call", **line.ask, **asked}
        kind = "llm_failed" if "error" in answer else "llm_response"
        yield {"type": kind, "model": line.ask.get("model"), **answer}
        if line.wait is not None:
            yield {"type": "llm_retry", "wait": line.wait}


def _in_folder(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(FOLDER, folder)
    if isinstance(value, dict):
        return {name: _in_folder(part, folder) for name, part in value.items()}
    if isinstance(value, list):
        return [_in_folder(part, folder) for part in value]
    return value


def _plain(messages: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give messages with the ids of tool calls numbered as they come: those differ each time."""
    ids: dict[Any, str] = {}
    for message in messages:
        kept = {name: message[name] for name in ("role", "content", "name") if message.get(name) is not None}
        if calls := message.get("tool_calls"):
            kept["tool_calls"] = [
                {**call, "id": ids.setdefault(call.get("id"), f"call_{len(ids) + 1}")} for call in calls
            ]
        if (call_id := message.get("tool_call_id")) is not None:
            kept["tool_call_id"] = ids.setdefault(call_id, f"call_{len(ids) + 1}")
        yield kept


def _written(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
