"""What a run's process prints, on its way to a file, without keys.

Libraries log what a provider answered, and providers answer with keys: "Incorrect API key provided: sk-…".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

from kasal_jupyter.worker.outbox import HIDDEN, MIN_SECRET, encode

_PIECE = 65_536


class RunLog:
    """Takes the process's standard output and error, below Python too: what it starts prints there as well.

    Parameters
    ----------
    path
        The file.
    secrets
        Keys that must not stand in it; each is replaced wherever it is printed.
    """

    def __init__(self, path: Path, secrets: Iterable[str] = ()) -> None:
        self._target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._secrets = _forms(secrets)
        self._thread: threading.Thread | None = None
        if not self._secrets:
            _stand_in(self._target)
            return
        self._source, into = os.pipe()
        _stand_in(into)
        os.close(into)
        self._thread = threading.Thread(target=self._copy, name="run log", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write what was printed; at most so many seconds: what the run has started may print on."""
        if self._thread is None:
            return
        # With the last one that could print, the pipe ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        _stand_in(nothing)
        os.close(nothing)
        self._thread.join(timeout)

    def _copy(self) -> None:
        waiting = b""
        while piece := os.read(self._source, _PIECE):
            waiting = self._without_keys(waiting + piece)
            keep = self._beginning(waiting)
            self._write(waiting[: len(waiting) - keep])
            waiting = waiting[len(waiting) - keep :]
        self._write(waiting)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._target, data) :]
        except OSError:
            return  # The disk is full, say. Whoever prints must not wait for it.

    def _without_keys(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret, HIDDEN.encode())
        return data

    def _beginning(self, data: bytes) -> int:
        """Give how many bytes at the end may be the beginning of a key."""
        return max(
            (
                length
                for secret in self._secrets
                for length in range(1, min(len(secret), len(data) + 1))
                if data.endswith(secret[:length])
            ),
            default=0,
        )


def _forms(secrets: Iterable[str]) -> list[bytes]:
    """Give the secrets as they are printed: plainly, as Python writes a text, and in JSON."""
    found: dict[bytes, None] = {}
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            for form in (secret.encode(errors="replace"), repr(secret)[1:-1].encode(), encode(secret)[1:-1]):
                found[form] = None
    return list(found)


def _stand_in(descriptor: int) -> None:
    for stream in (1, 2):
        os.dup2(descriptor, stream)
