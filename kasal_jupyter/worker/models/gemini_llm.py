"""CrewAI's own Gemini provider, for Google's Gemini API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from crewai.llms.providers.gemini.completion import GeminiCompletion
from google.genai import types

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models import prices
from kasal_jupyter.outward import authorities_for
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.schemas.usage import is_count
from kasal_jupyter.worker.crewai_seams import GeminiAnswers
from kasal_jupyter.worker.models.answer_text import Heard
from kasal_jupyter.worker.models.llm import CALL_SECONDS, ReportedLLM
from kasal_jupyter.worker.models.model_call import current_call, note_address
from kasal_jupyter.worker.process.stop import StopSignal

GEMINI_ADDRESS = "https://generativelanguage.googleapis.com"
"""Where Google's client asks that is not told where."""

_COUNTS = "usageMetadata"


def _counts(given: object) -> dict[str, int | None] | None:
    """Give the counts that are used of those in an answer; None where one of them is none."""
    if not isinstance(given, dict):
        return None
    used = {name: value for name, value in given.items() if name.endswith("TokenCount")}
    return used if all(value is None or is_count(value) for value in used.values()) else None


class GeminiLLM(ReportedLLM, GeminiAnswers, GeminiCompletion):
    """A model of Google's."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout"})
        if "max_tokens" in given:
            given["max_output_tokens"] = given.pop("max_tokens")
        patience = settings.timeout or CALL_SECONDS
        # One for all, where the SDK would make three for each agent, of 20 ms.
        trusted = authorities_for(model.base_url or GEMINI_ADDRESS)
        options = types.HttpOptions(
            base_url=model.base_url,
            timeout=max(1, round(patience * 1000)),
            # Without it the SDK does not try again today, and might by default tomorrow.
            retry_options=types.HttpRetryOptions(attempts=1),
            # Its errors do not say where it has asked.
            client_args={"event_hooks": {"request": [note_address]}, "verify": trusted},
            async_client_args={"ssl": trusted},
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

    def look_at(self, response: Any, reason: str | None) -> str | None:
        """Keep what a piece of an answer says beside tool calls, and thinks."""
        candidates = response.candidates or ()
        if not candidates and (feedback := response.prompt_feedback) is not None and feedback.block_reason:
            reason = feedback.block_reason.name  # There is no answer to such a prompt, and so no end of one.
        content = candidates[0].content if candidates else None
        if call := current_call():
            said = [call.heard.text], [call.heard.reasoning]
            for part in (content and content.parts) or ():
                said[bool(part.thought)].append(part.text or "")
            text, reasoning = map("".join, said)
            call.heard = Heard(text, reasoning, streamed=self.streams)
        return reason

    def sound(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take the counts from a body where they are none: the SDK would refuse the answer with them."""
        return {**body, _COUNTS: _counts(body[_COUNTS])} if _COUNTS in body else body

    def refine(self, config: Any) -> Any:
        """Send the seed, which CrewAI leaves out."""
        config.seed = self.seed
        return config
