"""The file of the run's folder that a task's result is written to."""

from __future__ import annotations

from pathlib import Path

from crewai.tasks.task_output import TaskOutput

from kasal_jupyter.tools.open_folder import Folder
from kasal_jupyter.tools.workspace import PathRefused, Workspace
from kasal_jupyter.worker.process.failures import ModelFailed

WHOLE = "result.txt"
"""Where the result of a run is that is longer than its last event tells."""


def write_whole(folder: Path, text: str) -> str:
    """Write a run's whole result into its folder, and give the file's name.

    Raises
    ------
    OSError
        There is no room, or the agents have put a folder there.
    """
    # Past what a tool may write: it is the run's own. Nothing that stands there is followed.
    with Folder(folder) as opened:
        opened.put(WHOLE, text.encode(errors="replace"))
    return WHOLE


class ResultFile:
    """Writes a task's result, as its task's callback.

    CrewAI's own ``output_file`` follows links and ``..`` wherever they lead, and begins where the process
    stands.

    Parameters
    ----------
    folder
        The run's folder.
    path
        The file in it.
    """

    def __init__(self, folder: Path, path: str) -> None:
        self._workspace = Workspace(folder)
        self._path = path

    def __call__(self, output: TaskOutput) -> None:
        """Write a result; a structured one as JSON.

        Raises
        ------
        ModelFailed
            The path leads out of the run's folder, or there is no room.
        """
        text = output.raw if output.pydantic is None else output.pydantic.model_dump_json(indent=2)
        try:
            self._workspace.write(self._path, text.encode())
        except PathRefused as error:
            raise ModelFailed(f"Its output_file cannot be written: {error}", code="OUTPUT_FILE") from error
