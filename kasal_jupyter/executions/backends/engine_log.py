"""Where the processes that runs come from print: a file each, since servers may share a data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from io import FileIO
from pathlib import Path

if sys.platform != "win32":
    import fcntl

KEPT = 5
"""Files of processes that are gone, which are kept for whoever asks why."""

_LAST = 10_000


def open_engine_log(folder: Path) -> FileIO:
    """Make a file for a process to print to, and throw away old ones of processes that are gone.

    The process that inherits it holds its lock, and so tells that it lives.

    Parameters
    ----------
    folder
        The data folder.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _sweep(logs)
    # Appending, so that it can be made short while it is written.
    path = logs / f"engine-{os.getpid()}-{secrets.token_hex(4)}.log"
    path.touch(mode=0o600)
    file = path.open("ab", buffering=0)
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # A file system without locks: it may be thrown away early.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def last_words(log: Path) -> str:
    """Give the last line a process wrote, to be shown with an error."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST))
            lines = file.read(_LAST).decode(errors="replace").strip().splitlines()
    except OSError:
        return "It wrote nothing."
    return lines[-1][:500] if lines else "It wrote nothing."


def _sweep(logs: Path) -> None:
    dead: list[tuple[float, Path]] = []
    for path in logs.glob("engine-*.log"):
        with contextlib.suppress(OSError):  # Another server may sweep as well.
            if _nobodys(path):
                dead.append((path.stat().st_mtime, path))
    for _, path in sorted(dead)[:-KEPT]:
        with contextlib.suppress(OSError):
            path.unlink()


def _nobodys(path: Path) -> bool:
    if sys.platform == "win32":
        return True  # A file that somebody has open cannot be removed there.
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
