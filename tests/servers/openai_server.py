"""A small OpenAI-compatible server on loopback, with scripted replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.servers.model_server import USAGE, ModelHandler, ModelServer, Reply, server_sent, words

__all__ = ["USAGE", "AzureServer", "OpenAIHandler", "OpenAIServer", "Reply"]

_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class OpenAIHandler(ModelHandler):
    """OpenAI's chat completions."""

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": reply.text, "tool_calls": reply.tool_calls() or None}
        if reply.thought:
            message["reasoning_content"] = reply.thought
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": asked.get("model", "deployed"),
            "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
            "usage": reply.usage and reply.counts(reply.usage),
        }

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        yield _chunk(asked, _delta(role="assistant"))
        for word in words(reply.thought):
            yield _chunk(asked, _delta(reasoning_content=word))
        for word in words(reply.text):
            yield self.piece(word, asked)

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:
        return _chunk(asked, _delta(content=text))

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        for at, call in enumerate(reply.tool_calls()):
            arguments = call["function"].pop("arguments")
            begun = {"index": at, **call, "function": {**call["function"], "arguments": ""}}
            yield _chunk(asked, _delta(tool_calls=[begun]))
            for start in range(0, len(arguments), 5):
                piece = {"index": at, "function": {"arguments": arguments[start : start + 5]}}
                yield _chunk(asked, _delta(tool_calls=[piece]))
        yield _chunk(asked, _delta(reply.finish_reason))
        if reply.usage and (asked.get("stream_options") or {}).get("include_usage"):
            yield _chunk(asked, [], usage=reply.counts(reply.usage))
        yield server_sent("[DONE]")

    def error(self, reply: Reply) -> dict[str, Any]:
        code = reply.code or _CODES.get(reply.status)
        return {"error": {"message": reply.text or "No.", "type": "error", "code": code}}


class OpenAIServer(ModelServer):
    """OpenAI's API below ``/v1``."""

    handler = OpenAIHandler

    @property
    def url(self) -> str:
        return f"{self.root}/v1"


class _AzureHandler(OpenAIHandler):
    key_header = "api-key"


class AzureServer(ModelServer):
    """Azure's inference API, which is OpenAI's at another path and with the key in another header."""

    handler = _AzureHandler


def _delta(finish_reason: str | None = None, **given: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": given, "finish_reason": finish_reason}]


def _chunk(asked: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> bytes:
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": asked.get("model", "deployed"),
    }
    return server_sent({**whole, "choices": choices, **more})
