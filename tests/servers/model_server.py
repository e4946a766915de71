"""What the servers of models on loopback have in common: scripted replies, and what they were asked.

Real HTTP servers rather than mocks: CrewAI's own providers and the providers' own SDKs talk to them.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from tests.servers.loopback import Loopback
from tests.servers.shapes import Shape

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

    A ``status`` other than 200 is an error with ``text`` as its message, and ``code`` as the provider's word
    for it. ``hang`` never answers (or stops in the middle of the stream, where there is a text), ``cut``
    closes the connection there, ``drip`` sends another piece every so many seconds, and never ends.
    A ``thought`` comes before the text, where the provider has a place for it. ``raw`` is sent as it is, and
    so is a ``shape``. ``counts`` makes something else of the tokens that the provider counts, ``reason``
    stands in the place of why the answer ended.
    """

    text: str | None = None
    thought: str | None = None
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: int = 200
    code: str | None = None
    usage: dict[str, Any] | None = field(default_factory=lambda: USAGE)
    counts: Callable[[dict[str, Any]], Any] = dict
    reason: Any = None
    hang: bool = False
    cut: bool = False
    drip: float | None = None
    raw: bytes | None = None
    shape: Shape | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def tool_calls(self) -> list[dict[str, Any]]:
        """Give the calls as OpenAI has them."""
        return [
            {
                "id": f"call_{at}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for at, (name, given) in enumerate(self.calls)
        ]

    @property
    def finish_reason(self) -> Any:
        return self.reason or ("tool_calls" if self.calls else "stop")


class ModelServer(Loopback):
    """Serves replies in order; the last one again and again.

    Attributes
    ----------
    requests
        The bodies received.
    paths, keys, headers
        Where they were sent, and with which key and headers.
    without_tools
        What is answered to every request that has no tools; where it is None, those are as the others.
    asked
        Set once there was a request.
    released
        Lets what hangs or drips end.
    gone
        Set once a client has left what hangs or drips.
    departed
        Released by each that has.
    """

    handler: ClassVar[type[ModelHandler]]

    def __init__(self, *replies: Reply) -> None:
        self.replies = deque(replies)
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.without_tools: Reply | None = None
        self.asked = threading.Event()
        self.released = threading.Event()
        self.gone = threading.Event()
        self.departed = threading.Semaphore(0)
        super().__init__(type("Handler", (self.handler,), {"model": self}))

    def next_reply(self) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]

    def depart(self) -> None:
        """Take down that a client has left."""
        self.gone.set()
        self.departed.release()

    def __exit__(self, *error: object) -> None:
        self.released.set()
        super().__exit__(*error)


class ModelHandler(BaseHTTPRequestHandler):
    """Takes a request and answers it; how, a provider's own handler says."""

    model: ModelServer
    protocol_version = "HTTP/1.1"
    key_header: ClassVar[str] = "Authorization"
    stream_type: ClassVar[str] = "text/event-stream"

    def whole(self, reply: Reply, asked: dict[str, Any]) -> dict[str, Any]:
        """Give an answer in one piece."""
        raise NotImplementedError

    def pieces(self, reply: Reply, asked: dict[str, Any]) -> Iterable[bytes]:
        """Give the pieces of a streamed answer that come with its text."""
        raise NotImplementedError

    def ending(self, reply: Reply, asked: dict[str, Any]) -> Iterable[bytes]:
        """Give the pieces of a streamed answer that come after its text."""
        raise NotImplementedError

    def piece(self, text: str, asked: dict[str, Any]) -> bytes:
        """Give one more piece of text."""
        raise NotImplementedError

    def error(self, reply: Reply) -> dict[str, Any]:
        """Give the body of an error."""
        return {"error": {"message": reply.text or "No.", "type": "error", "code": reply.code}}

    def streams(self, asked: dict[str, Any]) -> bool:
        """Say whether a stream is asked for."""
        return bool(asked.get("stream"))

    def has_tools(self, asked: dict[str, Any]) -> bool:
        """Say whether tools are offered."""
        return bool(asked.get("tools"))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.requests.append(asked)
        self.model.paths.append(self.path)
        self.model.keys.append(self.headers[self.key_header])
        self.model.headers.append(dict(self.headers.items()))
        self.answer(asked)

    def answer(self, asked: dict[str, Any]) -> None:
        """Answer with the next reply."""
        reply = self.model.without_tools if not self.has_tools(asked) else None
        reply = reply or self.model.next_reply()
        self.model.asked.set()
        if reply.shape is not None:
            data, kind = reply.shape.body(stream=self.streams(asked))
            self.send_bytes(replace(reply, status=reply.shape.status), data, kind)
        elif reply.raw is not None:
            kind = self.stream_type if self.streams(asked) else "application/json"
            self.send_bytes(reply, reply.raw, kind)
        elif reply.status != 200:
            self.send_bytes(reply, json.dumps(self.error(reply)).encode())
        elif self.streams(asked):
            self.stream(reply, asked)
        elif reply.hang:
            self.hang()
        elif reply.cut:
            self.close_connection = True
        else:
            self.send_bytes(reply, json.dumps(self.whole(reply, asked)).encode())

    def send_bytes(self, reply: Reply, data: bytes, kind: str = "application/json") -> None:
        """Send a body with the reply's status and headers."""
        self.send_response(reply.status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, reply: Reply, asked: dict[str, Any]) -> None:
        """Send an answer in pieces."""
        self.send_response(200)
        self.send_header("Content-Type", self.stream_type)
        # As real servers do: so that a client can tell the end of the answer from a broken connection.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True

        def write(data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        for piece in self.pieces(reply, asked):
            write(piece)
        if reply.cut:
            return
        if reply.drip is not None:
            self.drip(reply.drip, lambda: write(self.piece("drip ", asked)))
        elif reply.hang:
            self.hang()
        else:
            for piece in self.ending(reply, asked):
                write(piece)
            write(b"")

    def drip(self, seconds: float, send: Callable[[], None]) -> None:
        """Send again and again, until the client has gone or the test is over."""
        while not self.model.released.wait(seconds):
            try:
                send()
            except OSError:
                self.model.depart()
                return

    def hang(self) -> None:
        """Wait until the client has gone, or the test is over."""
        self.connection.settimeout(0.05)
        while not self.model.released.is_set():
            try:
                if not self.connection.recv(1):
                    self.model.depart()
                    break
            except TimeoutError:
                continue
            except OSError:
                self.model.depart()
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def words(text: str | None) -> list[str]:
    """Give a text in pieces, as a model streams it."""
    return [f"{word} " for word in text.split(" ")] if text else []


def server_sent(data: object, event: str | None = None) -> bytes:
    """Write a server-sent event."""
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
