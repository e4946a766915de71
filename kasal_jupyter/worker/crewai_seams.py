"""Where CrewAI is overridden in what is not meant for it: all of it in this one place, each with why.

What is built on here is in no promise of CrewAI's. ``tests/worker/test_crewai_seams.py`` holds it, method by
method, and fails when a release changes it. What is overridden of other providers' classes than OpenAI's
stands with each of them (``anthropic_llm`` …), since they load an SDK of their own; the same test holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

import crewai.agent.core
import crewai.task
import crewai.utilities.task_output_storage_handler
from crewai.agents import agent_executor
from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.llm_events import LLMCallType
from crewai.events.types.tool_usage_events import ToolUsageErrorEvent, ToolUsageStartedEvent
from crewai.llms.base_llm import BaseLLM
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tools.tool_failure import ToolFailure, ToolFailureReason
from crewai.utilities.prompts import Prompts
from openai.lib._parsing import type_to_response_format_param
from pydantic import BaseModel

from kasal_jupyter.worker.chat_answer import ChatAnswer, ChatReader
from kasal_jupyter.worker.chat_body import NotAnAnswer
from kasal_jupyter.worker.chat_calls import AskedCall
from kasal_jupyter.worker.token_usage import openai_counts

_Call = TypeVar("_Call", bound=Callable[..., Any])


class NoTaskOutputs:
    """Stands in for CrewAI's own record of task outputs, an SQLite file that all crews lock in turn.

    The run's events hold the same and more, and two crews at once need not wait for each other.
    """

    def add(self, *_args: object, **_kwargs: object) -> None:
        """Keep nothing."""

    def update(self, *_args: object, **_kwargs: object) -> None:
        """Keep nothing."""

    def load(self) -> list[dict[str, object]]:
        """Have nothing; CrewAI takes ``None`` for an error."""
        return []

    def delete_all(self) -> None:
        """Have nothing to delete."""


def keep_no_task_outputs() -> None:
    """Have CrewAI keep no record of its own of what tasks give."""
    storage_handler: Any = crewai.utilities.task_output_storage_handler
    storage_handler.KickoffTaskOutputsSQLiteStorage = NoTaskOutputs


def reset_event_bus() -> None:
    """Shut CrewAI's event bus down and leave it as it was before its first event.

    Its threads would not survive a fork, and a child would wait for them for ever. Its handlers go
    too: they are CrewAI's console and telemetry, which nobody here listens to.
    """
    crewai_event_bus.shutdown(wait=True)
    crewai_event_bus._shutting_down = False  # noqa: SLF001
    crewai_event_bus._executor_initialized = False  # noqa: SLF001
    crewai_event_bus._has_pending_events = False  # noqa: SLF001
    # CrewAI would keep every event of a run in memory, each piece of a streamed answer included,
    # for checkpoints that are never taken here.
    crewai_event_bus._record_event = _forget  # type: ignore[assignment,method-assign]  # noqa: SLF001


def _forget(_event: object) -> None:
    """Keep nothing."""


def once(llm: BaseLLM) -> Any:
    """Give an LLM's ``call`` without the retries that CrewAI wraps every one in."""
    call = type(llm).call
    return getattr(call, "__wrapped__", call)


def unwrapped(call: _Call) -> _Call:
    """Have CrewAI leave a method ``call`` or ``acall`` as it is written, without retries of its own."""
    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]  # noqa: SLF001
    return call


# -- prompts -------------------------------------------------------------------------------------------

_KEPT = "\ue002"
"""Stands behind a brace of an agent's own text, so that nothing more is filled in there."""

_AGENTS = re.compile(r"\{(goal|role|backstory)\}")
_TASKS = re.compile(r"\{(\ue002)?(input|tool_names|tools)\}")
_UNFILLED = SimpleNamespace(goal="{goal}", role="{role}", backstory="{backstory}")


class FilledOnce(Prompts):
    """CrewAI's prompts, in which what an agent's texts say is no place for more.

    CrewAI replaces ``{goal}``, ``{role}`` and ``{backstory}`` one after the other, and then ``{input}``,
    ``{tool_names}`` and ``{tools}`` in all of that: a goal, an input or a result that has one of these words
    in braces would be given another text in its place.
    """

    def _build_prompt(self, *args: Any, **templates: Any) -> str:
        unfilled = self.model_copy(update={"agent": _UNFILLED})
        template = super(FilledOnce, unfilled)._build_prompt(*args, **templates)
        return _AGENTS.sub(lambda found: self._text(found[1]), template)

    def _text(self, name: str) -> str:
        text: str = getattr(self.agent, name)
        return _TASKS.sub(lambda found: f"{{{_KEPT}{found[2]}}}", text)


def format_prompt(prompt: str, inputs: dict[str, str]) -> str:
    """Fill a task and the names of the tools into a prompt, once; for ``AgentExecutor._format_prompt``."""
    return _TASKS.sub(lambda found: f"{{{found[2]}}}" if found[1] else inputs[found[2]], prompt)


_core: Any = crewai.agent.core
_core.Prompts = FilledOnce


# -- the executor --------------------------------------------------------------------------------------


class CrewExecutor(AgentExecutor):
    """CrewAI's executor, without the class it makes for each of its instances.

    CrewAI derives a pydantic class for the initial state of every executor, which takes 8 ms of
    schema building, and then puts a plain ``AgentExecutorState`` in its place.
    """

    # A flow's steps are read from the class that defines them, and not from those above it.
    _flow_definition = AgentExecutor.flow_definition()

    # What a value says is not filled in again.
    _format_prompt = staticmethod(format_prompt)

    def _create_initial_state(self) -> AgentExecutorState:
        return AgentExecutorState()

    def _execute_single_native_tool_call(self, tool_call: Any) -> dict[str, Any]:
        """Call a tool; of a call that could not be read, tell the model so.

        CrewAI tells of such a call in no event, and leaves what is broken in the conversation, which vLLM and
        llama-server refuse from then on.
        """
        if not (isinstance(tool_call, dict) and (fault := tool_call.get(FAULT))):
            return super()._execute_single_native_tool_call(tool_call)
        name = tool_call["function"]["name"]
        about: dict[str, Any] = {
            "tool_name": name,
            "tool_args": {"input": tool_call[WRITTEN]},
            "from_agent": self.agent,
            "from_task": self.task,
            "agent_key": getattr(self.agent, "key", "unknown"),
        }
        crewai_event_bus.emit(self, event=ToolUsageStartedEvent(**about))
        crewai_event_bus.emit(self, event=ToolUsageErrorEvent(**about, error=ValueError(fault)))
        failure = ToolFailure(message=fault, reason=ToolFailureReason.INVALID_INPUT, code="json_decode_error")
        return {
            "call_id": tool_call["id"],
            "func_name": name,
            "result": fault,
            "from_cache": False,
            "original_tool": None,
            "tool_failure": failure,
        }


FAULT = "kasal_fault"
"""Where a tool call says why its arguments could not be read; nobody sends it on."""

WRITTEN = "kasal_written"
"""Where a tool call has its arguments as the model wrote them."""


class ChatAnswers(BaseLLM):
    """Tells CrewAI of an answer as its own provider would, with what was read of it here."""

    def _tell(
        self,
        answer: ChatAnswer,
        messages: list[Any],
        **asked_by: Any,
    ) -> Any:
        self._hear(answer)
        about: dict[str, Any] = {
            **asked_by,
            "messages": messages,
            "usage": openai_counts(answer.usage),
            "finish_reason": answer.finish_reason,
            "response_id": answer.id,
        }
        self._track_token_usage_internal(about["usage"])
        if answer.calls:
            calls = [_tool_call(call) for call in answer.calls]
            self._emit_call_completed_event(response=calls, call_type=LLMCallType.TOOL_CALL, **about)
            return calls
        text = self._apply_stop_words(answer.text)
        self._emit_call_completed_event(response=text, call_type=LLMCallType.LLM_CALL, **about)
        # An object is taken out of the text by whoever has asked: servers put words and fences around it.
        return self._invoke_after_llm_call_hooks(messages, text, asked_by.get("from_agent"))

    def _tell_piece(self, piece: str, **asked_by: Any) -> None:
        if piece and self._effective_stream():
            self._emit_stream_chunk_event(chunk=piece, **asked_by)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Have a look, in the middle of an answer, whether somebody waits for it still."""

    def _hear(self, answer: ChatAnswer) -> None:
        """Take down of an answer what CrewAI has no place for."""


class OpenAIAnswers(ChatAnswers, OpenAICompletion):
    """CrewAI's OpenAI provider, with one request a call, and an answer that is read as servers send it.

    CrewAI loses the text and the tool calls of a piece that counts tokens, takes parallel calls for one,
    knows no refusals and no reasoning, and asks again, unseen, where it does not understand an answer.
    """

    def _call_completions(  # noqa: PLR0917 - CrewAI's signature
        self,
        messages: list[Any],
        tools: list[dict[str, Any]] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        del available_functions  # Tools are called by the agent's executor alone.
        params = self._prepare_completion_params(messages=messages, tools=tools)
        if response_model is not None:
            params["response_format"] = type_to_response_format_param(response_model)
        reader = ChatReader(params.get("tools") or (), len(messages))
        completions = self._get_sync_client().chat.completions
        with completions.with_streaming_response.create(**params) as response:
            try:
                for piece in reader.pieces(response.iter_bytes()):
                    self._tell_piece(piece, from_task=from_task, from_agent=from_agent)
            except NotAnAnswer as error:
                error.address = str(response.http_request.url)
                raise
        return self._tell(reader.answer(), messages, from_task=from_task, from_agent=from_agent)


def _tool_call(call: AskedCall) -> dict[str, Any]:
    if call.fault is not None:
        return faulty_call(call.id, call.name, call.written, call.fault)
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function, WRITTEN: call.written}


def faulty_call(call_id: str, name: str, written: str, fault: str) -> dict[str, Any]:
    """Give a tool call that the executor does not make: it tells the model why."""
    function = {"name": name, "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function, WRITTEN: written, FAULT: fault}


# -- how work ends ---------------------------------------------------------------------------------------


def end_by(object_of: Callable[..., Any], last_answer: Callable[..., Any]) -> None:
    """Have CrewAI make a task's object, and an answer after the last turn, as ``worker/outcome`` does.

    Both are looked up by their names in the modules that call them.
    """
    task: Any = crewai.task
    task.convert_to_model = object_of
    executor: Any = agent_executor
    executor.handle_max_iterations_exceeded = last_answer
