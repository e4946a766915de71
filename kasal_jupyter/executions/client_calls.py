"""The calls of a run's client tools, and its questions for humans, kept by the server until answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest, NotFound
from kasal_jupyter.schemas.spec import RunToolAnswer
from kasal_jupyter.schemas.tools import ClientTool

ABSENCE_SECONDS = 5.0
"""How long no connection may be there that answers a run's calls before they fail: broken lines come back."""

log = logging.getLogger(__name__)

_OPENING_MARKS = (b'"tool_request"', b'"input_request"')
_CLOSING_MARKS = (b'"tool_result"', b'"tool_failed"')
"""What a line must contain to be worth parsing: most lines of a run have nothing to do with its calls."""


class ClientCalls:
    """The calls of one run for which its client is to answer, and whether the client is there.

    A question for a human waits as long as it says: whoever may answer need not be there yet.

    Parameters
    ----------
    tools
        The run's client tools.
    send
        Passes an answer on to the run's process.
    """

    def __init__(self, tools: Sequence[ClientTool], send: Callable[[RunToolAnswer], None]) -> None:
        self._awaited = bool(tools)
        self._send = send
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

    def answer(self, answer: RunToolAnswer) -> None:
        """Pass an answer on to the agent.

        Raises
        ------
        InvalidRequest
            It is none of the answers that the question gives to choose from.
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
        self._pass_on(_chosen(answer, self._open[call_id].get("choices", ())))

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
        self._closed.update(self._open)
        self._open.clear()

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


def _chosen(answer: RunToolAnswer, choices: Sequence[str]) -> RunToolAnswer:
    """Give an answer as the question spells it; case and blanks around it do not matter."""
    if not choices or answer.result is None:
        return answer
    said = answer.result.strip().casefold()
    for choice in choices:
        if choice.casefold() == said:
            return answer.model_copy(update={"result": choice})
    raise InvalidRequest(
        "Invalid answer", faults=[Fault("result", f"answer one of these: {', '.join(choices)}")]
    )
