"""Where CrewAI is overridden in what is not meant for it: all of it in this one place, each with why.

What is built on here is in no promise of CrewAI's. ``tests/worker/test_crewai_seams.py`` holds it, method by
method, and fails when a release changes it; it also fails where another module overrides or names one of
CrewAI's private parts. The rest of the room calls and overrides what has a name here.
"""

from __future__ import annotations

import asyncio
import json
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import crewai.agent.core
import crewai.task
import crewai.utilities.file_store
import crewai.utilities.task_output_storage_handler
from crewai import Agent, Crew, Task
from crewai.agents import agent_executor
from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState
from crewai.agents.parser import AgentFinish
from crewai.core.providers.human_input import ExecutorContext, SyncHumanInputProvider, set_provider
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.llm_events import LLMCallType
from crewai.events.types.tool_usage_events import ToolUsageErrorEvent, ToolUsageStartedEvent
from crewai.llms.base_llm import BaseLLM, get_current_call_id, llm_call_context
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.tasks.task_output import TaskOutput
from crewai.tools.tool_failure import ToolFailure, ToolFailureReason
from crewai.utilities.agent_utils import extract_tool_call_info
from crewai.utilities.planning_handler import CrewPlanner
from crewai.utilities.prompts import Prompts
from crewai.utilities.pydantic_schema_utils import generate_model_description
from openai.lib._parsing import type_to_response_format_param
from pydantic import BaseModel

from kasal_jupyter.events.event import RequestedToolCall
from kasal_jupyter.worker.models.answer_text import ending_of
from kasal_jupyter.worker.models.chat_answer import (
    FORM_TOOL,
    AnswerReader,
    ChatAnswer,
    ChatReader,
    ResponseReader,
)
from kasal_jupyter.worker.models.chat_body import NotAnAnswer, objects
from kasal_jupyter.worker.models.chat_calls import AskedCall

if TYPE_CHECKING:
    # At run time, each of them loads an SDK that most runs do not need.
    from crewai.llms.providers.anthropic.completion import AnthropicCompletion
    from crewai.llms.providers.azure.completion import AzureCompletion
    from crewai.llms.providers.bedrock.completion import BedrockCompletion
    from crewai.llms.providers.gemini.completion import GeminiCompletion
else:
    AnthropicCompletion = AzureCompletion = BedrockCompletion = GeminiCompletion = BaseLLM

T = TypeVar("T")
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


def keep_nothing() -> None:
    """Have CrewAI keep no record of its own of what tasks give, and no files that nobody has given it.

    It asks for such files some ten times in a run, in an event loop that it makes for each.
    """
    storage_handler: Any = crewai.utilities.task_output_storage_handler
    storage_handler.KickoffTaskOutputsSQLiteStorage = NoTaskOutputs
    files: Any = crewai.utilities.file_store
    files._file_store = None
    files._run_sync = _at_once


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Do what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    raise RuntimeError("CrewAI's store of files waits for something.")


def reset_event_bus() -> None:
    """Shut CrewAI's event bus down and leave it as it was before its first event.

    Its threads would not survive a fork, and a child would wait for them for ever. Its handlers go
    too: they are CrewAI's console and telemetry, which nobody here listens to.
    """
    crewai_event_bus.shutdown(wait=True)
    crewai_event_bus._shutting_down = False
    crewai_event_bus._executor_initialized = False
    crewai_event_bus._has_pending_events = False
    # CrewAI would keep every event of a run in memory, each piece of a streamed answer included,
    # for checkpoints that are never taken here.
    crewai_event_bus._record_event = _forget  # type: ignore[assignment,method-assign]


def _forget(_event: object) -> None:
    """Keep nothing."""


Review = Callable[[str, str | None], str]
"""Takes an agent's answer, and CrewAI's id of the task; gives what is to be different, or nothing."""


def review_by(review: Review) -> None:
    """Have a person's review of a task's result come from elsewhere, in this context; CrewAI reads stdin."""
    set_provider(_Reviewed(review))


class _Reviewed(SyncHumanInputProvider):
    def __init__(self, review: Review) -> None:
        self._review = review

    def handle_feedback(self, formatted_answer: AgentFinish, context: ExecutorContext) -> AgentFinish:
        """Have an answer reviewed, and the agent go on, until nothing is to be different any more."""
        answer, task = formatted_answer, context.task
        while feedback := self._review(
            said := self._get_output_string(answer), str(task.id) if task is not None else None
        ):
            # CrewAI would have the model change what it is not shown.
            context.messages.append({"role": "assistant", "content": said})
            context.messages.append(context._format_feedback_message(feedback))
            answer = context._invoke_loop()
        context.ask_for_human_input = False
        return answer


def once(llm: BaseLLM) -> Any:
    """Give an LLM's ``call`` without the retries that CrewAI wraps every one in."""
    call = type(llm).call
    return getattr(call, "__wrapped__", call)


def unwrapped(call: _Call) -> _Call:
    """Have CrewAI leave a method ``call`` or ``acall`` as it is written, without retries of its own."""
    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]
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
    """CrewAI's executor, without the class it makes for each of its instances, and without its engine.

    CrewAI derives a pydantic class for the initial state of every executor, which takes 8 ms of
    schema building, and then puts a plain ``AgentExecutorState`` in its place.

    Its engine for flows does each step in a thread, out of an event loop, and looks through all steps for the
    next: 7 ms a task. An executor's steps lead from one to the next, so they are just taken.
    """

    # A flow's steps are read from the class that defines them, and not from those above it.
    _flow_definition = AgentExecutor.flow_definition()

    # What a value says is not filled in again.
    _format_prompt = staticmethod(format_prompt)

    def _create_initial_state(self) -> AgentExecutorState:
        return AgentExecutorState()

    def _class_bound_methods(self) -> dict[Any, Callable[..., Any]]:
        return {}  # They are for the engine.

    def kickoff(self, *_args: Any, **_options: Any) -> None:
        """Take the steps; some do nothing once the agent has answered."""
        following = _following()
        steps = list(following[_START])
        while steps:
            name = steps.pop()
            # What a step sets in its context holds for that step.
            outcome = copy_context().run(getattr(self, name))
            # Whoever follows the step itself comes before whoever follows its outcome.
            steps += [*following.get(outcome, ()), *following.get(name, ())]

    async def kickoff_async(self, *args: Any, **options: Any) -> None:
        """Take the steps beside an event loop."""
        await asyncio.to_thread(self.kickoff, *args, **options)

    def _execute_single_native_tool_call(self, tool_call: Any) -> dict[str, Any]:
        """Call a tool; of a call that could not be read, tell the model so.

        CrewAI tells of such a call in no event, and leaves what is broken in the conversation, which vLLM and
        llama-server refuse from then on.
        """
        if not isinstance(tool_call, dict):
            return super()._execute_single_native_tool_call(tool_call)
        if not (fault := tool_call.get(FAULT)):
            token = among_equals.set((*among_equals.get(), *tool_call.get(_AMONG, ())))
            try:
                return super()._execute_single_native_tool_call(tool_call)
            finally:
                among_equals.reset(token)
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


_START = ""
"""What the first step of a flow follows."""


@cache
def _following() -> Mapping[Any, Sequence[str]]:
    """Give the steps of an executor by what they follow: another step, or the outcome of one."""
    following: dict[Any, list[str]] = {}
    for name, step in CrewExecutor.flow_definition().methods.items():
        for each in [_START] if step.listen is None else _alternatives(step.listen):
            following.setdefault(each, []).append(name)
    return following


def _alternatives(condition: Any) -> list[str]:
    """Give each of what a step may follow."""
    return [condition] if isinstance(condition, str) else [str(each) for each in condition["or"]]


FAULT = "kasal_fault"
"""Where a tool call says why its arguments could not be read; nobody sends it on."""

WRITTEN = "kasal_written"
"""Where a tool call has its arguments as the model wrote them."""


_AMONG = "kasal_among"
"""Where one of several equal tool calls of an answer has its number."""

among_equals: ContextVar[tuple[int, ...]] = ContextVar("kasal_among_equals", default=())
"""Which of several equal calls this thread makes; they are made at the same time, in any order."""


# -- agents, crews and plans -----------------------------------------------------------------------------


class SeamedAgent(Agent):
    """CrewAI's agent, with names for two of its steps."""

    executor_class: type[AgentExecutor] = CrewExecutor

    def reminder(self, task: Any, context: str | None) -> str:
        """Give what is added to the prompt of a task."""
        del task, context
        return ""

    def within(self, seconds: int, work: Callable[[], Any]) -> Any:
        """Do a task that has a time limit."""
        del seconds
        return work()

    def _prepare_task_execution(self, task: Any, context: str | None) -> str:
        # Where CrewAI appends what its own memory gives.
        prompt = super()._prepare_task_execution(task, context)
        return prompt + self.reminder(task, context)

    def _execute_with_timeout(self, task_prompt: str, task: Any, timeout: int) -> Any:
        # CrewAI waits for what is over its time to its end, however long it takes.
        return self.within(timeout, lambda: self._execute_without_timeout(task_prompt, task))


class SeamedCrew(Crew):
    """CrewAI's crew, with a name for how it plans; what was skipped is in no task's context."""

    @abstractmethod
    def plan(self) -> None:
        """Plan before the tasks; CrewAI would have an agent with a client of its own do so."""

    def _handle_crew_planning(self) -> None:
        self.plan()

    @staticmethod
    def _get_context(task: Task, task_outputs: list[TaskOutput]) -> str:
        # A skipped task's output is empty, and would be a pair of dividers in the prompt.
        said = [output for output in task_outputs if output.raw]
        return Crew._get_context(task, said)


class PlannersTexts(CrewPlanner):
    """What CrewAI's planner is told."""

    def planner(self) -> Agent:
        """Give who plans, for its texts."""
        return self._create_planning_agent()

    def planners_task(self, agent: Agent, tasks: str) -> Task:
        """Give the task of planning these, as they are described."""
        return self._create_planner_task(agent, tasks)


# -- models ------------------------------------------------------------------------------------------------


class ObservedLLM(BaseLLM):
    """A model of one provider, each step of whose calls has a name to override."""

    @contextmanager
    def beginning(self, messages: str | list[Any], call_id: str) -> Iterator[None]:
        """Stand around the event that tells of a call's beginning."""
        del messages, call_id
        yield

    def sending(self) -> None:
        """Take notice of a request that is about to be made."""

    def go_on(self) -> None:
        """Have a look, in the middle of an answer, whether somebody waits for it still."""

    def shown(self, piece: str) -> str:
        """Give what of a piece of an answer is shown as it comes."""
        return piece

    def cut_at_stops(self, text: str, cut: Callable[[str], str]) -> str:
        """Give an answer up to the words that it is to stop at."""
        return cut(text)

    def ending(self, event: dict[str, Any]) -> AbstractContextManager[None]:
        """Stand around the event that tells of an answer, and say what is in it."""
        del event
        return nullcontext()

    def tells_of_failures(self) -> bool:
        """Say whether CrewAI's event tells of the failure that is being handled."""
        return True

    def count(self, usage: Any) -> None:
        """Add up the tokens of an answer, in :attr:`counted`."""
        super()._track_token_usage_internal(usage)

    @property
    def counted(self) -> dict[str, int]:
        """The tokens of all answers, under CrewAI's names."""
        return self._token_usage

    @property
    def streams(self) -> bool:
        """Whether answers are asked for in pieces."""
        return bool(self._effective_stream())

    @property
    def most_tokens(self) -> int | None:
        """The most tokens of an answer; None where nothing is set."""
        most = self._effective_max_tokens()
        return int(most) if most else None

    def show_piece(self, piece: str, **asked_by: Any) -> None:
        """Tell of a piece of an answer as it is."""
        super()._emit_stream_chunk_event(chunk=piece, **asked_by)

    def _build_async_client(self) -> Any:
        return None  # Nothing here is asynchronous, and a client takes 20 ms to make.

    def _emit_call_started_event(self, messages: str | list[Any], *args: Any, **kwargs: Any) -> None:
        with self.beginning(messages, get_current_call_id()):
            super()._emit_call_started_event(messages, *args, **kwargs)

    def _invoke_before_llm_call_hooks(self, *args: Any, **kwargs: Any) -> bool:
        # The last that CrewAI does before a request.
        goes_on = super()._invoke_before_llm_call_hooks(*args, **kwargs)
        self.sending()
        return goes_on

    def _emit_stream_chunk_event(self, *args: Any, **event: Any) -> None:
        # The only way into an SDK's loop over a stream: out of it, the connection is closed.
        self.go_on()
        if event.get("tool_call") is None and not args:
            event["chunk"] = self.shown(event["chunk"])
            if not event["chunk"]:
                return
        super()._emit_stream_chunk_event(*args, **event)

    def _apply_stop_words(self, content: str) -> str:
        return self.cut_at_stops(content, super()._apply_stop_words)

    def _emit_call_failed_event(self, *args: Any, **kwargs: Any) -> None:
        # Of what fails, whoever has asked tells, with what it took; CrewAI does so twice for some.
        if self.tells_of_failures():
            super()._emit_call_failed_event(*args, **kwargs)

    def _track_token_usage_internal(self, usage_data: Any) -> None:
        # CrewAI adds up whatever a provider says.
        self.count(usage_data)

    def _emit_call_completed_event(self, *args: Any, **event: Any) -> None:
        # CrewAI's providers pass everything by name.
        with self.ending(event):
            super()._emit_call_completed_event(*args, **event)


class AnsweringLLM(ObservedLLM):
    """A model whose answers are read here, or made here, and not by CrewAI.

    CrewAI loses the text and the tool calls of a piece that counts tokens, takes parallel calls for one,
    knows no refusals and no reasoning, drops what is said beside tool calls, and asks again, unseen, where it
    does not understand an answer.
    """

    def hear(self, answer: ChatAnswer) -> None:
        """Take down of an answer what CrewAI has no place for."""

    @contextmanager
    def asked(self, messages: str | list[Any], **request: Any) -> Iterator[list[Any]]:
        """Stand around a call, as CrewAI's providers do; give the messages in one form."""
        written: list[Any] = self._format_messages(messages)
        asked_by = {name: request.get(name) for name in ("from_task", "from_agent")}
        with llm_call_context():
            self._emit_call_started_event(messages=messages, **request)
            try:
                self._invoke_before_llm_call_hooks(written, asked_by["from_agent"])
                yield written
            except Exception as error:
                self._emit_call_failed_event(str(error), **asked_by)
                raise

    def read(
        self,
        reader: AnswerReader,
        chunks: Iterable[bytes],
        messages: list[Any],
        *,
        address: str,
        form: bool = False,
        **asked_by: Any,
    ) -> Any:
        """Read a body, tell of it as it comes, and give what it says, as CrewAI has it.

        Raises
        ------
        NotAnAnswer
            It is none; with the address where it was sent.
        """
        try:
            for piece in reader.pieces(chunks):
                self.tell_piece(piece, **asked_by)
        except NotAnAnswer as error:
            error.address = address
            raise
        answer = reader.answer()
        return self.tell(answer.as_form() if form else answer, messages, **asked_by)

    def tell(self, answer: ChatAnswer, messages: list[Any], **asked_by: Any) -> Any:
        """Tell CrewAI of an answer as its own provider would; give it as that would."""
        self.hear(answer)
        about: dict[str, Any] = {
            **asked_by,
            "messages": messages,
            "usage": answer.usage,
            "finish_reason": answer.finish_reason,
            "response_id": answer.id,
        }
        self._track_token_usage_internal(answer.usage)
        if answer.calls:
            calls = [_tool_call(call) for call in answer.calls]
            if ending_of(answer.finish_reason) == "length":
                calls[-1] = _cut_off(answer.calls[-1])
            self._emit_call_completed_event(response=calls, call_type=LLMCallType.TOOL_CALL, **about)
            return calls
        text = self._apply_stop_words(answer.text)
        self._emit_call_completed_event(response=text, call_type=LLMCallType.LLM_CALL, **about)
        # An object is taken out of the text by whoever has asked: servers put words and fences around it.
        return self._invoke_after_llm_call_hooks(messages, text, asked_by.get("from_agent"))

    def tell_piece(self, piece: str, **asked_by: Any) -> None:
        """Tell of a piece of an answer."""
        if piece and self._effective_stream():
            self._emit_stream_chunk_event(chunk=piece, **asked_by)
        else:
            self.go_on()


class OpenAIAnswers(AnsweringLLM, OpenAICompletion):
    """CrewAI's OpenAI provider, with one request a call, and answers that are read as servers send them."""

    def client_options(self, address: str | None) -> dict[str, Any]:
        """Give what the client is made with besides."""
        del address
        return {}

    def refine(self, params: dict[str, Any], tools: list[dict[str, Any]] | None) -> dict[str, Any]:
        """Give what is sent to chat completions, of what CrewAI would send."""
        del tools
        return params

    def refused(self, error: Exception) -> None:
        """Look at what a server has answered with in the place of an answer."""

    def wants_no_effort(self, error: Exception) -> bool:
        """Say whether a model takes no tools unless it is told not to reason: newer ones of OpenAI's."""
        return self._rejects_reasoning_effort_with_tools(error)

    def wants_responses(self, error: Exception) -> bool:
        """Say whether a model answers the Responses API alone."""
        return self._is_responses_only_error(error)

    def _get_client_params(self) -> dict[str, Any]:
        params = super()._get_client_params()
        return params | self.client_options(params.get("base_url"))

    def _prepare_completion_params(
        self, messages: list[Any], tools: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        return self.refine(super()._prepare_completion_params(messages, tools), tools)

    def _prepare_responses_params(
        self,
        messages: list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> dict[str, Any]:
        params = super()._prepare_responses_params(messages, tools, response_model)
        params.pop("seed", None)  # Which this API does not know.
        return params

    def _call_completions(self, *args: Any, **request: Any) -> Any:
        return self._ask(self._completions, *args, **request)

    def _call_responses(self, *args: Any, **request: Any) -> Any:
        return self._ask(self._responses, *args, **request)

    def _completions(
        self, messages: list[Any], tools: list[dict[str, Any]] | None, form: type[BaseModel] | None
    ) -> tuple[Any, dict[str, Any], Callable[..., AnswerReader]]:
        """Give the API, what it is sent, and what reads its answers."""
        params = self._prepare_completion_params(messages=messages, tools=tools)
        if form is not None:
            params["response_format"] = type_to_response_format_param(form)
        return self._get_sync_client().chat.completions, params, ChatReader

    def _responses(
        self, messages: list[Any], tools: list[dict[str, Any]] | None, form: type[BaseModel] | None
    ) -> tuple[Any, dict[str, Any], Callable[..., AnswerReader]]:
        params = self._prepare_responses_params(messages, tools, form)
        return self._get_sync_client().responses, params, ResponseReader

    def _ask(  # noqa: PLR0917 - CrewAI's signature
        self,
        prepare: Callable[..., tuple[Any, dict[str, Any], Callable[..., AnswerReader]]],
        messages: list[Any],
        tools: list[dict[str, Any]] | None = None,
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        del available_functions  # Tools are called by the agent's executor alone.
        api, params, made = prepare(messages, tools, response_model)
        reader = made(params.get("tools") or (), len(messages))
        asked_by: dict[str, Any] = {"from_task": from_task, "from_agent": from_agent}
        try:
            with api.with_streaming_response.create(**params) as response:
                address = str(response.http_request.url)
                return self.read(reader, response.iter_bytes(), messages, address=address, **asked_by)
        except Exception as error:
            self.refused(error)
            raise


class AnthropicAnswers(AnsweringLLM, AnthropicCompletion):
    """CrewAI's Anthropic provider, with answers that are read here."""

    @abstractmethod
    def client_options(self) -> dict[str, Any]:
        """Give what the client is made with besides."""

    def _get_client_params(self, *args: Any, **options: Any) -> dict[str, Any]:
        params: dict[str, Any] = super()._get_client_params(*args, **options)
        return params | self.client_options()

    @abstractmethod
    def reader(self, params: Mapping[str, Any]) -> AnswerReader:
        """Give what reads the answer to a request."""

    def _format_messages_for_anthropic(self, messages: str | list[Any]) -> Any:
        formatted, system = super()._format_messages_for_anthropic(messages)
        # CrewAI leaves out what was said beside tool calls.
        _say_beside(
            messages, formatted, lambda block: block.get("id"), lambda text: {"type": "text", "text": text}
        )
        return formatted, system

    def _handle_completion(
        self,
        params: dict[str, Any],
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: Any | None = None,
    ) -> Any:
        del available_functions  # Tools are called by the agent's executor alone.
        client = self._get_sync_client()
        api, reader = client.messages, self.reader(params)
        if response_model is not None:
            # As CrewAI asks for an object: by a tool, or by what newer models have for it.
            from anthropic import transform_schema
            from crewai.llms.providers.anthropic import completion

            schema = transform_schema(response_model.model_json_schema())
            if completion._supports_native_structured_outputs(self.model):
                api = client.beta.messages
                params["betas"] = [completion.ANTHROPIC_STRUCTURED_OUTPUTS_BETA]
                params["extra_body"] = {"output_format": {"type": "json_schema", "schema": schema}}
            else:
                tool = {"name": FORM_TOOL, "description": _FORM_TOOL, "input_schema": schema}
                params["tools"], params["tool_choice"] = [tool], {"type": "tool", "name": FORM_TOOL}
        with api.with_streaming_response.create(**params) as response:
            return self.read(
                reader,
                response.iter_bytes(),
                params["messages"],
                address=str(response.http_request.url),
                form=response_model is not None,
                from_task=from_task,
                from_agent=from_agent,
            )

    _handle_streaming_completion = _handle_completion


class AzureAnswers(AnsweringLLM, AzureCompletion):
    """CrewAI's Azure provider, with answers that are read as OpenAI's servers' are."""

    def refine(self, params: dict[str, Any]) -> dict[str, Any]:
        """Give what is sent, of what CrewAI would send."""
        return params

    def client_options(self) -> dict[str, Any]:
        """Give what the client is made with besides."""
        return {}

    def _prepare_completion_params(self, *args: Any, **kwargs: Any) -> Any:
        params: Any = super()._prepare_completion_params(*args, **kwargs)
        return self.refine(params)

    def _make_client_kwargs(self) -> dict[str, Any]:
        return super()._make_client_kwargs() | self.client_options()

    def _handle_completion(
        self,
        params: Any,
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        # Tools are called by the agent's executor alone; an object is read by whoever has asked.
        del available_functions, response_model
        reader = ChatReader([tool.as_dict() for tool in params.get("tools") or ()], len(params["messages"]))
        said: list[Any] = []

        def read(chunks: Iterable[bytes], address: str) -> None:
            asked_by: dict[str, Any] = {"from_task": from_task, "from_agent": from_agent}
            said.append(self.read(reader, chunks, params["messages"], address=address, **asked_by))

        def take(answered: Any) -> None:
            # Before the SDK, which has no other way to what a server has sent.
            response = answered.http_response
            if response.status_code != 200:
                return
            if params.get("stream"):
                streams.append(response)
            else:
                read([response.read()], str(response.request.url))

        streams: list[Any] = []
        self._get_sync_client().complete(**params, raw_response_hook=take)
        for response in streams:
            with response:
                read(response.iter_bytes(), str(response.request.url))
        return said[0]

    _handle_streaming_completion = _handle_completion


class BedrockAnswers(AnsweringLLM, BedrockCompletion):
    """CrewAI's Bedrock provider, with answers that are read here: it loses reasoning, and streamed calls."""

    @abstractmethod
    def client(self) -> Any:
        """Make the client."""

    @property
    def the_client(self) -> Any:
        """The client, made when it is first needed."""
        return self._get_sync_client()

    @abstractmethod
    def bodies(self, request: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Ask, and give what comes: the events of a stream, or the whole."""

    @abstractmethod
    def reader(self, request: Mapping[str, Any]) -> AnswerReader:
        """Give what reads the answer to a request."""

    def _build_sync_client(self) -> Any:
        return self.client()

    def _format_messages_for_converse(self, messages: str | list[Any]) -> Any:
        formatted, system = super()._format_messages_for_converse(messages)
        # CrewAI leaves out what was said beside tool calls.
        _say_beside(
            messages,
            formatted,
            lambda block: block.get("toolUse", {}).get("toolUseId"),
            lambda text: {"text": text},
        )
        return formatted, system

    def _handle_converse(  # noqa: PLR0917 - CrewAI's signature
        self,
        messages: list[Any],
        body: Any,
        available_functions: Any | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        del available_functions  # Tools are called by the agent's executor alone.
        request: dict[str, Any] = {"modelId": self.model_id, "messages": messages, **body}
        if response_model is not None:
            # As CrewAI asks for an object: by a tool, which must be called where there is no other.
            schema = generate_model_description(response_model)["json_schema"]["schema"]
            about = {"name": FORM_TOOL, "description": _FORM_TOOL, "inputSchema": {"json": schema}}
            others = list((request.get("toolConfig") or {}).get("tools") or ())
            choice = {} if others else {"toolChoice": {"tool": {"name": FORM_TOOL}}}
            request["toolConfig"] = {"tools": [*others, {"toolSpec": about}], **choice}
        reader = self.reader(request)
        asked_by = {"from_task": from_task, "from_agent": from_agent}
        for each in self.bodies(request):
            self.tell_piece(reader.take(each), **asked_by)
        answer = reader.answer()
        return self.tell(answer.as_form() if response_model is not None else answer, messages, **asked_by)

    _handle_streaming_converse = _handle_converse


class GeminiAnswers(ObservedLLM, GeminiCompletion):
    """CrewAI's Gemini provider; what its SDK gets is read here first.

    CrewAI's own reader stays above it: it gives the SDK's own parts back to the model, with their signatures.
    """

    def look_at(self, response: Any, reason: str | None) -> str | None:
        """Look at an answer, or a piece of one; give why it ended."""
        del response
        return reason

    def sound(self, body: dict[str, Any]) -> dict[str, Any]:
        """Give a body without what the SDK would refuse it for."""
        return body

    def refine(self, config: Any) -> Any:
        """Give what is sent, of what CrewAI would send."""
        return config

    def _prepare_generation_config(self, *args: Any, **kwargs: Any) -> Any:
        return self.refine(super()._prepare_generation_config(*args, **kwargs))

    def _extract_finish_reason_and_id(self, response: Any) -> tuple[str | None, str | None]:  # type: ignore[override]
        # CrewAI looks here at every answer, and at every piece of one.
        reason, response_id = super()._extract_finish_reason_and_id(response)
        return self.look_at(response, reason), response_id

    def _handle_completion(self, *args: Any) -> Any:
        return super()._handle_completion(*args[:5])

    def _handle_streaming_completion(self, *args: Any) -> Any:
        # Without the form of an object, which is taken out of the text by whoever has asked.
        return super()._handle_streaming_completion(*args[:5])

    def _initialize_client(self, use_vertexai: bool = False) -> Any:
        client: Any = super()._initialize_client(use_vertexai)
        # Between the wire and the SDK's types, which take a web page for an empty answer.
        api = client._api_client
        from google.genai.types import HttpResponse

        def bodies(chunks: Iterable[bytes], request: Any) -> Iterator[dict[str, Any]]:
            try:
                for body, streamed in objects(chunks):
                    yield self.sound(body if streamed else _gemini(body))
            except NotAnAnswer as error:
                error.address = request.url
                raise

        def whole(method: str, path: str, body: Any, options: Any = None) -> Any:
            request = api._build_request(method, path, body, options)
            response = api._request(request, options, stream=False)
            said = next(bodies([response.response_stream[0].encode()], request))
            return HttpResponse(headers=response.headers, body=json.dumps(said))

        def streamed(method: str, path: str, body: Any, options: Any = None) -> Iterator[Any]:
            request = api._build_request(method, path, body, options)
            response = api._request(request, options, stream=True)
            with closing(response.response_stream) as stream:
                for said in bodies(stream.iter_bytes(), request):
                    yield HttpResponse(headers=response.headers, body=json.dumps(said))

        api.request, api.request_streamed = whole, streamed
        return client


def _gemini(body: dict[str, Any]) -> dict[str, Any]:
    if not body.keys() & {"candidates", "promptFeedback"}:
        raise NotAnAnswer("it has no candidates in it, so it describes no model's answer")
    return body


_FORM_TOOL = "Gives the answer, in the form that it was asked for."


def _say_beside(
    messages: str | list[Any],
    formatted: list[Any],
    id_of: Callable[[Any], str | None],
    block_of: Callable[[str], dict[str, Any]],
) -> None:
    """Put the texts of messages with tool calls before the calls, where a provider's form has lost them."""
    beside = {
        call["id"]: message["content"]
        for message in messages
        if isinstance(message, dict)
        and isinstance(message.get("content"), str)
        and message["content"].strip()
        for call in (message.get("tool_calls") or ())[:1]
    }
    for message in formatted:
        blocks = message.get("content")
        if message.get("role") == "assistant" and isinstance(blocks, list) and blocks:
            first = blocks[0] if isinstance(blocks[0], dict) else {}
            if text := beside.get(id_of(first) or ""):
                blocks.insert(0, block_of(text))


def _tool_call(call: AskedCall) -> dict[str, Any]:
    if call.fault is not None:
        return _faulty_call(call, call.fault)
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function, WRITTEN: call.written}


def _cut_off(call: AskedCall) -> dict[str, Any]:
    """Give the last call of an answer that was cut off: its arguments may be an object all the same."""
    fault = f"The arguments of {call.name} are cut off, since the answer was too long, so it was not called."
    return _faulty_call(call, fault)


def _faulty_call(call: AskedCall, fault: str) -> dict[str, Any]:
    """Give a tool call that the executor does not make: it tells the model why."""
    function = {"name": call.name, "arguments": "{}"}
    return {"id": call.id, "type": "function", "function": function, WRITTEN: call.written, FAULT: fault}


def requested_calls(response: Any) -> Iterator[RequestedToolCall]:
    """Give an answer's tool calls, in whatever form CrewAI has them."""
    for call in response if isinstance(response, list) else ():
        if found := extract_tool_call_info(call):
            call_id, name, arguments = found
            read = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
            told = RequestedToolCall(id=str(call_id or ""), name=name, arguments=read)
            if isinstance(call, dict):
                told["arguments"] = written = call.get(WRITTEN, read)
                if written != read:
                    told["read"] = read
                if fault := call.get(FAULT):
                    told["fault"] = fault
            yield told


def recorded_calls(told: Iterable[RequestedToolCall]) -> list[dict[str, Any]]:
    """Give tool calls as CrewAI has them, of what was told of them."""
    made = []
    for call in told:
        function = {"name": call["name"], "arguments": call.get("read", call["arguments"])}
        made.append({"id": call["id"], "type": "function", "function": function, WRITTEN: call["arguments"]})
        if fault := call.get("fault"):
            made[-1][FAULT] = fault
    return made


def number_equals(calls: Iterable[Any]) -> None:
    """Tell the tool calls of one answer apart that are equal but for their ids."""
    seen: Counter[str] = Counter()
    for call in calls:
        if isinstance(call, dict) and (function := call.get("function")):
            what = json.dumps(function, sort_keys=True, default=str)
            if seen[what]:
                call[_AMONG] = (seen[what],)
            seen[what] += 1


# -- how work ends ---------------------------------------------------------------------------------------


def end_by(object_of: Callable[..., Any], last_answer: Callable[..., Any]) -> None:
    """Have CrewAI make a task's object, and an answer after the last turn, as ``worker/crew/task`` does.

    Both are looked up by their names in the modules that call them.
    """
    task: Any = crewai.task
    task.convert_to_model = object_of
    executor: Any = agent_executor
    executor.handle_max_iterations_exceeded = last_answer
