"""A proxy on loopback that notes what it is asked for, and leads every name to one place."""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Self


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        first = self.request.recv(1, socket.MSG_PEEK)
        if first == b"\x05":
            self._socks()
        elif first:
            self._http()

    def _socks(self) -> None:
        """Take part in SOCKS 5's greeting, and lead what comes then to the place."""
        _, count = self._take(2)
        self._take(count)
        self.request.sendall(b"\x05\x00")
        *_, kind = self._take(4)
        assert kind == 3, "names are looked up by the proxy"
        host = self._take(self._take(1)[0]).decode()
        port = int.from_bytes(self._take(2))
        self.server.asked.append(f"SOCKS {host}:{port}")
        self.request.sendall(b"\x05\x00\x00\x01" + bytes(6))
        self._lead(b"")

    def _http(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65_536)
        line, _, rest = head.partition(b"\r\n")
        method, address, _ = line.decode().split(" ")
        self.server.asked.append(f"{method} {address}")
        if method == "CONNECT":
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._lead(b"")
            return
        path = "/" + address.split("/", 3)[3]
        self._lead(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n".encode() + rest)

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            taken += self.request.recv(count - len(taken))
        return taken

    def _lead(self, begun: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.server.leads_to)) as other:
            other.sendall(begun)
            back = threading.Thread(target=_pipe, args=(other, self.request))
            back.start()
            _pipe(self.request, other)
            back.join()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    asked: list[str]
    leads_to: int


class Proxy:
    """An HTTP and SOCKS proxy.

    Parameters
    ----------
    leads_to
        The port on loopback that every name leads to.

    Attributes
    ----------
    asked
        What it was asked for: ``GET http://host/path``, ``CONNECT host:443``, ``SOCKS host:80``.
    """

    def __init__(self, leads_to: int) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.asked = self.asked = []
        self._server.leads_to = leads_to
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def url(self, scheme: str = "http") -> str:
        """Its address, in the words of an environment."""
        login = "" if scheme.startswith("socks") else "ada:s3cret@"
        return f"{scheme}://{login}127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
