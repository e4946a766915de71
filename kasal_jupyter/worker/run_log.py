"""What a run's process prints, on its way to a file, without keys.

Libraries log what a provider answered, and providers answer with keys: "Incorrect API key provided: sk-…".
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from kasal_jupyter.hiding import Hider

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
        self._target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._hider = hider
        self._thread: threading.Thread | None = None
        if not hider:
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
            shown, waiting = self._hider.split(waiting + piece)
            self._write(shown)
        self._write(self._hider.hide(waiting))

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._target, data) :]
        except OSError:
            return  # The disk is full, say. Whoever prints must not wait for it.


def _stand_in(descriptor: int) -> None:
    for stream in (1, 2):
        os.dup2(descriptor, stream)
