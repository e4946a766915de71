"""A small server of Anthropic's Messages API on loopback, with scripted replies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.servers.model_server import ModelHandler, ModelServer, Reply, server_sent, words

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 8,
    "cache_creation_input_tokens": 2,
    "output_tokens": 5,
}

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class AnthropicHandler(ModelHandler):
    """The messages of Anthropic's API, version 2023-06-01."""

    key_header = "x-api-key"

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:
        content = [{"type": "thinking", "thinking": reply.thought, "signature": "s"}] if reply.thought else []
        content += [{"type": "text", "text": reply.text}] if reply.text else []
        return {
            **self._message(asked),
            "content": [*content, *self._uses(reply)],
            "stop_reason": _reason(reply),
            "usage": reply.counts(USAGE),
        }

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        begun = {**self._message(asked), "usage": reply.counts({**USAGE, "output_tokens": 1})}
        yield server_sent({"type": "message_start", "message": begun}, "message_start")
        if reply.thought:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            yield self._event("content_block_start", index=9, content_block=block)
            for word in words(reply.thought):
                delta = {"type": "thinking_delta", "thinking": word}
                yield self._event("content_block_delta", index=9, delta=delta)
            yield self._event("content_block_stop", index=9)
        yield self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for word in words(reply.text):
            yield self.piece(word, asked)

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:  # noqa: ARG002
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:  # noqa: ARG002
        if reply.code is not None:
            error = {"type": reply.code, "message": "It broke down while it answered."}
            yield self._event("error", error=error)
            return
        yield self._event("content_block_stop", index=0)
        for at, use in enumerate(self._uses(reply), 1):
            given = json.dumps(use["input"])
            yield self._event("content_block_start", index=at, content_block={**use, "input": {}})
            for start in range(0, len(given), 6):
                piece = {"type": "input_json_delta", "partial_json": given[start : start + 6]}
                yield self._event("content_block_delta", index=at, delta=piece)
            yield self._event("content_block_stop", index=at)
        reason = {"stop_reason": _reason(reply), "stop_sequence": None}
        yield self._event(
            "message_delta", delta=reason, usage=reply.counts({"output_tokens": USAGE["output_tokens"]})
        )
        yield self._event("message_stop")

    def error(self, reply: Reply) -> dict[str, Any]:
        kind = reply.code or _TYPES.get(reply.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": reply.text or "No."}}

    def _message(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _uses(self, reply: Reply) -> list[dict[str, Any]]:
        return [
            {"type": "tool_use", "id": f"toolu_{at}", "name": name, "input": given}
            for at, (name, given) in enumerate(reply.calls)
        ]

    def _event(self, kind: str, **data: Any) -> bytes:
        return server_sent({"type": kind, **data}, kind)


def _reason(reply: Reply) -> Any:
    return reply.reason or ("tool_use" if reply.calls else "end_turn")


class AnthropicServer(ModelServer):
    """Anthropic's API; its SDK adds ``/v1`` to the address."""

    handler = AnthropicHandler
