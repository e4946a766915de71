"""Whose turn it is to write, among processes."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

if sys.platform != "win32":
    import fcntl

POLL_SECONDS = 0.000_2
"""How long to wait between two looks; a commit takes about as long."""


class Turnstile:
    """Lets one process after the other ask for SQLite's write lock.

    SQLite has no queue: a process that writes without a pause takes its lock again
    before one that waits has looked, which then waited for two seconds. Whoever wants
    to write stands in here first, and leaves when the lock is theirs; the one who just
    had it finds the place taken, and so is the next but one.

    It is about turns only: where it does not work (on Windows, or if the one in front is
    suspended), nothing is less safe.

    Parameters
    ----------
    folder
        The folder of the file to write; processes stand in line at the folder itself.
    patience
        Seconds after which not to wait any more, and to ask for the lock all the same.
    """

    def __init__(self, folder: Path, patience: float) -> None:
        self._patience = patience
        if sys.platform != "win32":
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> None:
        if sys.platform != "win32":
            deadline = time.monotonic() + self._patience
            while not self._try() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.platform != "win32":
            with suppress(OSError):
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def _try(self) -> bool:
        if sys.platform != "win32":
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                # No more locks, say.
                return True
        return True

    def close(self) -> None:
        """Leave for good."""
        if sys.platform != "win32":
            os.close(self._folder)
