"""CrewAI's own Azure provider, for models of Azure OpenAI and of Azure's inference endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from azure.ai.inference.models import ChatCompletions
from crewai.llms.providers.azure.completion import AzureCompletion

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.llm import CALL_SECONDS, CONNECT_SECONDS, ReportedLLM
from kasal_jupyter.worker.stop import StopSignal


def _sound(answer: Any) -> Any:
    """Take the counts from an answer, or a piece of one, where they are none: the SDK reads them late."""
    if answer.get("usage") is not None and not isinstance(answer["usage"], Mapping):
        del answer["usage"]
    return answer


class AzureLLM(ReportedLLM, AzureCompletion):
    """A deployment."""

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

    def _build_sync_client(self) -> Any:
        client: Any = super()._build_sync_client()
        complete = client.complete

        def complete_soundly(**params: Any) -> Any:
            answer = complete(**params)
            return _sound(answer) if isinstance(answer, ChatCompletions) else map(_sound, answer)

        client.complete = complete_soundly
        return client

    def _make_client_kwargs(self) -> dict[str, Any]:
        # CrewAI passes no time-out on, and azure-core tries ten times by default.
        return super()._make_client_kwargs() | {
            "retry_total": 0,
            "connection_timeout": min(CONNECT_SECONDS, self.patience),
            "read_timeout": self.patience,
        }
