"""An OpenAI-compatible server of one thread, for a process to warm its HTTP path against itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

_TOOL_CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "calculator", "arguments": '{"expression": "6 * 7"}'},
}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = any(message["role"] == "tool" for message in asked["messages"])
        delta = {"content": "42"} if answered or not asked.get("tools") else {"tool_calls": [_TOOL_CALL]}
        pieces: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop" if answered else "tool_calls"}]},
            {"choices": [], "usage": _USAGE},
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in pieces:
            whole = {"id": "warm", "object": "chat.completion.chunk", "created": 0, "model": "warm", **piece}
            self.wfile.write(b"data: " + json.dumps(whole).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def loopback_model() -> Iterator[str]:
    """Serve a model that calls the calculator and then answers; give its base URL.

    The thread and the socket are gone afterwards.
    """
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()
