"""CrewAI's own Azure provider, for models of Azure OpenAI and of Azure's inference endpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from crewai.llms.providers.azure.completion import AzureCompletion
from pydantic import BaseModel

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.chat_answer import ChatReader
from kasal_jupyter.worker.crewai_seams import ChatAnswers
from kasal_jupyter.worker.llm import CALL_SECONDS, CONNECT_SECONDS, ReportedLLM
from kasal_jupyter.worker.stop import StopSignal


class AzureLLM(ReportedLLM, ChatAnswers, AzureCompletion):
    """A deployment. What it answers is read as OpenAI's servers' answers are."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it.

        CrewAI takes a deployment for a model of OpenAI's, which calls tools natively, by its name alone. What
        an endpoint of Azure OpenAI serves is one, whatever somebody has called it.
        """
        given = settings.model_dump(exclude_none=True, exclude={"timeout"})
        llm = cls(
            model=model.model,
            label=model.name,
            provider="azure",
            api_key=model.api_key,
            endpoint=model.base_url,
            api_version=model.options.get("api_version"),
            signal=signal,
            patience=settings.timeout or CALL_SECONDS,
            **given,
        )
        llm.is_openai_model = llm.is_openai_model or llm.is_azure_openai_endpoint
        return llm

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost, where the deployment is called as its model."""
        return prices.cost(self.model, self.endpoint, usage, at, provider="azure")

    def _prepare_completion_params(self, *args: Any, **kwargs: Any) -> Any:
        params: Any = super()._prepare_completion_params(*args, **kwargs)
        if self.seed is not None:
            params["seed"] = self.seed  # Which CrewAI leaves out.
        if "max_tokens" in params and not self.supports_stop_words():
            # These are the reasoning models. They refuse the old name, and the SDK has not got the new one.
            extras = params.setdefault("model_extras", {})
            extras["max_completion_tokens"] = params.pop("max_tokens")
        return params

    def _handle_completion(
        self,
        params: Any,
        available_functions: dict[str, Any] | None = None,
        from_task: Any | None = None,
        from_agent: Any | None = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Ask, and read the answer; CrewAI loses the text of a piece that counts tokens."""
        # Tools are called by the agent's executor alone; an object is read by whoever has asked.
        del available_functions, response_model
        stream = bool(params.get("stream"))
        reader = ChatReader([tool.as_dict() for tool in params.get("tools") or ()], len(params["messages"]))
        answer = self._get_sync_client().complete(**params)
        for piece in answer if stream else [answer]:
            said = reader.take(piece.as_dict(), streamed=stream)
            self._tell_piece(said, from_task=from_task, from_agent=from_agent)
        return self._tell(reader.answer(), params["messages"], from_task=from_task, from_agent=from_agent)

    _handle_streaming_completion = _handle_completion

    def _make_client_kwargs(self) -> dict[str, Any]:
        # CrewAI passes no time-out on, and azure-core tries ten times by default.
        return super()._make_client_kwargs() | {
            "retry_total": 0,
            "connection_timeout": min(CONNECT_SECONDS, self.patience),
            "read_timeout": self.patience,
        }
