"""An HTTP server on loopback, for custom tools: it notes what it is asked and answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Asked:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[BaseHTTPRequestHandler, Asked], None]


@dataclass
class EndpointServer:
    """A running server.

    Attributes
    ----------
    url
        Its base, without a slash at its end.
    replies
        What it answers, by path; anything else is echoed as JSON.
    asked
        What it was asked, oldest first.
    """

    port: int
    scheme: str = "http"
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        asked = Asked(
            handler.command,
            handler.path,
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(length),
        )
        self.asked.append(asked)
        self.replies.get(asked.path, echo)(handler, asked)


def reply(
    body: bytes | str = b"", status: int = 200, content_type: str | None = "text/plain", **headers: str
) -> Reply:
    """Answer with a body."""
    data = body.encode() if isinstance(body, str) else body

    def answer(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
        handler.send_response(status)
        if content_type is not None:
            handler.send_header("Content-Type", content_type)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(location: str, status: int = 302) -> Reply:
    """Answer with a redirect."""
    return reply(b"", status, Location=location)


def echo(handler: BaseHTTPRequestHandler, asked: Asked) -> None:
    """Answer with the request."""
    said = {"method": asked.method, "target": asked.target, "body": asked.body.decode(errors="replace")}
    reply(json.dumps(said), content_type="application/json")(handler, asked)


@contextmanager
def endpoint_server(tls: ssl.SSLContext | None = None) -> Iterator[EndpointServer]:
    """Run a server."""
    made: list[EndpointServer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            made[0].answer(self)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: Any) -> None:
            """A client that goes away in the midst of an answer is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made.append(EndpointServer(server.server_address[1], "https" if tls else "http"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made[0]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
