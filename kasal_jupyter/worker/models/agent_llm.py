"""The model of an agent: asked again where that may help, and others in its place where it cannot answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar, cast

from crewai.events.stream_context import publish_stream_event
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import call_stop_override, call_stream_override
from crewai.types.usage_metrics import UsageMetrics
from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError
from pydantic import BaseModel, Field, PrivateAttr

from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.events.steps import prompt_place
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.wellformed import well_formed
from kasal_jupyter.worker.crew.earlier import Given
from kasal_jupyter.worker.crew.record import Asked, RunRecord, edited
from kasal_jupyter.worker.crew.time_limit import check_time
from kasal_jupyter.worker.crewai_seams import (
    ObservedLLM,
    number_equals,
    recorded_calls,
    requested_calls,
    unwrapped,
)
from kasal_jupyter.worker.models.answer_text import (
    Heard,
    NotTheObject,
    in_words,
    not_the_object,
    read_object,
    spoken,
)
from kasal_jupyter.worker.models.budget import Ledger
from kasal_jupyter.worker.models.llm import ReportedLLM, estimated_tokens
from kasal_jupyter.worker.models.model_call import (
    AskedAgain,
    CallGiven,
    CallLeft,
    ModelCall,
    asks_again,
    final_words,
    seconds_until_retry,
)
from kasal_jupyter.worker.models.provider_errors import FORM, TOOLS, Place
from kasal_jupyter.worker.process.failures import (
    AnswerUnreadable,
    FailedBefore,
    ModelFailed,
    NoToolCalls,
    details_of,
    failed_before,
    model_failure,
)
from kasal_jupyter.worker.process.stop import RunOutOfMemory, StopSignal

M = TypeVar("M", bound=BaseModel)

_summarising: ContextVar[bool] = ContextVar("kasal_summarising", default=False)
"""Whether the call is one of those that shorten a conversation."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What a model is asked.

    Attributes
    ----------
    request
        What CrewAI passes besides the messages and the tools.
    form
        What the answer is to be an object of; None where it is a text.
    told
        Whether the messages say so themselves.
    """

    messages: str | list[Any]
    tools: list[dict[str, Any]] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    form: type[BaseModel] | None = None
    told: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    """How one model of the line is asked it.

    Attributes
    ----------
    form
        What its server is told that the answer is to be like; None where the messages say so.
    """

    messages: str | list[Any]
    tools: list[dict[str, Any]] | None
    form: type[BaseModel] | None
    stop: list[str]
    more: Mapping[str, Any]


class AgentLLM(ObservedLLM):
    """A line of models, of which the first that can answers.

    This is the only place where a call is made again: CrewAI's own retries and those of the providers' SDKs
    are off. Once a model has failed for good, the agent stays with the next one until the run's end.

    Attributes
    ----------
    signal
        What ends the run.
    """

    llm_type: str = "kasal"
    signal: StopSignal = Field(exclude=True)

    _line: Sequence[ReportedLLM] = PrivateAttr(default=())
    _at: int = PrivateAttr(default=0)
    _moving: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _ledger: Ledger | None = PrivateAttr(default=None)
    _record: RunRecord | None = PrivateAttr(default=None)
    _persistent: bool = PrivateAttr(default=True)
    # By whose conversation it is, and the first call's id.
    _words: dict[tuple[int, str], str] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(
        cls,
        line: Sequence[ReportedLLM],
        settings: ModelSettings,
        ledger: Ledger,
        record: RunRecord | None = None,
        *,
        persistent: bool = True,
    ) -> Self:
        """Make it.

        Parameters
        ----------
        line
            The model and its fallbacks, at least one.
        settings
            How they are called.
        ledger
            What the run may use up.
        record
            What the run asks, and what an earlier one was answered.
        persistent
            Whether a model is asked again where that may help.
        """
        made = cls(
            model=line[0].model,
            provider=line[0].provider,
            signal=ledger.signal,
            stop=settings.stop or [],
            stream=settings.stream,
            max_tokens=settings.max_tokens,
        )
        made._line, made._ledger, made._persistent = tuple(line), ledger, persistent
        made._record = record
        return made

    @property
    def current(self) -> ReportedLLM:
        """The model that is asked now."""
        return self._line[self._at]

    @unwrapped
    def call(  # noqa: PLR0917 - CrewAI's signature
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Ask; see :meth:`BaseLLM.call`.

        Returns
        -------
        Any
            A text without what the model thought aloud, calls of tools, or the object that was asked for.

        Raises
        ------
        ModelFailed
            No model of the line can answer.
        RunStopped, RunFailed
            The run must end.
        """
        request = {
            "callbacks": callbacks,
            "available_functions": available_functions,
            "from_task": from_task,
            "from_agent": from_agent,
        }
        self._recall_words(messages, from_agent)
        return self._first_answer(_Question(messages, tools, request, response_model))

    def ask_for(self, form: type[M], messages: list[Any]) -> M:
        """Ask for an object, where the messages themselves say what it is like.

        Raises
        ------
        AnswerUnreadable
            No model of the line answers with one.
        ModelFailed, RunStopped, RunFailed
            As :meth:`call`.
        """
        return cast("M", self._first_answer(_Question(messages, form=form, told=True)))

    def _first_answer(self, question: _Question) -> Any:
        """Give the answer of the first model of the line that can."""
        failures: list[ModelFailed] = []
        summarised = False
        while True:
            at = self._at
            try:
                return self._understood(self._line[at], question)
            except _GaveUp as gave_up:
                failures.append(gave_up.failure)
                if not summarised and self._summarised(gave_up.failure, question):
                    summarised = True
                    del failures[-1]
                    continue
                if isinstance(gave_up.failure, NoToolCalls):
                    raise gave_up.failure from gave_up.failure.__cause__
                if not self._move_on(at, gave_up):
                    raise self._final(failures) from gave_up.failure

    def _understood(self, llm: ReportedLLM, question: _Question) -> Any:
        """Ask one model, once more where its answer is not the object that was asked for.

        What models are asked for as JSON comes with words, fences and thoughts around it, and many servers
        take no ``response_format``, or take it and leave it. So it is taken out of whatever was said.
        """
        form = question.form
        for again in (True, False):
            answer = self._persistently(llm, question)
            if form is None or not isinstance(answer, str):
                return answer
            try:
                return read_object(answer, form)
            except NotTheObject as fault:
                why = str(fault)
                if again:
                    question = replace(question, messages=not_the_object(question.messages, answer, why))
        raise _GaveUp(AnswerUnreadable.of(llm.label, why), None)

    @unwrapped
    async def acall(self, *args: Any, **request: Any) -> Any:
        """Ask as :meth:`call` does: CrewAI summarises the parts of a long conversation at the same time."""
        return await asyncio.to_thread(self.call, *args, **request)

    def _persistently(self, llm: ReportedLLM, question: _Question) -> Any:
        """Ask one model, again where that may help; raise ``_GaveUp`` where it does not."""
        if question.tools and TOOLS in llm.lacks:
            raise _GaveUp(NoToolCalls(llm.label), None)
        calls = tries = 0
        while True:
            calls, tries = calls + 1, tries + 1
            attempt = ModelCall()
            try:
                return self._once(llm, attempt, question)
            except ModelFailed as failure:
                if failure.setting == TOOLS and question.tools:
                    llm.lacks.add(TOOLS)
                    self._tell(attempt.call_id, llm, calls + 1, 0.0, failure)
                    raise _GaveUp(NoToolCalls(llm.label, str(failure)), attempt.call_id) from failure
                if self._leaves_out(llm, failure, question):
                    # Many models take fewer settings than those before them that they stand in for. That
                    # is another question, and not the same one again.
                    self._tell(attempt.call_id, llm, calls + 1, 0.0, failure)
                    tries = 0
                    continue
                if not (self._persistent and asks_again(failure, tries)):
                    told = ModelFailed(final_words(failure, tries), code=failure.failure_code)
                    told.__cause__ = failure
                    raise _GaveUp(told, attempt.call_id) from failure
                before = failure.wait_before if isinstance(failure, FailedBefore) else None
                wait = seconds_until_retry(failure, tries) if before is None else before
                self._tell(attempt.call_id, llm, calls + 1, wait, failure)
                if before is None:
                    self.signal.sleep(wait)

    def _leaves_out(self, llm: ReportedLLM, failure: ModelFailed, question: _Question) -> bool:
        """Leave out what a model has refused to be asked with; say whether that changes anything."""
        if isinstance(failure, AnswerUnreadable):
            # Of an SDK that reads the answer itself, and keeps it to itself where it cannot.
            return question.form is not None and llm.leave_out(FORM)
        # Some models are asked for an object by a tool that they must call.
        setting = FORM if failure.setting == TOOLS and question.form is not None else failure.setting
        if setting is None or setting == TOOLS or (setting == FORM and question.form is None):
            return False
        return self._persistent and llm.leave_out(setting)

    def _request(self, llm: ReportedLLM, question: _Question) -> _Request:
        """Put a question to a model of the line in the form that it takes."""
        form, messages = question.form, question.messages
        if form is not None and (question.told or FORM in llm.lacks):
            messages = messages if question.told else in_words(messages, form)
            form = None
        stop = [] if "stop" in llm.left_out else self.stop_sequences
        # What no request can hold may stand in an input, in a tool's result, in a page.
        return _Request(well_formed(messages), well_formed(question.tools), form, stop, question.request)

    def _ask(self, llm: ReportedLLM, request: _Request) -> Any:
        """Have a model of the line answer."""
        with call_stop_override(llm, request.stop), call_stream_override(llm, self.streams):
            answer = llm.ask(
                request.messages, tools=request.tools, response_model=request.form, **request.more
            )
        return well_formed(spoken(answer).said) if isinstance(answer, str) else answer

    def _once(self, llm: ReportedLLM, attempt: ModelCall, question: _Question) -> Any:
        request = self._request(llm, question)
        call: Asked | None = None
        if self._record is not None:
            line = [each.label for each in self._line]
            call = self._record.model(self._identity(llm, request), line)
            while call.edit is not None:
                attempt.edited = edited(call.edit)
                question = _asking(question, call.edit.text)
                request = self._request(llm, question)
                call = self._record.model(self._identity(llm, request), line)
            attempt.key = call.key
        if call is None or call.given is None:
            answer = self._live(llm, attempt, request, call)
        else:
            answer = self._given(llm, attempt, request, call.given)
        if isinstance(answer, list):
            number_equals(answer)
            self._remember_words(attempt, answer, question)
        return answer

    def _identity(self, llm: ReportedLLM, request: _Request) -> dict[str, Any]:
        """Give what a call asks, and how."""
        settings = {
            **{name: getattr(llm, name, None) for name in ("temperature", "top_p", "seed")},
            "max_tokens": None if "max_tokens" in llm.left_out else self.max_tokens,
            "stop": request.stop or None,
            "stream": self.streams,
        }
        return {
            "model": llm.label,
            "messages": request.messages,
            "tools": request.tools,
            "form": request.form.model_json_schema() if request.form is not None else None,
            "settings": {name: value for name, value in settings.items() if value is not None},
        }

    def _given(self, llm: ReportedLLM, attempt: ModelCall, request: _Request, given: Given) -> Any:
        """Give what an earlier run was answered.

        Raises
        ------
        FailedBefore
            It was none.
        RunStopped, RunFailed
            The run must end.
        """
        assert self._record is not None
        self.signal.check()
        check_time()
        attempt.call_id = attempt.key
        # What is replayed ends where it ended, at its budget too. Else it costs nothing now.
        with self._within_budget(llm, attempt, request) if self._record.replays else nullcontext():
            publish_stream_event(llm, CallGiven(attempt.key or "", given))
            attempt.sent, answer = True, given.answer
            if given.answered == "llm_failed":
                failure = failed_before(answer["error"], answer.get("failure", {}), given.wait)
                attempt.turned_down = failure.unpaid
                attempt.usage, attempt.cost = answer.get("usage"), answer.get("cost")
                raise failure
            attempt.settle(answer["usage"], answer.get("cost"))
            attempt.heard = Heard(answer["text"] or "", answer.get("reasoning", ""))
        return recorded_calls(answer["tool_calls"]) if answer["tool_calls"] else answer["text"]

    def _within_budget(
        self, llm: ReportedLLM, attempt: ModelCall, request: _Request
    ) -> AbstractContextManager[None]:
        assert self._ledger is not None

        def prompt() -> int:
            return estimated_tokens(request.messages, request.tools)

        limit = int(self.max_tokens) if self.max_tokens is not None else None
        return self._ledger.call(llm, attempt, prompt, limit)

    def _live(self, llm: ReportedLLM, attempt: ModelCall, request: _Request, call: Asked | None) -> Any:
        """Make a call that has no answer yet."""

        def ask() -> Any:
            return self._ask(llm, request)

        self.signal.wait_while_held(llm.label)

        with self._within_budget(llm, attempt, request):
            if self._record is not None and call is not None:
                self._record.check_live(call)
            try:
                if not llm.leavable:
                    return attempt.in_this_thread(ask)
                return attempt.in_thread(ask, llm.patience, self.signal)
            except HookAborted:
                raise
            except MemoryError as error:
                raise RunOutOfMemory from error
            except Exception as error:
                # A border: whatever an SDK makes of a provider's answer comes out here.
                place = Place(attempt.address, llm.address_set_by)
                failure = model_failure(error, llm.label, place)
                self._leave(llm, attempt, failure)
                raise failure from error

    def _remember_words(self, attempt: ModelCall, calls: list[Any], question: _Question) -> None:
        """Keep what was said beside tool calls: CrewAI leaves it out of the conversation."""
        for call in requested_calls(calls[:1]):
            self._words[id(question.request.get("from_agent")), call["id"]] = attempt.heard.text

    def _recall_words(self, messages: str | list[Any], agent: object) -> None:
        """Put what was said beside tool calls into the conversation: models go on from their own words."""
        for message in messages if self._words and isinstance(messages, list) else ():
            calls = message.get("tool_calls") if message.get("role") == "assistant" else None
            if calls and (text := self._words.pop((id(agent), calls[0].get("id")), None)):
                message["content"] = message.get("content") or text

    def _summarised(self, failure: ModelFailed, question: _Question) -> bool:
        """Shorten an agent's conversation that the model finds too long; say whether that was done.

        As CrewAI does it. Its executor would do the same for us, but then ends the task of an agent without
        tools with no result, as if that were one.
        """
        messages = question.messages
        if failure.failure_code != "CONTEXT_OVERFLOW" or isinstance(messages, str):
            return False
        if question.request.get("from_agent") is None:
            return False
        if _summarising.get():
            return False
        token = _summarising.set(True)
        try:
            self.summarize_messages(messages, [], verbose=False)
        except LLMContextLengthExceededError:
            return False  # Of CrewAI's own: what there is cannot be cut in parts.
        finally:
            _summarising.reset(token)
        return True

    def _move_on(self, at: int, gave_up: _GaveUp) -> bool:
        """Go on to the next model of the line; say whether there is one."""
        if at + 1 == len(self._line):
            return False
        with self._moving:
            # Somebody else who shares this agent's model may have done so already.
            self._at = max(self._at, at + 1)
        self._tell(gave_up.call_id, self._line[at + 1], 1, 0.0, gave_up.failure)
        return True

    def _final(self, failures: Sequence[ModelFailed]) -> ModelFailed:
        """Tell the run that no model is left, and give the error that says so.

        The whole run ends: CrewAI would pass the error on to a manager as if it were a coworker's answer.
        """
        last = failures[-1]
        message = " ".join(str(failure) for failure in failures)
        if isinstance(last, AnswerUnreadable):
            # Whoever has asked for an object knows what its lack means: a plan, a verdict, a task's result.
            return AnswerUnreadable(message)
        self.signal.fail(ErrorInfo(code=last.failure_code, message=message))
        return ModelFailed(message, code=last.failure_code)

    def _tell(
        self, call_id: str | None, following: ReportedLLM, attempt: int, wait: float, failure: ModelFailed
    ) -> None:
        error = ErrorInfo(code=failure.failure_code, message=str(failure))
        publish_stream_event(self, AskedAgain(call_id, following.label, attempt, round(wait, 3), error))

    def _leave(self, llm: ReportedLLM, attempt: ModelCall, failure: ModelFailed) -> None:
        """End a call that has failed in the trace, with what it took."""
        attempt.turned_down = failure.unpaid
        if attempt.usage is not None or attempt.answered:
            cost = attempt.cost
        else:
            cost = 0.0 if attempt.unpaid else llm.cost(None, datetime.now(UTC))
        error = ErrorInfo(code=failure.failure_code, message=str(failure))
        left = CallLeft(attempt.call_id, error, attempt.usage, cost, attempt.key, details_of(failure))
        publish_stream_event(self, left)

    def supports_function_calling(self) -> bool:
        """Say whether tools are called natively: CrewAI asks once for a task, so all models must do it."""
        return all(llm.supports_function_calling() and TOOLS not in llm.lacks for llm in self._line)

    def supports_stop_words(self) -> bool:
        """Say whether stop words can be passed; where they cannot, CrewAI cuts the answers off itself."""
        return all(llm.supports_stop_words() for llm in self._line)

    def supports_multimodal(self) -> bool:
        """Say whether the model that is asked now takes more than text."""
        return self.current.supports_multimodal()

    def get_context_window_size(self) -> int:
        """Give the tokens that a prompt of the model that is asked now may have."""
        return self.current.get_context_window_size()

    def get_input_tokens_count(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> int:
        """Estimate a prompt's tokens."""
        return self.current.get_input_tokens_count(messages, tools, response_model)

    def get_token_usage_summary(self) -> UsageMetrics:
        """Add up the tokens of all models of the line."""
        whole = UsageMetrics()
        for llm in self._line:
            whole.add_usage_metrics(llm.get_token_usage_summary())
        return whole


def _asking(question: _Question, prompt: str) -> _Question:
    """Put another prompt in the place of a question's last, for the rest of the conversation as well."""
    messages = question.messages
    if isinstance(messages, str):
        return replace(question, messages=prompt)
    messages[prompt_place(messages)]["content"] = prompt
    return question


class _GaveUp(Exception):
    """One model of the line has failed for good."""

    def __init__(self, failure: ModelFailed, call_id: str | None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.call_id = call_id
