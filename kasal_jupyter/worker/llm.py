"""What all our LLMs have in common."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import BaseLLM, get_current_call_id
from crewai.utilities.agent_utils import extract_tool_call_info
from pydantic import BaseModel, Field

from kasal_jupyter.hiding import beginning
from kasal_jupyter.models.sandbox import count_tokens
from kasal_jupyter.schemas.events import RequestedToolCall, TokenUsage
from kasal_jupyter.wellformed import well_formed
from kasal_jupyter.worker.attempt import Attempt, CallGivenUp, current_attempt, given_up
from kasal_jupyter.worker.chat_answer import ChatAnswer
from kasal_jupyter.worker.crewai_seams import WRITTEN, faulty_call, once
from kasal_jupyter.worker.endings import Heard, emptiness, ending_of, remark_on
from kasal_jupyter.worker.failures import ModelFailed
from kasal_jupyter.worker.provider_errors import FORM
from kasal_jupyter.worker.spoken import spoken
from kasal_jupyter.worker.stop import StopSignal
from kasal_jupyter.worker.time_limit import time_is_up
from kasal_jupyter.worker.token_usage import token_usage

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


class ReportedLLM(BaseLLM):
    """A model of one provider, whose calls can be reported whole.

    It asks once: whether again, and whom else, :class:`~kasal_jupyter.worker.agent_llm.AgentLLM` says.

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
        What its server turned out not to do, of calling tools and answering in a JSON schema's form. All of a
        run's models of one name share it, so that nobody asks for that again.
    address_shown
        Whether the run's owner may see where it is asked.
    """

    label: str = ""
    address_shown: bool = True
    signal: StopSignal = Field(default_factory=StopSignal, exclude=True)
    patience: float = CALL_SECONDS
    left_out: set[str] = Field(default_factory=set, exclude=True)
    lacks: set[str] = Field(default_factory=set, exclude=True)

    if TYPE_CHECKING:

        def supports_function_calling(self) -> bool:
            """Say whether tools are called natively. All of CrewAI's LLMs do, but for their base."""

    aside: ClassVar[bool] = True
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

    def _build_async_client(self) -> Any:
        return None  # Nothing here is asynchronous, and a client takes 20 ms to make.

    def get_input_tokens_count(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> int:
        """Estimate a prompt's tokens, where CrewAI would ask the provider over HTTP before every call."""
        del response_model
        return estimated_tokens(messages, tools)

    def _emit_call_started_event(self, messages: str | list[Any], *args: Any, **kwargs: Any) -> None:
        if attempt := current_attempt():
            attempt.call_id = get_current_call_id()
        token = asked.set([{"role": "user", "content": messages}] if isinstance(messages, str) else messages)
        try:
            super()._emit_call_started_event(messages, *args, **kwargs)
        finally:
            asked.reset(token)

    def hear(self, heard: Heard) -> None:
        """Take down what CrewAI has no place for in the answer that this thread reads."""
        if attempt := current_attempt():
            attempt.heard = heard

    def _hear(self, answer: ChatAnswer) -> None:
        self.hear(Heard(answer.text, answer.reasoning, answer.refusal, streamed=answer.streamed))

    def empty_answer(self, attempt: Attempt, text: str = "", reason: str | None = None) -> ModelFailed:
        """Give the failure that an answer without a text is."""
        reasoned = attempt.usage.get("reasoning_tokens", 0) if attempt.usage is not None else 0
        empty = emptiness(
            text, reason or attempt.reason, attempt.heard, reasoned=reasoned, most=self._most_tokens()
        )
        message = "the answer is empty." if empty is None else empty.message
        helps = empty is None or empty.helps
        return ModelFailed(f"{self.label}: {message}", code="MODEL_ERROR", passing=helps, tries=EMPTY_TRIES)

    def note_end(self, reason: str | None, usage: TokenUsage | None) -> None:
        """Take down how an answer ended that CrewAI may not tell of."""
        if attempt := current_attempt():
            attempt.reason, attempt.usage = reason, usage
            attempt.cost = self.cost(usage, datetime.now(UTC))

    def _most_tokens(self) -> int | None:
        most = self._effective_max_tokens()
        return int(most) if most else None

    def _invoke_before_llm_call_hooks(self, *args: Any, **kwargs: Any) -> bool:
        # The last that CrewAI does before a request.
        goes_on = super()._invoke_before_llm_call_hooks(*args, **kwargs)
        if attempt := current_attempt():
            attempt.sent = True
        return goes_on

    def _go_on(self) -> None:
        # The only way into an SDK's loop over a stream: out of it, the connection is closed.
        if given_up() or time_is_up():
            raise CallGivenUp

    def _emit_stream_chunk_event(self, *args: Any, **kwargs: Any) -> None:
        self._go_on()
        super()._emit_stream_chunk_event(*args, **well_formed(kwargs))

    def _apply_stop_words(self, content: str) -> str:
        # What it stops at may be spoken of while it thinks, and all that it has said comes behind that.
        answer = spoken(content)
        said = super()._apply_stop_words(answer.said)
        if said == answer.said:
            return content
        return f"<think>{answer.thought}</think>{said}" if answer.thought else said

    def _emit_call_failed_event(self, *args: Any, **kwargs: Any) -> None:
        # Of what fails, whoever has asked tells, with what it took; CrewAI does so twice for some. What ends
        # the run is nobody's failure.
        if isinstance(sys.exc_info()[1], HookAborted):
            super()._emit_call_failed_event(*args, **kwargs)

    def _track_token_usage_internal(self, usage_data: dict[str, Any]) -> None:
        # CrewAI adds up whatever a provider says.
        if counted := cast("dict[str, int] | None", token_usage(usage_data)):
            for ours, theirs in _COUNTED.items():
                self._token_usage[theirs] += cast("Mapping[str, int]", counted).get(ours, 0)
            self._token_usage["successful_requests"] += 1

    def _emit_call_completed_event(self, *args: Any, **event: Any) -> None:
        # CrewAI's providers pass everything by name.
        counted = token_usage(event.get("usage"))
        # CrewAI's event refuses what is of another type than its own, and with it the answer.
        event["usage"] = None if counted is None else dict(counted)
        event |= {name: _said(event.get(name)) for name in ("finish_reason", "response_id")}
        response, reason = event.get("response"), event["finish_reason"]
        cost = self.cost(counted, datetime.now(UTC))
        attempt = current_attempt() or Attempt()
        attempt.settle(counted, cost)
        attempt.heard = _without_thoughts(attempt.heard)
        if isinstance(response, str):
            answer_text = spoken(well_formed(response))
            event["response"] = response = answer_text.said
            if answer_text.thought and not attempt.heard.reasoning:
                attempt.heard = replace(attempt.heard, reasoning=answer_text.thought)
            if not response.strip():
                raise self.empty_answer(attempt, response, reason)
        answer = Answered(
            counted,
            cost,
            _requested(response),
            attempt.heard,
            remark_on(reason, attempt.heard, most=self._most_tokens()),
        )
        token = answered.set(answer)
        try:
            super()._emit_call_completed_event(*args, **event)
        finally:
            answered.reset(token)


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


def cut_off(calls: Any, reason: str | None) -> Any:
    """Give an answer's tool calls; the last one is none where the answer was cut off in the middle of it.

    An SDK makes of its arguments an object that has what had come.
    """
    if not isinstance(calls, list) or not calls or ending_of(reason) != "length":
        return calls
    found = extract_tool_call_info(calls[-1])
    if found is None:
        return calls
    call_id, name, arguments = found
    fault = f"The arguments of {name} are cut off, since the answer was too long, so it was not called."
    return [*calls[:-1], faulty_call(call_id, name, str(arguments), fault)]


def _said(word: object) -> str | None:
    """Give a provider's word for something; it may be anything, of any length."""
    word = word.value if isinstance(word, Enum) else word
    return None if word is None or word == "" else beginning(str(word), MOST_WORD)


def _requested(response: Any) -> tuple[RequestedToolCall, ...]:
    """Read the tool calls of an answer, in whatever form its provider has them."""
    if not isinstance(response, list):
        return ()
    calls = []
    for call in response:
        if found := extract_tool_call_info(call):
            call_id, name, arguments = found
            if isinstance(call, dict):
                arguments = call.get(WRITTEN, arguments)
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
            calls.append(RequestedToolCall(id=str(call_id or ""), name=name, arguments=text))
    return tuple(calls)
