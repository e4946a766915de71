"""What a run's process may have of the machine's memory, and who goes first where there is too little."""

from __future__ import annotations

import contextlib
from pathlib import Path

_FIRST = "1000"
"""The highest of what Linux calls a process's badness."""


def be_first_to_go() -> None:
    """Have the system, where its memory runs out, kill this process and what it starts before any other.

    It would choose by size otherwise, and end the zygote or the server for what one run has taken.
    """
    with contextlib.suppress(OSError):  # Not Linux.
        Path("/proc/self/oom_score_adj").write_text(_FIRST, encoding="ascii")


def limit_memory(more: int) -> None:
    """Limit the memory of this process, and of each that it starts; beyond, there is a ``MemoryError``.

    The limit is on writable private memory. Address space, the other thing that can be limited, also counts
    what is only reserved (64 MB a thread) or mapped from files.

    Parameters
    ----------
    more
        Bytes beside those that it has, most of which it shares with the zygote; 0: no limit.
    """
    if not more:
        return
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ImportError, OSError, ValueError):
        return  # Not Linux: nothing of the kind can be limited there.
