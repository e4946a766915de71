"""What a run's process prints, on its way to a file, without keys and without filling the disk.

Libraries log what a provider answered, and providers answer with keys: "Incorrect API key provided: sk-…".
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from pathlib import Path

from kasal_jupyter.hiding import Hider

MAX_LOG = 20_000_000
"""Bytes that the file may have: its first half is how it began, the second begins anew when it is full."""

_PIECE = 65_536


class RunLog:
    """Takes the process's standard output and error, below Python too: what it starts prints there as well.

    Parameters
    ----------
    path
        The file.
    hider
        Knows the secrets that must not stand in it.
    """

    def __init__(self, path: Path, hider: Hider) -> None:
        self._file = _HalvedFile(path)
        self._hider = hider
        for stream in (sys.stdout, sys.stderr):
            # What no encoding takes is printed nevertheless: whoever prints must not fail of it.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        self._source, into = os.pipe()
        _stand_in(into)
        os.close(into)
        self._thread = threading.Thread(target=self._copy, name="run log", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write what was printed; at most so many seconds: what the run has started may print on."""
        # With the last one that could print, the pipe ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        _stand_in(nothing)
        os.close(nothing)
        self._thread.join(timeout)

    def _copy(self) -> None:
        try:
            self._copy_all()
        except BaseException as error:  # noqa: BLE001 - the border of the thread
            # Nobody else can be told: what is printed about it would come here.
            self._file.write(f"\n[What was printed is left out from here on: {error!r}]\n".encode())
        # Whoever prints would wait for ever if nobody read it.
        with contextlib.suppress(OSError):
            while os.read(self._source, _PIECE):
                pass

    def _copy_all(self) -> None:
        waiting = b""
        while piece := os.read(self._source, _PIECE):
            shown, waiting = self._hider.split(waiting + piece)
            self._file.write(shown)
        self._file.write(self._hider.hide(waiting))


class _HalvedFile:
    """A file that keeps its beginning, and of the rest the newest."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = self._half = self._newest = self._left_out = 0

    def write(self, data: bytes) -> None:
        """Write what comes next."""
        if self._size + len(data) > MAX_LOG:
            self._leave_out()
        self._append(data)
        if not self._half and self._size >= MAX_LOG // 2:
            self._half = self._newest = self._size

    def _leave_out(self) -> None:
        self._left_out += self._size - self._newest
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, self._half)
            self._size = self._half
        self._append(f"\n[{self._left_out:,} bytes of what was printed are left out here.]\n".encode())
        self._newest = self._size

    def _append(self, data: bytes) -> None:
        try:
            while data:
                written = os.write(self._handle, data)
                self._size += written
                data = data[written:]
        except OSError:
            return  # The disk is full, say. Whoever prints must not wait for it.


def _stand_in(descriptor: int) -> None:
    for stream in (1, 2):
        os.dup2(descriptor, stream)
