"""What a run's process may have of the machine, and who stands back where there is too little of it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kasal_jupyter.warden import stand_back

_FIRST = "1000"
"""The highest of what Linux calls a process's badness."""


NICE = 5
"""How far a run stands behind the server where both want a processor: whoever asks it is answered first."""


def give_way() -> None:
    """Have the system take this process, and what it starts, last for a processor, and end it first.

    Where memory runs out, it would choose by size, and end the server for what one run has taken.
    """
    stand_back(NICE)
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
