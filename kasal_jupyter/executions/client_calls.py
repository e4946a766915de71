"""The calls of a run's client tools, and its questions for people, kept by the server until answered.

Of several answers to a question the first counts: the one that the journal has. It is there before whoever
has given it is told so, and the time of a question ends here as well, whether or not its run has a process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, KasalError, NotFound
from kasal_jupyter.schemas.base import parse_time, utc_now_precise
from kasal_jupyter.schemas.people import APPROVE
from kasal_jupyter.schemas.spec import RunToolAnswer
from kasal_jupyter.schemas.tools import ClientTool

ABSENCE_SECONDS = 5.0
"""How long no connection may be there that answers a run's calls before they fail: broken lines come back."""

log = logging.getLogger(__name__)

_OPENING_MARKS = (b'"tool_request"', b'"input_request"')
_CLOSING_MARKS = (b'"tool_result"', b'"tool_failed"', b'"input_answer"')
"""What a line must contain to be worth parsing: most lines of a run have nothing to do with its calls."""


_OF_THE_SPAN = ("span_id", "parent_id", "task_id", "task", "agent", "key")
"""What an answer has of its question's event."""


class ClientCalls:
    """The calls of one run for which its client is to answer, and whether the client is there.

    A question for a person waits as long as it says: whoever may answer need not be there yet.

    Parameters
    ----------
    tools
        The run's client tools.
    send
        Passes an answer on to the run's process.
    decide
        Takes the event of a question's answer into the journal.
    fail
        Ends the run, with a code and in words.
    """

    def __init__(
        self,
        tools: Sequence[ClientTool],
        send: Callable[[RunToolAnswer], None],
        decide: Callable[[dict[str, Any]], None],
        fail: Callable[[str, str], None],
    ) -> None:
        self._awaited = bool(tools)
        self._send = send
        self._decide = decide
        self._fail = fail
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._open: dict[str, dict[str, Any]] = {}
        self._closed: set[str] = set()
        self._present = 0
        self._absent = False
        self._timer: asyncio.TimerHandle | None = None
        self._miss()

    def take(self, lines: Sequence[bytes]) -> None:
        """Take in the run's events: a call is open from its request until the span around it ends."""
        for line in lines:
            marks = (*_OPENING_MARKS, *_CLOSING_MARKS) if self._open else _OPENING_MARKS
            if any(mark in line for mark in marks):
                self._take_line(line)

    def answer(self, answer: RunToolAnswer, by: str | None = None, *, asked_only: bool = False) -> bool:
        """Take an answer, and pass it on to the run; say whether it is one to a question.

        Parameters
        ----------
        answer
            The answer.
        by
            Who gives it.
        asked_only
            Whether it may be to a question alone.

        Raises
        ------
        InvalidRequest
            It is none that the question takes.
        NotFound
            The run has no such call.
        Conflict
            It was answered, or its time ran out.
        """
        call_id = answer.call_id
        if call_id in self._closed:
            raise Conflict(f"Call {call_id} was answered already, or its time has run out")
        if call_id not in self._open:
            raise NotFound(f"There is no tool call {call_id}")
        request = self._open[call_id]
        if request["type"] == "input_request":
            self._settle(request, _fitting(answer, request), by)
            return True
        if asked_only:
            raise NotFound(f"There is no tool call {call_id}")
        self._pass_on(answer)
        return False

    def attend(self) -> Callable[[], None]:
        """Note that a connection is there which answers calls; what is given back notes that it has gone."""
        self._present += 1
        self._absent = False
        self._stop_timer()
        gone = False

        def leave() -> None:
            nonlocal gone
            if not gone:
                gone = True
                self._present -= 1
                self._miss()

        return leave

    def end(self) -> None:
        """Wait for nothing any more: the run has ended."""
        self._awaited = False
        self._stop_timer()
        for call_id in list(self._open):
            self._close(call_id)

    def _take_line(self, line: bytes) -> None:
        try:
            self._take(orjson.loads(line))
        except (ValueError, LookupError, TypeError):
            # It is no event: the feed has noted that.
            log.warning("a call of a run's client could not be read: %.200r", line)

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "tool_request":
                self._open[event["call_id"]] = event
                if self._absent:
                    self._refuse(event)
            case "input_request":
                self._open[event["call_id"]] = event
                self._set_deadline(event)
            case "input_answer":
                if event["call_id"] in self._open:
                    self._close(event["call_id"])
            case "tool_result" | "tool_failed":
                for call_id, request in list(self._open.items()):
                    if request["span_id"] == event["span_id"]:
                        self._close(call_id)
            case _:
                # A model's words may hold the mark.
                pass

    def _close(self, call_id: str) -> None:
        del self._open[call_id]
        self._closed.add(call_id)
        if (deadline := self._deadlines.pop(call_id, None)) is not None:
            deadline.cancel()

    def _settle(self, request: dict[str, Any], answer: RunToolAnswer, by: str | None) -> None:
        """Have an answer count: it is in the journal, and nobody can give another."""
        about = {name: request[name] for name in _OF_THE_SPAN if name in request}
        said = answer.model_dump(exclude_none=True)
        self._decide({"type": "input_answer", **about, **said, "by": by})
        self._send(answer)

    def _set_deadline(self, request: dict[str, Any]) -> None:
        passed = (parse_time(utc_now_precise()) - parse_time(request["time"])).total_seconds()
        seconds = max(0.0, request["timeout"] - max(0.0, passed))
        loop = asyncio.get_running_loop()
        self._deadlines[request["call_id"]] = loop.call_later(seconds, self._overdue, request)

    def _overdue(self, request: dict[str, Any]) -> None:
        """Do what is to be done where nobody has answered in time."""
        if request["call_id"] not in self._open:
            return
        words = f"Nobody answered within {request['timeout']:g} seconds"
        outcome = request.get("on_timeout")
        if outcome == "fail":
            self._fail("INPUT_TIMEOUT", f"{words}: {request['question']}")
            return
        said = {"error": words} if outcome is None else {"result": outcome}
        try:
            self._settle(request, RunToolAnswer(call_id=request["call_id"], **said), None)
        except KasalError:
            log.exception("that nobody has answered %s could not be told", request["call_id"])

    def _pass_on(self, answer: RunToolAnswer) -> None:
        self._close(answer.call_id)
        self._send(answer)

    def _refuse(self, request: dict[str, Any]) -> None:
        error = (
            f"The notebook that has the tool {request['tool']} is no longer connected: its kernel was "
            "restarted or has ended. The tool cannot be used in this run any more"
        )
        self._pass_on(RunToolAnswer(call_id=request["call_id"], error=error))

    def _miss(self) -> None:
        """Begin to wait for a connection, where none is there."""
        if self._awaited and not self._present and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ABSENCE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        self._absent = True
        for request in list(self._open.values()):
            if request["type"] == "tool_request":
                self._refuse(request)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _fitting(answer: RunToolAnswer, request: Mapping[str, Any]) -> RunToolAnswer:
    """Give an answer as the question spells it; case and blanks around it do not matter.

    Raises
    ------
    InvalidRequest
        The question does not take it.
    """
    kind, choices = request.get("kind", "question"), request["choices"]
    said = answer.result
    if said is not None:
        plain = said.strip().casefold()
        known = next((choice for choice in choices if choice.casefold() == plain), None)
        if known is None and kind == "review" and not plain:
            # As CrewAI has it.
            known = APPROVE
        if known is None and ((kind == "approval" and not plain) or (kind == "question" and choices)):
            raise _refused("result", f"answer one of these: {', '.join(choices)}")
        answer = answer.model_copy(update={"result": said if known is None else known})
    if answer.arguments is not None and (kind != "approval" or answer.result != APPROVE):
        raise _refused("arguments", "they are given with the approval of a call alone")
    return answer


def _refused(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest("Invalid answer", faults=[Fault(field, reason)])
