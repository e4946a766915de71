"""CrewAI's own Azure provider, for models of Azure OpenAI and of Azure's inference endpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from crewai.llms.providers.azure.completion import AzureCompletion

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.crewai_seams import AzureAnswers
from kasal_jupyter.worker.models.llm import CALL_SECONDS, CONNECT_SECONDS, ReportedLLM
from kasal_jupyter.worker.models.model_call import note_address
from kasal_jupyter.worker.process.stop import StopSignal


class AzureLLM(ReportedLLM, AzureAnswers, AzureCompletion):
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

    def refine(self, params: dict[str, Any]) -> dict[str, Any]:
        """Send what CrewAI leaves out, or names as reasoning models refuse it."""
        if self.seed is not None:
            params["seed"] = self.seed
        if "max_tokens" in params and not self.supports_stop_words():
            # These are the reasoning models. They refuse the old name, and the SDK has not got the new one.
            extras = params.setdefault("model_extras", {})
            extras["max_completion_tokens"] = params.pop("max_tokens")
        return params

    def client_options(self) -> dict[str, Any]:
        """Give the time-out, which CrewAI does not pass on, and no retries: azure-core tries ten times."""
        return {
            "retry_total": 0,
            "connection_timeout": min(CONNECT_SECONDS, self.patience),
            "read_timeout": self.patience,
            "raw_request_hook": _note_address,
        }


def _note_address(request: Any) -> None:
    note_address(request.http_request)
