"""CrewAI's own OpenAI provider, for any server that speaks its API: Ollama too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Self

from crewai.llms.context_window import CONTEXT_WINDOW_USAGE_RATIO
from openai import DefaultHttpxClient
from pydantic import PrivateAttr

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models import prices
from kasal_jupyter.models.catalog import KEYLESS
from kasal_jupyter.outward import client_options
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.crewai_seams import OpenAIAnswers
from kasal_jupyter.worker.models.llm import CALL_SECONDS, ReportedLLM
from kasal_jupyter.worker.models.provider_errors import said
from kasal_jupyter.worker.process.failures import ModelFailed
from kasal_jupyter.worker.process.stop import StopSignal

OPENAI_ADDRESS = "https://api.openai.com/v1"
"""Where OpenAI's client asks that is not told where."""

MOST_STOPS = 4
"""Sequences that OpenAI takes in ``stop``; it refuses a call with more."""


class OpenAILLM(ReportedLLM, OpenAIAnswers):
    """An OpenAI-compatible model.

    Ollama is asked through its OpenAI-compatible ``/v1``, as CrewAI itself does: with native tool calls,
    streams, and its own counts of tokens. What ``/v1`` cannot set is the length of Ollama's context, which is
    for the server's ``OLLAMA_CONTEXT_LENGTH`` to say.
    """

    _without_effort: bool = PrivateAttr(default=False)

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it; a server of one's own has another name for the most tokens than OpenAI."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout"})
        base_url = model.base_url
        if model.provider == "ollama":
            # It is the root's, and given with what stands behind it all the same.
            base_url = f"{(base_url or 'http://127.0.0.1:11434').rstrip('/').removesuffix('/v1')}/v1"
        if base_url is None and "max_tokens" in given:
            # OpenAI's newer models refuse the old name, which is all that other servers may know.
            given["max_completion_tokens"] = given.pop("max_tokens")
        patience = settings.timeout or CALL_SECONDS
        return cls(
            model=model.model,
            label=model.name,
            provider="openai",
            # The client insists on a key; servers without keys take any.
            api_key=model.api_key or KEYLESS,
            base_url=base_url,
            # A model of another server must not be sent on to OpenAI's Responses API.
            custom_openai=base_url is not None,
            signal=signal,
            patience=patience,
            timeout=patience,
            max_retries=0,
            **given,
        )

    def client_options(self, address: str | None) -> dict[str, Any]:
        """Give a client that goes the right way: its own would ask a proxy for this machine, too."""
        return {"http_client": DefaultHttpxClient(**client_options(address or OPENAI_ADDRESS))}

    def leave_out(self, setting: str) -> bool:
        """Ask without a setting; the most tokens go by their newer name instead.

        Two more are OpenAI's own: newer models do not take tools together with the effort of reasoning that
        they have by default, or answer its Responses API alone.
        """
        if setting == "reasoning_effort":
            changed, self._without_effort = not self._without_effort, True
            return changed
        if setting == "api":
            changed, self.api = self.api != "responses", "responses"
            return changed
        if setting == "max_tokens" and self.max_tokens is not None:
            self.max_completion_tokens = int(self.max_tokens)
        return super().leave_out(setting)

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost, by the price of the model where it was asked."""
        return prices.cost(self.model, self.base_url, usage, at)

    def get_context_window_size(self) -> int:
        """Give the tokens that a prompt may have.

        CrewAI knows OpenAI's models; of the others, those of OpenRouter, say, the list of prices knows more.
        """
        known = prices.known_model(self.model, self.base_url, datetime.now(UTC))
        if known is not None and known.context_window is not None:
            return int(known.context_window * CONTEXT_WINDOW_USAGE_RATIO)
        return super().get_context_window_size()

    def refine(self, params: dict[str, Any], tools: list[dict[str, Any]] | None) -> dict[str, Any]:
        """Send what an answer ends at, and that a model is not to reason which takes no tools otherwise."""
        # CrewAI cuts answers off at these itself, after they were paid for to their end. Its own stop words
        # are left to it: there are models that refuse to be sent any.
        if self.stop and self.supports_stop_words():
            params["stop"] = self.stop[:MOST_STOPS]
        if self._without_effort and tools:
            params["reasoning_effort"] = "none"
        return params

    def refused(self, error: Exception) -> None:
        """Say of two refusals what is to be left out: CrewAI would ask again by itself, unseen.

        Raises
        ------
        ModelFailed
            It is one of them.
        """
        setting = "reasoning_effort" if self.wants_no_effort(error) else None
        if setting is None and self.wants_responses(error):
            setting = "api"
        if setting is not None:
            raise ModelFailed(
                f"{self.label}: {said(error)}", code="MODEL_ERROR", setting=setting, unpaid=True
            ) from error
