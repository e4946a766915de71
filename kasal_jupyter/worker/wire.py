"""Lines on a run's socket, as its process reads them."""

from __future__ import annotations

import socket

from kasal_jupyter.schemas.spec import RunMessage

READ_SIZE = 65_536


class LineReader:
    """Reads the server's messages, one JSON line each.

    Parameters
    ----------
    sock
        A blocking stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def read(self) -> RunMessage | None:
        """Wait for the next message; None when the server has gone."""
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return RunMessage.model_validate_json(line)
            try:
                data = self._sock.recv(READ_SIZE)
            except OSError:
                return None
            if not data:
                return None
            self._buffer += data
