"""The model of an agent: asked again where that may help, and others in its place where it cannot answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Self

from crewai.events.stream_context import publish_stream_event
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import BaseLLM, call_stop_override, call_stream_override
from crewai.types.usage_metrics import UsageMetrics
from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError
from pydantic import BaseModel, Field, PrivateAttr

from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import ErrorInfo
from kasal_jupyter.worker.attempt import Attempt
from kasal_jupyter.worker.budget import Ledger
from kasal_jupyter.worker.crewai_seams import unwrapped
from kasal_jupyter.worker.failures import ModelFailed, model_failure
from kasal_jupyter.worker.llm import ReportedLLM, estimated_tokens
from kasal_jupyter.worker.retry import AskedAgain, CallLeft, asks_again, final_words, seconds_until_retry
from kasal_jupyter.worker.stop import RunOutOfMemory, StopSignal

_summarising: ContextVar[bool] = ContextVar("kasal_summarising", default=False)
"""Whether the call is one of those that shorten a conversation."""


class AgentLLM(BaseLLM):
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
    _persistent: bool = PrivateAttr(default=True)

    @classmethod
    def of(
        cls, line: Sequence[ReportedLLM], settings: ModelSettings, ledger: Ledger, *, persistent: bool = True
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

        Raises
        ------
        ModelFailed
            No model of the line can answer.
        RunStopped, RunFailed
            The run must end.
        """

        def ask(llm: ReportedLLM) -> Any:
            with (
                call_stop_override(llm, [] if "stop" in llm.left_out else self.stop_sequences),
                call_stream_override(llm, bool(self._effective_stream())),
            ):
                return llm.ask(
                    messages,
                    tools=tools,
                    callbacks=callbacks,
                    available_functions=available_functions,
                    from_task=from_task,
                    from_agent=from_agent,
                    response_model=response_model,
                )

        failures: list[ModelFailed] = []
        summarised = False
        while True:
            at = self._at
            try:
                return self._persistently(self._line[at], ask, lambda: estimated_tokens(messages, tools))
            except _GaveUp as gave_up:
                failures.append(gave_up.failure)
                if not summarised and self._summarised(gave_up.failure, messages, from_agent):
                    summarised = True
                    del failures[-1]
                    continue
                if gave_up.failure.mended:
                    raise gave_up.failure from gave_up.failure.__cause__
                if not self._move_on(at, gave_up):
                    raise self._final(failures) from gave_up.failure

    @unwrapped
    async def acall(self, *args: Any, **request: Any) -> Any:
        """Ask as :meth:`call` does: CrewAI summarises the parts of a long conversation at the same time."""
        return await asyncio.to_thread(self.call, *args, **request)

    def _persistently(
        self, llm: ReportedLLM, ask: Callable[[ReportedLLM], Any], prompt: Callable[[], int]
    ) -> Any:
        """Ask one model, again where that may help; raise ``_GaveUp`` where it does not."""
        tries = 0
        while True:
            tries += 1
            attempt = Attempt()
            try:
                return self._once(llm, attempt, ask, prompt)
            except ModelFailed as failure:
                if self._persistent and failure.setting is not None and llm.leave_out(failure.setting):
                    # Many models take fewer settings than those before them that they stand in for.
                    self._tell(attempt.call_id, llm, tries + 1, 0.0, failure)
                    continue
                if not (self._persistent and asks_again(failure, tries)):
                    told = ModelFailed(
                        final_words(failure, tries), code=failure.failure_code, mended=failure.mended
                    )
                    told.__cause__ = failure
                    raise _GaveUp(told, attempt.call_id) from failure
                wait = seconds_until_retry(failure, tries)
                self._tell(attempt.call_id, llm, tries + 1, wait, failure)
                self.signal.sleep(wait)

    def _once(
        self,
        llm: ReportedLLM,
        attempt: Attempt,
        ask: Callable[[ReportedLLM], Any],
        prompt: Callable[[], int],
    ) -> Any:
        assert self._ledger is not None
        limit = int(self.max_tokens) if self.max_tokens is not None else None
        with self._ledger.call(llm, attempt, prompt, limit):
            try:
                if llm.aside:
                    answer = attempt.aside(lambda: ask(llm), llm.patience, self.signal)
                else:
                    answer = attempt.here(lambda: ask(llm))
            except HookAborted:
                raise
            except MemoryError as error:
                raise RunOutOfMemory from error
            except Exception as error:
                # A border: whatever an SDK makes of a provider's answer comes out here.
                failure = model_failure(error, llm.label, address_shown=llm.address_shown)
                self._leave(llm, attempt, failure)
                raise failure from error
            if not attempt.answered:
                # Where Bedrock, say, answers with nothing, CrewAI makes an apology up, and tells nobody.
                failure = llm.empty_answer(attempt)
                self._leave(llm, attempt, failure)
                raise failure
        return answer

    def _summarised(self, failure: ModelFailed, messages: str | list[Any], agent: Any) -> bool:
        """Shorten an agent's conversation that the model finds too long; say whether that was done.

        As CrewAI does it. Its executor would do the same for us, but then ends the task of an agent without
        tools with no result, as if that were one.
        """
        if failure.failure_code != "CONTEXT_OVERFLOW" or agent is None or isinstance(messages, str):
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
        self.signal.fail(ErrorInfo(code=last.failure_code, message=message))
        return ModelFailed(message, code=last.failure_code)

    def _tell(
        self, call_id: str | None, following: ReportedLLM, attempt: int, wait: float, failure: ModelFailed
    ) -> None:
        error = ErrorInfo(code=failure.failure_code, message=str(failure))
        publish_stream_event(self, AskedAgain(call_id, following.label, attempt, round(wait, 3), error))

    def _leave(self, llm: ReportedLLM, attempt: Attempt, failure: ModelFailed) -> None:
        """End a call that has failed in the trace, with what it took."""
        attempt.turned_down = failure.unpaid
        if attempt.usage is not None or attempt.answered:
            cost = attempt.cost
        else:
            cost = 0.0 if attempt.unpaid else llm.cost(None, datetime.now(UTC))
        error = ErrorInfo(code=failure.failure_code, message=str(failure))
        publish_stream_event(self, CallLeft(attempt.call_id, error, attempt.usage, cost))

    def supports_function_calling(self) -> bool:
        """Say whether tools are called natively: CrewAI asks once for a task, so all models must do it."""
        return all(llm.supports_function_calling() for llm in self._line)

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


class _GaveUp(Exception):
    """One model of the line has failed for good."""

    def __init__(self, failure: ModelFailed, call_id: str | None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.call_id = call_id
