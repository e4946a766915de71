"""What must be set before CrewAI is imported, and the import itself.

CrewAI reads these at import, so this module imports nothing of it at the top.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kasal_jupyter.outward import settle

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
