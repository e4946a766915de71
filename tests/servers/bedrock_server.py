"""A small server of Amazon's Converse API on loopback, with scripted replies."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tests.servers.model_server import ModelHandler, ModelServer, Reply, words

USAGE = {
    "inputTokens": 10,
    "outputTokens": 5,
    "totalTokens": 25,
    "cacheReadInputTokens": 8,
    "cacheWriteInputTokens": 2,
}

_CODES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


class BedrockHandler(ModelHandler):
    """``converse`` and ``converse-stream``, whose stream is Amazon's own binary one."""

    stream_type = "application/vnd.amazon.eventstream"

    def streams(self, asked: dict[str, Any]) -> bool:  # noqa: ARG002
        return self.path.endswith("/converse-stream")

    def has_tools(self, asked: dict[str, Any]) -> bool:
        return "toolConfig" in asked

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        thought = {"reasoningText": {"text": reply.thought, "signature": "s"}}
        content: list[dict[str, Any]] = [{"reasoningContent": thought}] if reply.thought else []
        content += [{"text": reply.text}] if reply.text else []
        content += [{"toolUse": use} for use in _uses(reply)]
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": _reason(reply),
            "usage": reply.counts(USAGE),
            "metrics": {"latencyMs": 1},
        }

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        yield _event("messageStart", {"role": "assistant"})
        for word in words(reply.thought):
            delta = {"reasoningContent": {"text": word}}
            yield _event("contentBlockDelta", {"contentBlockIndex": 9, "delta": delta})
        for word in words(reply.text):
            yield self.piece(word, asked)

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:  # noqa: ARG002
        return _event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:  # noqa: ARG002
        if reply.text:
            yield _event("contentBlockStop", {"contentBlockIndex": 0})
        if reply.code is not None:
            yield _event(reply.code, {"message": "It broke down while it answered."}, kind="exception")
            return
        for at, use in enumerate(_uses(reply), 1):
            given = json.dumps(use.pop("input"))
            yield _event("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": use}})
            for start in range(0, len(given), 6):
                piece = {"toolUse": {"input": given[start : start + 6]}}
                yield _event("contentBlockDelta", {"contentBlockIndex": at, "delta": piece})
            yield _event("contentBlockStop", {"contentBlockIndex": at})
        yield _event("messageStop", {"stopReason": _reason(reply)})
        yield _event("metadata", {"usage": reply.counts(USAGE), "metrics": {"latencyMs": 1}})

    def error(self, reply: Reply) -> dict[str, Any]:
        return {"message": reply.text or "No."}

    def send_bytes(self, reply: Reply, data: bytes, kind: str = "application/json") -> None:
        if reply.status != 200 and reply.shape is None:
            code = reply.code or _CODES.get(reply.status, "UnknownException")
            reply.headers["x-amzn-ErrorType"] = code
        super().send_bytes(reply, data, kind)


class BedrockServer(ModelServer):
    """Amazon's API."""

    handler = BedrockHandler


def _uses(reply: Reply) -> list[dict[str, Any]]:
    return [
        {"toolUseId": f"tooluse_{at}", "name": name, "input": given}
        for at, (name, given) in enumerate(reply.calls)
    ]


def _reason(reply: Reply) -> Any:
    return reply.reason or ("tool_use" if reply.calls else "end_turn")


def _event(name: str, data: dict[str, Any], kind: str = "event") -> bytes:
    """Write a message of Amazon's event stream: lengths, headers, payload, each part with its checksum."""
    named = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        struct.pack(">B", len(key)) + key.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for key, value in named.items()
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))
