"""What lies on disk of each run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files of runs are.

    Attributes
    ----------
    folder
        The ``runs`` folder of the data folder.
    """

    folder: Path

    def journal(self, job_id: str) -> Path:
        """Give where a run's events are."""
        return self.folder / f"{job_id}.jsonl"

    def workspace(self, job_id: str) -> Path:
        """Give the folder that a run writes its files in."""
        return self.folder / job_id

    def delete(self, job_id: str) -> None:
        """Delete all that there is of a run.

        Raises
        ------
        OSError
            Something of it cannot be deleted now.
        """
        workspace = self.workspace(job_id)
        try:
            workspace.rmdir()  # Of one that is empty: it needs no descriptor; there may be none.
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(workspace)
        self.journal(job_id).unlink(missing_ok=True)
