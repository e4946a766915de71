"""CrewAI's own OpenAI provider, for any server that speaks its API, with errors one can read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from crewai.hooks.dispatch import HookAborted
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.utilities.agent_utils import is_context_length_exceeded
from pydantic import BaseModel

from kasal_jupyter.models import prices
from kasal_jupyter.models.sandbox import count_tokens
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.worker.failures import ModelFailed, describe
from kasal_jupyter.worker.llm import ReportedLLM

# CrewAI wraps every `call` in retries of its own, on top of those of OpenAI's client, which knows
# Retry-After and does not blow a failing call up to nine. The function beneath has only the latter.
_call: Callable[..., Any] = getattr(OpenAICompletion.call, "__wrapped__", OpenAICompletion.call)


class OpenAILLM(ReportedLLM, OpenAICompletion):
    """An OpenAI-compatible model."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the model; see :meth:`OpenAICompletion.call`.

        Raises
        ------
        ModelFailed
            The call failed, after the retries of OpenAI's client.
        """
        try:
            return _call(self, *args, **kwargs)
        except HookAborted:
            raise
        except Exception as error:
            if is_context_length_exceeded(error):
                raise  # CrewAI answers this one by summarising the conversation.
            described = describe(error, model=self.label, code="MODEL_ERROR")
            self.signal.note_model_failure(described)
            raise ModelFailed(described["message"], code=described["code"]) from error

    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]  # noqa: SLF001

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost, by the price of the model where it was asked."""
        return prices.cost(self.model, self.base_url, usage, at)

    def get_input_tokens_count(
        self,
        messages: str | list[Any],
        tools: list[dict[str, Any]] | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> int:
        """Estimate a prompt's tokens, where CrewAI would ask OpenAI over HTTP before every call."""
        del tools, response_model
        if isinstance(messages, str):
            return count_tokens(messages)
        return sum(count_tokens(str(message.get("content") or "")) for message in messages)
