"""The process of a user's private server: ``python -m kasal_jupyter.cli.detached FILE``.

It leaves the process that started it. Its standard output is closed when it answers, or when it has ended
instead, and nothing is ever written there; everything it says goes to its standard error, a log.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kasal_jupyter.cli import quick_imports


def detach() -> int:
    """Go on as a process that is nobody's child; give the file number to close when the server answers."""
    # No process that is started from here inherits it, or its end would not be seen.
    ready = os.dup(1)
    os.dup2(2, 1)
    # Before anything is loaded: what has forked is small, and has no threads.
    if hasattr(os, "fork") and os.fork():
        os._exit(0)
    return ready


def main(path: Path) -> None:
    """Serve until it is told to end, or nobody has asked for anything for long."""
    ready = detach()
    with quick_imports():
        from kasal_jupyter.cli.private_app import serve
    serve(path, ready)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
