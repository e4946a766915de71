"""A small server of OpenAI's Responses API on loopback, which refuses chat completions as OpenAI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.servers.model_server import ModelHandler, ModelServer, Reply, server_sent, words

USAGE = {
    "input_tokens": 20,
    "output_tokens": 5,
    "total_tokens": 25,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens_details": {"reasoning_tokens": 2},
}

_ENDS = {"max_output_tokens": "incomplete", "content_filter": "incomplete", "failed": "failed"}


class ResponsesHandler(ModelHandler):
    """``/responses``; a ``code`` of a reply is a refusal's words, a ``reason`` why it is incomplete."""

    def answer(self, asked: dict[str, Any]) -> None:
        if self.path.endswith("/responses"):
            super().answer(asked)
            return
        words = "This model is only supported in v1/responses and not in v1/chat/completions."
        error = {"message": words, "type": "invalid_request_error", "param": "model", "code": None}
        self.send_bytes(Reply(status=404), json.dumps({"error": error}).encode())

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:
        return self._response(reply, asked, _ENDS.get(str(reply.reason), "completed"))

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        begun = {**self._response(Reply(), asked, "in_progress"), "output": [], "usage": None}
        yield self._event("response.created", response=begun)
        for word in words(reply.thought):
            yield self._event("response.reasoning_summary_text.delta", delta=word, output_index=0)
        for word in words(reply.code):
            yield self._event("response.refusal.delta", delta=word, output_index=1)
        for word in words(reply.text):
            yield self.piece(word, asked)

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:  # noqa: ARG002
        return self._event("response.output_text.delta", delta=text, output_index=1, content_index=0)

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterator[bytes]:
        whole = self.whole(reply, asked)
        for at, item in enumerate(whole["output"]):
            yield self._event("response.output_item.done", item=item, output_index=at)
        yield self._event(f"response.{whole['status']}", response=whole)

    def error(self, reply: Reply) -> dict[str, Any]:
        return {"error": {"message": reply.text or "No.", "type": "invalid_request_error", "code": None}}

    def _response(self, reply: Reply, asked: dict[str, Any], status: str) -> dict[str, Any]:
        output: list[dict[str, Any]] = []
        if reply.thought:
            summary = [{"type": "summary_text", "text": reply.thought}]
            output.append({"id": "rs_1", "type": "reasoning", "summary": summary})
        content = [{"type": "output_text", "text": reply.text, "annotations": []}] if reply.text else []
        content += [{"type": "refusal", "refusal": reply.code}] if reply.code else []
        if content:
            output.append({"id": "msg_1", "type": "message", "role": "assistant", "content": content})
        output += [
            {
                "id": f"fc_{at}",
                "call_id": f"call_{at}",
                "type": "function_call",
                "name": name,
                "arguments": text,
            }
            for at, (name, given) in enumerate(reply.calls)
            for text in [given if isinstance(given, str) else json.dumps(given)]
        ]
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 0,
            "model": asked["model"],
            "status": status,
            "error": {"code": "server_error", "message": "It broke down."} if status == "failed" else None,
            "incomplete_details": {"reason": reply.reason} if status == "incomplete" else None,
            "output": output,
            "usage": reply.usage and reply.counts(USAGE),
        }

    def _event(self, kind: str, **data: Any) -> bytes:
        return server_sent({"type": kind, **data}, kind)


class ResponsesServer(ModelServer):
    """A server below ``/v1`` that serves its models by the Responses API alone."""

    handler = ResponsesHandler

    @property
    def url(self) -> str:
        return f"{self.root}/v1"
