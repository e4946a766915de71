"""How a run's process is set up: what is set before CrewAI is imported, and what it may have of the machine.

CrewAI reads its switches at import, so this module imports nothing of it at the top.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from kasal_jupyter.outward import settle
from kasal_jupyter.warden import stand_back

SWITCHES = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    # Keeps CrewAI from asking on the terminal whether to share a trace, and from noting down the last run.
    "CREWAI_TESTING": "true",
    "OTEL_SDK_DISABLED": "true",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    # A thread a core would be started at import, and a process with threads must not fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""No telemetry, no questions, no threads."""


def import_crewai(storage: Path) -> None:
    """Import CrewAI with everything switched off.

    Parameters
    ----------
    storage
        Where CrewAI may keep files; absolute.
    """
    os.environ.update(SWITCHES)
    settle(os.environ)
    os.environ["CREWAI_STORAGE_DIR"] = str(storage.absolute())
    # CrewAI would take its locks from a Redis server it finds named here.
    os.environ.pop("REDIS_URL", None)
    # A grammar for IRIs that jsonschema only uses when it is there, and that takes a second to build.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from kasal_jupyter.worker.crewai_seams import keep_no_task_outputs

    keep_no_task_outputs()


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
