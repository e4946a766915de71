"""Crews in whatever format they are wanted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from kasal_jupyter.formats.canvas_export import export_canvas
from kasal_jupyter.formats.crewai_export import export_project
from kasal_jupyter.formats.outline import Exported, file_name, outline
from kasal_jupyter.formats.yaml_crew import dump_crew
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import ExportFormat, Remark

_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of every file in an archive: the same crew gives the same bytes."""


def export_yaml(crew: CrewCreate) -> Exported:
    """Write a crew as our YAML, which is read back to the same crew."""
    found = outline(crew)
    remarks = list(found.remarks)
    tasks = []
    for place, (task, texts) in enumerate(zip(found.crew.tasks, found.texts, strict=True)):
        entries = []
        for text in texts:
            alone = not any(char.isspace() for char in text)
            # One word is read as a task's name.
            entries.append(f"{text} " if alone else text)
            if alone:
                remarks.append(
                    Remark(
                        field=f"tasks[{place}].context",
                        reason=f"{text!r} has a blank behind it there, or it would be read as a task's name",
                    )
                )
        if entries:
            task = task.model_copy(update={"context": [*(task.context or ()), *entries]})  # noqa: PLW2901
        tasks.append(task)
    text = dump_crew(found.crew.model_copy(update={"tasks": tasks}))
    return Exported({f"{file_name(crew.name)}.yaml": text}, remarks)


_WRITERS = {"yaml": export_yaml, "crewai": export_project, "kasal": export_canvas}


def export_crew(crew: CrewCreate, wanted: ExportFormat) -> Exported:
    """Write a crew in a format."""
    return _WRITERS[wanted](crew)


def as_zip(files: Mapping[str, str], folder: str) -> bytes:
    """Pack files into a zip file, in one folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(f"{folder}/{path}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text.encode())
    return stream.getvalue()
