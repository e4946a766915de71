"""A server on loopback that does its worst to whoever calls it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from threading import Event

from tests.servers.endpoint_server import Asked, EndpointServer, endpoint_server, redirect, reply

METADATA = "http://169.254.169.254/latest/meta-data/"
"""Where a cloud would hand out its keys."""

over = Event()
"""Set when the server ends, so that what drips does not hold it up."""


def endless(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
    """Send a page that never ends."""
    _begin(handler)
    with suppress(OSError):
        while not over.is_set():
            handler.wfile.write(b"<p>more of it</p>" * 4_000)


def drip(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
    """Send a byte now and then, so that no single wait is a long one."""
    _begin(handler)
    with suppress(OSError):
        while not over.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()


def silent(_handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
    """Say nothing at all."""
    over.wait(30)


def huge_headers(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
    """Send headers of many megabytes."""
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(50_000):
            handler.wfile.write(b"X-Filler-%d: %b\r\n" % (number, b"x" * 200))
        handler.wfile.write(b"\r\n")


def many_small_headers(handler: BaseHTTPRequestHandler, asked: Asked) -> None:
    """Repeat what an agent would be shown, as often as a client takes it."""
    reply("hello", **{f"X_RateLimit_{number}": "9" * 400 for number in range(90)})(handler, asked)


def garbage(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
    """Send what is no HTTP."""
    with suppress(OSError):
        handler.wfile.write(bytes(range(256)) * 20)
    handler.close_connection = True


def _begin(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Connection", "close")
    handler.end_headers()


@contextmanager
def hostile_server() -> Iterator[EndpointServer]:
    """Run it; ``asked`` tells what came through."""
    over.clear()
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    with endpoint_server() as server:
        server.replies |= {
            "/metadata": redirect(METADATA),
            "/home": redirect("http://127.0.0.2:1/"),
            "/mapped": redirect("http://[::ffff:169.254.169.254]/"),
            "/file": redirect("file:///etc/passwd"),
            "/round": redirect("/round"),
            "/endless": endless,
            "/drip": drip,
            "/silent": silent,
            "/headers": huge_headers,
            "/many": many_small_headers,
            "/garbage": garbage,
            "/bomb": reply(bomb, content_type="text/html", Content_Encoding="gzip"),
        }
        try:
            yield server
        finally:
            over.set()
