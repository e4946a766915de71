"""Which runs a notebook has started: they are found again when its kernel was restarted.

A file of job ids for each notebook, below Jupyter's data folder. The notebook is known by its path, as
Jupyter's server and VS Code tell it to a kernel; one without a path remembers nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kasal_jupyter.whole_file import write_whole

KEPT = 50
"""Runs of a notebook that are remembered."""


def note_run(job_id: str, namespace: Mapping[str, Any]) -> None:
    """Remember a run of the notebook whose variables these are."""
    if (file := _file(namespace)) is None or job_id in (known := runs_before(namespace))[:1]:
        return
    lines = [*known[: KEPT - 1][::-1], job_id]
    # It is a convenience: no run fails because the home folder cannot be written.
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, "".join(f"{line}\n" for line in lines).encode())


def runs_before(namespace: Mapping[str, Any]) -> list[str]:
    """Give the job ids of the notebook, the latest first."""
    file = _file(namespace)
    try:
        lines = file.read_text("utf-8").splitlines() if file is not None else []
    except (OSError, UnicodeDecodeError):
        return []
    return list(dict.fromkeys(reversed(lines)))


def notebook_path(namespace: Mapping[str, Any]) -> str | None:
    """Give the path of the notebook whose variables these are; None where nobody tells it."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return path if isinstance(path, str) and path else None


def _file(namespace: Mapping[str, Any]) -> Path | None:
    path = notebook_path(namespace)
    if path is None:
        return None
    from jupyter_core.paths import jupyter_data_dir

    name = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(jupyter_data_dir(), "kasal-notebooks", f"{name}.runs")
