"""What all our LLMs have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

from crewai.hooks.dispatch import HookAborted
from pydantic import BaseModel, Field

from kasal_jupyter.events.event import RequestedToolCall, TokenUsage
from kasal_jupyter.hiding import beginning
from kasal_jupyter.models.sandbox.model import count_tokens
from kasal_jupyter.wellformed import well_formed
from kasal_jupyter.worker.crew.time_limit import time_is_up
from kasal_jupyter.worker.crewai_seams import ObservedLLM, once, requested_calls
from kasal_jupyter.worker.models.answer_text import Heard, LiveSpeech, emptiness, remark_on, spoken
from kasal_jupyter.worker.models.chat_answer import ChatAnswer, token_usage
from kasal_jupyter.worker.models.model_call import CallGivenUp, ModelCall, current_call, given_up
from kasal_jupyter.worker.models.provider_errors import FORM
from kasal_jupyter.worker.process.failures import ModelFailed
from kasal_jupyter.worker.process.stop import StopSignal

CALL_SECONDS = 300.0
"""How long a call may take where an agent has no ``timeout``: half of what OpenAI's client allows.

A long answer of a model that thinks takes a minute or two; what has not come by then hardly ever comes.
"""

MOST_WORD = 200
"""Characters that are kept of why an answer ended, and of its id."""

EMPTY_TRIES = 2
"""How often a model is asked whose answer is empty, where another may not be."""

CONNECT_SECONDS = 30.0
"""How long a connection may take, for those SDKs that tell it apart."""

asked: ContextVar[Sequence[Any]] = ContextVar("kasal_asked", default=())
"""The messages of the model call that is being reported.

CrewAI's event has them too, but cut off at a depth where tool calls are no longer readable.
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """What CrewAI's event does not say of an answer, or says differently for each provider.

    Attributes
    ----------
    usage
        The tokens; None where the provider counts none.
    cost
        US dollars; None where they are unknown.
    tool_calls
        The tools that the model wants called.
    heard
        What else it has said.
    remark
        What is wrong with it, where it is not whole.
    """

    usage: TokenUsage | None = None
    cost: float | None = None
    tool_calls: tuple[RequestedToolCall, ...] = ()
    heard: Heard = field(default_factory=Heard)
    remark: str | None = None


_NOTHING = Answered()

answered: ContextVar[Answered] = ContextVar("kasal_answered", default=_NOTHING)
"""The answer that is being reported."""


_COUNTED = {
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
    "cached_tokens": "cached_prompt_tokens",
    "cache_write_tokens": "cache_creation_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
"""CrewAI's names of what a provider counts, by ours."""


THOUGHTS = "thoughts"
"""What a server may lack as well: to say where a thought begins. Its prompts begin the thought."""


class ReportedLLM(ObservedLLM):
    """A model of one provider, whose calls can be reported whole.

    It asks once: whether again, and whom else, :class:`~kasal_jupyter.worker.models.agent_llm.AgentLLM` says.

    Attributes
    ----------
    label
        The model's name as the agent says it; events and errors carry it.
    signal
        What ends the run.
    patience
        Seconds that a call may take.
    left_out
        The settings that the model turned out not to take.
    lacks
        What its server turned out not to do, of calling tools, answering in a JSON schema's form, and marking
        where its thoughts begin. All of a run's models of one name share it, so that nobody asks for that
        again.
    address_set_by
        What has set its address, in words, where the run's owner may not see it.
    """

    label: str = ""
    address_set_by: str | None = None
    signal: StopSignal = Field(default_factory=StopSignal, exclude=True)
    patience: float = CALL_SECONDS
    left_out: set[str] = Field(default_factory=set, exclude=True)
    lacks: set[str] = Field(default_factory=set, exclude=True)

    if TYPE_CHECKING:

        def supports_function_calling(self) -> bool:
            """Say whether tools are called natively. All of CrewAI's LLMs do, but for their base."""

    leavable: ClassVar[bool] = True
    """Whether a call waits for somebody else, and so is made in a thread that can be left."""

    def ask(self, messages: str | list[Any], **request: Any) -> Any:
        """Ask once; see :meth:`BaseLLM.call`.

        CrewAI wraps every ``call`` in retries. What is asked again is decided in one place, which shows it.
        """
        return once(self)(self, messages, **request)

    def leave_out(self, setting: str) -> bool:
        """Ask without a setting from now on; say whether that changes anything.

        Parameters
        ----------
        setting
            ``temperature``, ``top_p``, ``seed``, ``stop`` or ``max_tokens``; ``response_format``.
        """
        if setting == FORM:
            known = setting in self.lacks
            self.lacks.add(setting)
            return not known
        # What an answer ends at is said with each call, too.
        if setting in self.left_out or (setting != "stop" and getattr(self, setting, None) is None):
            return False
        self.left_out.add(setting)
        setattr(self, setting, [] if setting == "stop" else None)
        return True

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call at a time has cost, in US dollars; None where that is unknown."""
        del usage, at
        return None

    def get_input_tokens_count(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> int:
        """Estimate a prompt's tokens, where CrewAI would ask the provider over HTTP before every call."""
        del response_model
        return estimated_tokens(messages, tools)

    @contextmanager
    def beginning(self, messages: str | list[Any], call_id: str) -> Iterator[None]:
        """Keep the messages for the report of the call."""
        if call := current_call():
            call.call_id = call_id
        token = asked.set([{"role": "user", "content": messages}] if isinstance(messages, str) else messages)
        try:
            yield
        finally:
            asked.reset(token)

    def sending(self) -> None:
        """Take down that a request is made: it may have to be paid for."""
        if call := current_call():
            call.sent = True

    def go_on(self) -> None:
        """Leave a call that nobody waits for any more."""
        if given_up() or time_is_up():
            raise CallGivenUp

    def shown(self, piece: str) -> str:
        """Give what of a piece is no thought, as far as can be told before the answer is whole."""
        piece = well_formed(piece)
        call = current_call()
        if call is None:
            return piece
        if call.live is None:
            call.live = LiveSpeech(thinks=THOUGHTS in self.lacks)
        return call.live.add(piece)

    def cut_at_stops(self, text: str, cut: Callable[[str], str]) -> str:
        """Give an answer up to the words that it is to stop at, which may be spoken of in a thought."""
        answer = spoken(text)
        said = cut(answer.said)
        if said == answer.said:
            return text
        return f"<think>{answer.thought}</think>{said}" if answer.thought else said

    def tells_of_failures(self) -> bool:
        """Leave failures to whoever has asked; what ends the run is nobody's failure."""
        return isinstance(sys.exc_info()[1], HookAborted)

    def count(self, usage: Any) -> None:
        """Add up the tokens, where they are counts."""
        if counted := cast("dict[str, int] | None", token_usage(usage)):
            for ours, theirs in _COUNTED.items():
                self.counted[theirs] += cast("Mapping[str, int]", counted).get(ours, 0)
            self.counted["successful_requests"] += 1

    @contextmanager
    def ending(self, event: dict[str, Any]) -> Iterator[None]:
        """Read an answer, and keep for its report what CrewAI's event does not say.

        Raises
        ------
        ModelFailed
            It is empty.
        """
        counted = token_usage(event.get("usage"))
        # CrewAI's event refuses what is of another type than its own, and with it the answer.
        event["usage"] = None if counted is None else dict(counted)
        event |= {name: _said(event.get(name)) for name in ("finish_reason", "response_id")}
        response, reason = event.get("response"), event["finish_reason"]
        cost = self.cost(counted, datetime.now(UTC))
        call = current_call() or ModelCall()
        call.settle(counted, cost)
        call.heard = _without_thoughts(call.heard)
        self._show_rest(call, event)
        if isinstance(response, str):
            answer_text = spoken(well_formed(response))
            event["response"] = response = answer_text.said
            if answer_text.thought and not call.heard.reasoning:
                call.heard = replace(call.heard, reasoning=answer_text.thought)
            if not response.strip():
                raise self._empty_answer(call, response, reason)
        answer = Answered(
            counted,
            cost,
            tuple(requested_calls(response)),
            call.heard,
            remark_on(reason, call.heard, most=self.most_tokens),
        )
        token = answered.set(answer)
        try:
            yield
        finally:
            answered.reset(token)

    def _show_rest(self, call: ModelCall, event: Mapping[str, Any]) -> None:
        """Show what was held back of an answer that came in pieces."""
        if (live := call.live) is None:
            return
        call.live = None
        if live.overheard:
            # The next time it is waited for the end of the thought.
            self.lacks.add(THOUGHTS)
        if rest := live.rest():
            self.show_piece(rest, from_task=event.get("from_task"), from_agent=event.get("from_agent"))

    def hear(self, answer: ChatAnswer) -> None:
        """Take down what CrewAI has no place for in the answer that this thread reads."""
        if call := current_call():
            call.heard = Heard(answer.text, answer.reasoning, answer.refusal, streamed=answer.streamed)

    def _empty_answer(self, call: ModelCall, text: str, reason: str | None) -> ModelFailed:
        reasoned = call.usage.get("reasoning_tokens", 0) if call.usage is not None else 0
        empty = emptiness(text, reason, call.heard, reasoned=reasoned, most=self.most_tokens)
        message = "the answer is empty." if empty is None else empty.message
        helps = empty is None or empty.helps
        return ModelFailed(f"{self.label}: {message}", code="MODEL_ERROR", passing=helps, tries=EMPTY_TRIES)


def estimated_tokens(messages: str | list[Any], tools: Sequence[dict[str, Any]] | None = None) -> int:
    """Estimate the tokens of a prompt with its tools."""
    offered = count_tokens(json.dumps(tools, default=str)) if tools else 0
    if isinstance(messages, str):
        return offered + count_tokens(messages)
    return offered + sum(
        count_tokens(str(message.get("content") or "") + str(message.get("tool_calls") or ""))
        for message in messages
    )


def _without_thoughts(heard: Heard) -> Heard:
    """Tell apart what a model thought aloud in its text."""
    answer = spoken(heard.text)
    thoughts = [thought for thought in (heard.reasoning, answer.thought) if thought]
    return replace(heard, text=answer.said, reasoning="\n\n".join(thoughts))


def _said(word: object) -> str | None:
    """Give a provider's word for something; it may be anything, of any length."""
    word = word.value if isinstance(word, Enum) else word
    return None if word is None or word == "" else beginning(str(word), MOST_WORD)
