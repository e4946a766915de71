"""An Ollama on loopback that also chats, as its OpenAI-compatible ``/v1`` does."""

from __future__ import annotations

from typing import Any

from tests.servers.model_server import ModelServer, Reply
from tests.servers.openai_server import OpenAIHandler


class _OllamaHandler(OpenAIHandler):
    def do_POST(self) -> None:  # noqa: N802
        if self.path != "/v1/chat/completions":
            self.send_bytes(Reply(status=404), b"404 page not found", "text/plain")
            return
        super().do_POST()

    def error(self, reply: Reply) -> dict[str, Any]:
        return {"error": {"message": reply.text, "type": "api_error", "param": None, "code": None}}


class OllamaChatServer(ModelServer):
    """Ollama by its root, as ``OLLAMA_HOST`` has it."""

    handler = _OllamaHandler
