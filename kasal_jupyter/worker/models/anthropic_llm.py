"""CrewAI's own Anthropic provider."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from anthropic import DefaultHttpxClient
from crewai.llms.providers.anthropic.completion import AnthropicCompletion

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.models import prices
from kasal_jupyter.outward import client_options
from kasal_jupyter.schemas.agents import ModelSettings
from kasal_jupyter.schemas.spec import RunModel
from kasal_jupyter.worker.crewai_seams import AnthropicAnswers
from kasal_jupyter.worker.models.chat_answer import AnswerReader, anthropic_counts, word
from kasal_jupyter.worker.models.llm import CALL_SECONDS, ReportedLLM
from kasal_jupyter.worker.process.stop import StopSignal

ANTHROPIC_ADDRESS = "https://api.anthropic.com"
"""Where Anthropic's client asks that is not told where."""


class AnthropicLLM(ReportedLLM, AnthropicAnswers, AnthropicCompletion):
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

    def client_options(self) -> dict[str, Any]:
        """Give a client that goes the right way, and needs no TLS context of its own."""
        return {"http_client": DefaultHttpxClient(**client_options(self.base_url or ANTHROPIC_ADDRESS))}

    def reader(self, params: Mapping[str, Any]) -> AnswerReader:
        """Give what reads the answer to a request."""
        return MessageReader(params)

    def cost(self, usage: TokenUsage | None, at: datetime) -> float | None:
        """Give what a call has cost."""
        return prices.cost(self.model, self.base_url, usage, at, provider="anthropic")


class MessageReader(AnswerReader):
    """Reads an answer of Anthropic's Messages API.

    Parameters
    ----------
    request
        What it answers.
    """

    mark = "content"

    def __init__(self, request: Mapping[str, Any]) -> None:
        offered = {tool["name"]: tool.get("input_schema") or {} for tool in request.get("tools") or ()}
        super().__init__(offered, len(request["messages"]))
        self._sound = True

    def take(self, body: Mapping[str, Any]) -> str:
        """Take in an event of a stream, or the whole; give what it adds to the text."""
        index = body.get("index")
        match body.get("type"):
            case "message_start":
                self._begin(body.get("message"))
            case "content_block_start":
                return self._block(body.get("content_block"), index, begun=True)
            case "content_block_delta":
                return self._block(body.get("delta"), index)
            case "message_delta":
                self._end(body.get("delta"), body)
            case "message":
                self._begin(body)
                self._end(body, body)
                blocks = body.get("content")
                if isinstance(blocks, list):
                    self._found = True
                    return "".join(self._block(block, at) for at, block in enumerate(blocks))
        return ""

    def counts(self) -> dict[str, Any]:
        """Give the tokens that were counted; none where one of the counts is none."""
        return anthropic_counts(self._usage) if self._sound else {}

    def _begin(self, message: Any) -> None:
        if isinstance(message, dict):
            self._id = word(message.get("id"))
            self._count(message)

    def _end(self, delta: Any, body: Mapping[str, Any]) -> None:
        if isinstance(delta, dict):
            self._finish = word(delta.get("stop_reason")) or self._finish
        self._count(body)

    def _count(self, body: Mapping[str, Any]) -> None:
        usage = body.get("usage")
        self._sound = self._sound and isinstance(usage, dict)
        if isinstance(usage, dict):
            # A stream counts the prompt at its beginning, and the answer at its end.
            self._usage = {
                **self._usage,
                **{name: count for name, count in usage.items() if count is not None},
            }

    def _block(self, block: Any, index: Any, *, begun: bool = False) -> str:
        """Take in a block, or a piece of one."""
        if not isinstance(block, dict):
            return ""
        if isinstance(thought := block.get("thinking"), str):
            self._reasoning.add(thought)
        if block.get("type") == "tool_use":
            # A stream begins a call with no arguments, and gives them in pieces.
            given = None if begun and not block.get("input") else block.get("input")
            self._call(index, given, id=block.get("id"), name=block.get("name"))
        elif isinstance(piece := block.get("partial_json"), str):
            self._call(index, piece)
        text = block.get("text")
        return self._text.add(text) if isinstance(text, str) else ""

    def _call(self, index: Any, arguments: Any, **begun: Any) -> None:
        function = {"name": begun.get("name"), "arguments": arguments}
        self._calls.take([{"index": index, "id": begun.get("id"), "function": function}])
