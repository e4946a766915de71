"""A small OpenAI-compatible server on loopback, with scripted replies.

A real HTTP server rather than a mock: CrewAI's own provider and OpenAI's own client talk to it.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request.

    A ``status`` other than 200 is an error with ``text`` as its message. ``hang`` never answers
    (or stops in the middle of the stream, where there is a text).
    """

    text: str | None = None
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: int = 200
    usage: dict[str, Any] | None = field(default_factory=lambda: USAGE)
    hang: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def tool_calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"call_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for at, (name, given) in enumerate(self.calls)
        ]

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "stop"


class OpenAIServer:
    """Serves replies in order; the last one again and again.

    Attributes
    ----------
    requests
        The bodies received.
    keys
        The ``Authorization`` headers received.
    without_tools
        What is answered to every request that has no tools; where it is None, those are as the others.
    """

    def __init__(self, *replies: Reply) -> None:
        self.replies = deque(replies)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.without_tools: Reply | None = None
        self.asked = threading.Event()
        self.released = threading.Event()
        self.gone = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def next_reply(self) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    model: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.requests.append(asked)
        self.model.keys.append(self.headers["Authorization"])
        reply = self.model.without_tools if not asked.get("tools") else None
        reply = reply or self.model.next_reply()
        self.model.asked.set()
        if reply.status != 200:
            code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(
                reply.status
            )
            self._send(reply, {"error": {"message": reply.text or "No.", "type": "error", "code": code}})
        elif asked.get("stream"):
            self._stream(reply, asked)
        elif reply.hang:
            self._hang()
        else:
            message = {"role": "assistant", "content": reply.text, "tool_calls": reply.tool_calls() or None}
            self._send(
                reply,
                {
                    "id": "chatcmpl-1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": asked["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
                    "usage": reply.usage,
                },
            )

    def _send(self, reply: Reply, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, reply: Reply, asked: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        # As real servers do: so that a client can tell the end of the answer from a broken connection.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True

        def write(data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def send(choices: list[dict[str, Any]], **more: Any) -> None:
            whole = {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": asked["model"],
            }
            write(b"data: " + json.dumps({**whole, "choices": choices, **more}).encode() + b"\n\n")

        def delta(finish_reason: str | None = None, **given: Any) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": given, "finish_reason": finish_reason}]

        send(delta(role="assistant"))
        for word in (reply.text or "").split(" ") if reply.text else ():
            send(delta(content=f"{word} "))
        if reply.hang:
            self._hang()
            return
        for at, call in enumerate(reply.tool_calls()):
            arguments = call["function"].pop("arguments")
            send(delta(tool_calls=[{"index": at, **call, "function": {**call["function"], "arguments": ""}}]))
            for start in range(0, len(arguments), 5):
                piece = {"index": at, "function": {"arguments": arguments[start : start + 5]}}
                send(delta(tool_calls=[piece]))
        send(delta(reply.finish_reason))
        if reply.usage and asked.get("stream_options", {}).get("include_usage"):
            send([], usage=reply.usage)
        write(b"data: [DONE]\n\n")
        write(b"")

    def _hang(self) -> None:
        """Wait until the client has gone, or the test is over."""
        self.connection.settimeout(0.05)
        while not self.model.released.is_set():
            try:
                if not self.connection.recv(1):
                    self.model.gone.set()
                    break
            except TimeoutError:
                continue
            except OSError:
                self.model.gone.set()
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
