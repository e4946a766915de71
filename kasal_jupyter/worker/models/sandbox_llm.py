"""The sandbox model as one of CrewAI's LLMs."""

from __future__ import annotations

import re
import threading
from datetime import datetime
from typing import Any, ClassVar

from crewai.context import get_current_task_id
from crewai.utilities.agent_utils import convert_tools_to_openai_schema
from pydantic import BaseModel, Field, PrivateAttr

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models.sandbox import CONTEXT_WINDOW
from kasal_jupyter.models.sandbox.model import (
    GUARDRAIL,
    SandboxReply,
    SandboxRequest,
    answer,
    count_tokens,
    message_text,
)
from kasal_jupyter.schemas.agents import SandboxSettings
from kasal_jupyter.worker.crewai_seams import AnsweringLLM
from kasal_jupyter.worker.models.chat_answer import ChatAnswer
from kasal_jupyter.worker.models.chat_calls import AskedCall
from kasal_jupyter.worker.models.llm import ReportedLLM
from kasal_jupyter.worker.process.failures import ModelFailed


class SandboxLLM(ReportedLLM, AnsweringLLM):
    """Answers by :mod:`kasal_jupyter.models.sandbox.model`, through CrewAI's normal paths.

    Attributes
    ----------
    settings
        Latency, failures, and how tools are called.
    inputs
        The run's inputs.
    """

    leavable: ClassVar[bool] = False

    llm_type: str = "sandbox"
    settings: SandboxSettings = Field(default_factory=SandboxSettings)
    inputs: dict[str, Any] = Field(default_factory=dict)

    # Not fields: pydantic would copy the dictionary, which is still being filled while the crew is built.
    _answer_schemas: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)
    _calls: int = PrivateAttr(default=0)
    _refused: dict[str | None, int] = PrivateAttr(default_factory=dict)
    _counting: threading.Lock = PrivateAttr(default_factory=threading.Lock)

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
        """Answer; see :meth:`BaseLLM.call`."""
        with self._counting:
            self._calls += 1
            number = self._calls
        asked_by = {"from_task": from_task, "from_agent": from_agent}
        request = {"tools": tools, "callbacks": callbacks, "available_functions": available_functions}
        with self.asked(messages, **request, **asked_by) as written:
            self.signal.sleep(self.settings.latency)
            self._fail_where_set(number)
            asked = SandboxRequest(
                messages=written,
                tools=tools or self._react_tools(from_agent),
                response_schema=self._answer_schema(from_task, response_model),
                inputs=self.inputs,
                settings=self.settings,
                refused=self._refuses(written),
            )
            reply = answer(asked)
            for piece in re.findall(r"\S+\s*", reply.text):
                self.tell_piece(piece, **asked_by)
            said = self.tell(_answer(reply, asked.prompt_tokens, streamed=self.streams), written, **asked_by)
        if response_model is not None and not reply.calls:
            return response_model.model_validate_json(reply.text)
        return said

    def expect_answers(self, schemas: dict[str, dict[str, Any]]) -> None:
        """Take the JSON schemas of structured answers, by the ids of CrewAI's tasks."""
        self._answer_schemas = schemas

    def supports_function_calling(self) -> bool:
        """Say whether tools are called natively; else CrewAI asks for ReAct text."""
        return self.settings.tool_calls == "native"

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Say that a call costs nothing."""
        del usage, at
        return 0.0

    def get_context_window_size(self) -> int:
        """Give the tokens a prompt may have."""
        return CONTEXT_WINDOW

    def get_input_tokens_count(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> int:
        """Count a prompt's tokens as its usage will."""
        del response_model
        if isinstance(messages, str):
            return count_tokens(messages)
        return SandboxRequest(messages=messages, tools=tools or ()).prompt_tokens

    def _refuses(self, messages: list[Any]) -> bool:
        """Say whether, as a guardrail, it refuses this result of the task that is being done."""
        if not message_text(messages[-1]).startswith(GUARDRAIL):
            return False
        task = get_current_task_id()
        with self._counting:
            self._refused[task] = self._refused.get(task, 0) + 1
            return self._refused[task] <= self.settings.refusals

    def _fail_where_set(self, number: int) -> None:
        if number == self.settings.fail_at:
            raise ModelFailed(
                f"{self.label}: call {number} of this agent was set to fail.", code="MODEL_ERROR"
            )

    def _react_tools(self, agent: Any) -> list[dict[str, Any]]:
        """Give the tools of an agent that CrewAI describes in the prompt instead of passing them."""
        executor = getattr(agent, "agent_executor", None)
        if self.settings.tool_calls == "native" or executor is None or not executor.original_tools:
            return []
        return list(convert_tools_to_openai_schema(executor.original_tools)[0])

    def _answer_schema(self, task: Any, response_model: type[BaseModel] | None) -> dict[str, Any] | None:
        known = self._answer_schemas.get(str(getattr(task, "id", "")))
        if known is None and response_model is not None:
            return response_model.model_json_schema()
        return known


def _answer(reply: SandboxReply, prompt_tokens: int, *, streamed: bool) -> ChatAnswer:
    return ChatAnswer(
        text=reply.text,
        reasoning="",
        refusal="",
        calls=[AskedCall(call.id, call.name, call.arguments, call.arguments) for call in reply.calls],
        finish_reason="tool_calls" if reply.calls else "stop",
        usage={
            "prompt_tokens": prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": prompt_tokens + reply.completion_tokens,
        },
        id=None,
        streamed=streamed,
    )
