"""CrewAI's own Bedrock provider, for Amazon's Converse API."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from boto3.session import Session
from botocore.config import Config
from botocore.parsers import EventStreamJSONParser, ResponseParserFactory, RestJSONParser
from botocore.session import get_session
from crewai.llms.base_llm import call_stream_override
from crewai.llms.providers.bedrock.completion import BedrockCompletion

from kasal_jupyter.models import prices
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.events import TokenUsage
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.attempt import current_attempt
from kasal_jupyter.worker.endings import Heard
from kasal_jupyter.worker.llm import CALL_SECONDS, CONNECT_SECONDS, ReportedLLM, cut_off
from kasal_jupyter.worker.stop import StopSignal
from kasal_jupyter.worker.token_usage import token_usage

_APOLOGY = "I apologize, but I couldn't generate a "
"""What CrewAI puts in the place of an empty answer, as if the model had said it."""


class _AnyCounts:
    """Leaves what Bedrock counts as it comes: the SDK makes integers of it, or refuses the answer with it."""

    def _handle_structure(self, shape: Any, value: Any) -> Any:
        if shape.name == "TokenUsage":
            return value if isinstance(value, dict) else None
        return super()._handle_structure(shape, value)  # type: ignore[misc]


class _EventParser(_AnyCounts, EventStreamJSONParser):  # type: ignore[misc]
    pass


class _Parser(_AnyCounts, RestJSONParser):  # type: ignore[misc]
    EVENT_STREAM_PARSER_CLS = _EventParser


class _Parsers(ResponseParserFactory):  # type: ignore[misc]
    def create_parser(self, protocol_name: str) -> Any:
        if protocol_name == "rest-json":
            return _Parser(**self._defaults)
        return super().create_parser(protocol_name)


class BedrockLLM(ReportedLLM, BedrockCompletion):
    """A model that Amazon serves."""

    @classmethod
    def of(cls, model: RunModel, settings: ModelSettings, signal: StopSignal) -> Self:
        """Make it. The Converse API has no ``seed``."""
        given = settings.model_dump(exclude_none=True, exclude={"timeout", "seed"})
        return cls(
            model=model.model,
            label=model.name,
            aws_access_key_id=model.options.get("aws_access_key_id"),
            aws_secret_access_key=model.options.get("aws_secret_access_key"),
            aws_session_token=model.options.get("aws_session_token"),
            region_name=model.options.get("aws_region_name"),
            base_url=model.base_url,
            signal=signal,
            patience=settings.timeout or CALL_SECONDS,
            **given,
        )

    def ask(self, messages: str | list[Any], **request: Any) -> Any:
        """Ask once. With tools the answer comes whole: CrewAI loses the tool calls of Bedrock's streams."""
        if not request.get("tools"):
            return super().ask(messages, **request)
        with call_stream_override(self, False):
            answer = super().ask(messages, **request)
        attempt = current_attempt()
        return cut_off(answer, attempt.reason if attempt else None)

    def _extract_finish_reason_and_id(self, response: Any) -> tuple[str | None, str | None]:  # type: ignore[override]
        # CrewAI looks at every answer here, also at one that it makes an apology of and tells nobody.
        reason, response_id = BedrockCompletion._extract_finish_reason_and_id(response)  # noqa: SLF001 - overridden
        blocks = response.get("output", {}).get("message", {}).get("content") or ()
        thoughts = (block.get("reasoningContent", {}).get("reasoningText", {}) for block in blocks)
        self.hear(
            Heard(
                text="".join(block.get("text", "") for block in blocks),
                reasoning="".join(thought.get("text", "") for thought in thoughts),
                streamed="stream" in response,
            )
        )
        self.note_end(reason, token_usage(response.get("usage")))
        return reason, response_id

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost."""
        return prices.cost(self.model, self.base_url, usage, at, provider="bedrock")

    def _emit_call_completed_event(self, *args: Any, **event: Any) -> None:
        if str(event.get("response")).startswith(_APOLOGY):
            event["response"] = ""
        super()._emit_call_completed_event(*args, **event)

    def _build_sync_client(self) -> Any:
        # As CrewAI makes it, but for its retries, its time-out, and an endpoint that may be another.
        config = Config(
            connect_timeout=min(CONNECT_SECONDS, self.patience),
            read_timeout=self.patience,
            retries={"total_max_attempts": 1, "mode": "standard"},
            tcp_keepalive=True,
        )
        # With a parser that refuses no answer for its counts.
        beneath = get_session()
        beneath.register_component("response_parser_factory", _Parsers())
        session = Session(
            botocore_session=beneath,
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            aws_session_token=self.aws_session_token,
            region_name=self.region_name,
        )
        return session.client("bedrock-runtime", config=config, endpoint_url=self.base_url)
