"""Lines on a run's socket, as its process reads them."""

from __future__ import annotations

import socket

from pydantic import ValidationError

from kasal_jupyter.schemas.spec import RunMessage

READ_SIZE = 65_536


class Garbled(ValueError):
    """A line of the server's is no message. The text does not quote it: there may be keys in it."""


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
        """Wait for the next message; None when the server has gone.

        Raises
        ------
        Garbled
            A line is no message.
        OSError
            The system does not give what the server has sent.
        """
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return _read(line)
            try:
                data = self._sock.recv(READ_SIZE)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data


def _read(line: bytes) -> RunMessage:
    try:
        return RunMessage.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise Garbled(f"The server's message cannot be read: {where}: {first['msg']}") from None
