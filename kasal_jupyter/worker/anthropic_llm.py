"""CrewAI's own Anthropic provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Self

from anthropic._streaming import ServerSentEvent, SSEDecoder
from crewai.llms.providers.anthropic.completion import AnthropicCompletion

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.attempt import current_attempt
from kasal_jupyter.worker.endings import Heard
from kasal_jupyter.worker.llm import CALL_SECONDS, ReportedLLM, cut_off
from kasal_jupyter.worker.stop import StopSignal
from kasal_jupyter.worker.token_usage import token_usage

_NO_COUNTS = {"input_tokens": -1, "output_tokens": -1}
"""What stands for counts that are none: the SDK adds to them, and they are taken for none further on."""


class _Decoder(SSEDecoder):
    """Reads a stream, of which the SDK refuses an event whose counts are no object."""

    def iter_bytes(self, iterator: Iterator[bytes]) -> Iterator[ServerSentEvent]:
        for event in super().iter_bytes(iterator):
            yield _sound(event) if '"usage"' in event.data else event


def _sound(event: ServerSentEvent) -> ServerSentEvent:
    try:
        read = event.json()
    except (ValueError, RecursionError):
        return event  # What is no JSON, the SDK says.
    holder = read.get("message", read) if isinstance(read, dict) else None
    if not isinstance(holder, dict) or isinstance(holder.get("usage"), dict):
        return event
    holder["usage"] = _NO_COUNTS
    return ServerSentEvent(event=event.event, data=json.dumps(read), id=event.id, retry=event.retry)


class AnthropicLLM(ReportedLLM, AnthropicCompletion):
    """A model of Anthropic's."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it. Anthropic has no ``seed``, and insists on ``max_tokens``: the model's most by default."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout", "seed"})
        patience = settings.timeout or CALL_SECONDS
        return cls(
            model=model.model,
            label=model.name,
            provider="anthropic",
            api_key=model.api_key,
            base_url=model.base_url,
            signal=signal,
            patience=patience,
            timeout=patience,
            max_retries=0,
            **given,
        )

    @staticmethod
    def _extract_anthropic_token_usage(response: Any) -> dict[str, Any]:
        try:
            return AnthropicCompletion._extract_anthropic_token_usage(response)  # noqa: SLF001 - overridden
        except (OverflowError, ValueError):
            return {"total_tokens": 0}  # CrewAI makes an integer of infinity, say.

    def ask(self, messages: str | list[Any], **request: Any) -> Any:
        """Ask once."""
        answer = super().ask(messages, **request)
        attempt = current_attempt()
        return cut_off(answer, attempt.reason if attempt else None)

    def _extract_finish_reason_and_id(self, message: Any) -> tuple[str | None, str | None]:  # type: ignore[override]
        # CrewAI looks at every answer here, once it is whole.
        reason, message_id = AnthropicCompletion._extract_finish_reason_and_id(message)  # noqa: SLF001 - overridden
        blocks = message.content or ()
        self.hear(
            Heard(
                text="".join(getattr(block, "text", None) or "" for block in blocks),
                reasoning="".join(getattr(block, "thinking", None) or "" for block in blocks),
                streamed=bool(self._effective_stream()),
            )
        )
        self.note_end(reason, token_usage(self._extract_anthropic_token_usage(message)))
        return reason, message_id

    def _build_sync_client(self) -> Any:
        client: Any = super()._build_sync_client()
        client._make_sse_decoder = _Decoder  # noqa: SLF001
        return client

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost."""
        return prices.cost(self.model, self.base_url, usage, at, provider="anthropic")
