"""A small server of Google's Gemini API on loopback, with scripted replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.servers.model_server import ModelHandler, ModelServer, Reply, server_sent, words

USAGE = {
    "promptTokenCount": 20,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 3,
    "cachedContentTokenCount": 8,
    "totalTokenCount": 28,
}

_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GeminiHandler(ModelHandler):
    """``generateContent`` and ``streamGenerateContent`` of ``v1beta``."""

    key_header = "x-goog-api-key"

    def streams(self, asked: dict[str, Any]) -> bool:  # noqa: ARG002
        return ":streamGenerateContent" in self.path

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        parts: list[dict[str, Any]] = [{"text": reply.thought, "thought": True}] if reply.thought else []
        parts += [{"text": reply.text}] if reply.text else []
        return _answer([*parts, *_calls(reply)], reply.reason or "STOP", usageMetadata=reply.counts(USAGE))

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        for word in words(reply.thought):
            yield server_sent(_answer([{"text": word, "thought": True}]))
        for word in words(reply.text):
            yield self.piece(word, asked)

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:  # noqa: ARG002
        return server_sent(_answer([{"text": text}]))

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:  # noqa: ARG002
        yield server_sent(
            _answer(
                _calls(reply) or [{"text": ""}], reply.reason or "STOP", usageMetadata=reply.counts(USAGE)
            )
        )

    def error(self, reply: Reply) -> dict[str, Any]:
        details = []
        if reply.code is not None:
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reply.code})
        if delay := reply.headers.get("retryDelay"):
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        return {
            "error": {
                "code": reply.status,
                "message": reply.text or "No.",
                "status": _STATUSES.get(reply.status, "UNKNOWN"),
                "details": details,
            }
        }


class GeminiServer(ModelServer):
    """Google's API; its SDK adds ``/v1beta`` to the address."""

    handler = GeminiHandler


def _answer(parts: list[dict[str, Any]], reason: Any = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason:
        candidate["finishReason"] = reason
    return {"candidates": [candidate], "modelVersion": "gemini", "responseId": "r1", **more}


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": name, "args": given}} for name, given in reply.calls]
