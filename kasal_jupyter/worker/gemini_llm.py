"""CrewAI's own Gemini provider, for Google's Gemini API."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from crewai.llms.providers.gemini.completion import GeminiCompletion
from google.genai import types

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.schemas.usage import is_count
from kasal_jupyter.worker.attempt import current_attempt
from kasal_jupyter.worker.endings import Heard
from kasal_jupyter.worker.llm import CALL_SECONDS, ReportedLLM
from kasal_jupyter.worker.stop import StopSignal

_COUNTS = "usageMetadata"


def _sound(answer: types.HttpResponse) -> types.HttpResponse:
    """Take the counts from an answer where they are none: the SDK would refuse the answer with them."""
    if answer.body and _COUNTS in answer.body:
        with suppress(ValueError, RecursionError):  # What is no JSON, the SDK says.
            read = json.loads(answer.body)
            if isinstance(read, dict):
                read[_COUNTS] = _counts(read.get(_COUNTS))
                answer.body = json.dumps(read)
    return answer


def _counts(given: object) -> dict[str, int | None] | None:
    """Give the counts that are used of those in an answer; None where one of them is none."""
    if not isinstance(given, dict):
        return None
    used = {name: value for name, value in given.items() if name.endswith("TokenCount")}
    return used if all(value is None or is_count(value) for value in used.values()) else None


class GeminiLLM(ReportedLLM, GeminiCompletion):
    """A model of Google's."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout"})
        if "max_tokens" in given:
            given["max_output_tokens"] = given.pop("max_tokens")
        patience = settings.timeout or CALL_SECONDS
        options = types.HttpOptions(
            base_url=model.base_url,
            timeout=max(1, round(patience * 1000)),
            # Without it the SDK does not try again today, and might by default tomorrow.
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        return cls(
            model=model.model,
            label=model.name,
            provider="gemini",
            api_key=model.api_key,
            use_vertexai=False,
            signal=signal,
            patience=patience,
            client_params={"http_options": options},
            # Where it was asked, for the price; the client takes it from its options.
            base_url=model.base_url,
            **given,
        )

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost."""
        return prices.cost(self.model, self.base_url, usage, at, provider="gemini")

    def _extract_finish_reason_and_id(self, response: Any) -> tuple[str | None, str | None]:  # type: ignore[override]
        # CrewAI looks here at every answer, and at every piece of one.
        reason, response_id = GeminiCompletion._extract_finish_reason_and_id(response)  # noqa: SLF001 - overridden
        candidates = response.candidates or ()
        if not candidates and (feedback := response.prompt_feedback) is not None and feedback.block_reason:
            reason = feedback.block_reason.name  # There is no answer to such a prompt, and so no end of one.
        content = candidates[0].content if candidates else None
        thoughts = [part.text for part in (content and content.parts) or () if part.thought and part.text]
        attempt = current_attempt()
        before = attempt.heard.reasoning if attempt else ""
        self.hear(Heard(reasoning=before + "".join(thoughts), streamed=bool(self._effective_stream())))
        return reason, response_id

    def _initialize_client(self, use_vertexai: bool = False) -> Any:
        client: Any = super()._initialize_client(use_vertexai)
        # Between the wire and the SDK's types.
        asked = client._api_client  # noqa: SLF001
        whole, streamed = asked.request, asked.request_streamed
        asked.request = lambda *args, **options: _sound(whole(*args, **options))
        asked.request_streamed = lambda *args, **options: map(_sound, streamed(*args, **options))
        return client

    def _prepare_generation_config(self, *args: Any, **kwargs: Any) -> types.GenerateContentConfig:
        config = super()._prepare_generation_config(*args, **kwargs)
        config.seed = self.seed  # Which CrewAI leaves out.
        return config
