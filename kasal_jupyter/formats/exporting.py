"""Crews in whatever format they are wanted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from kasal_jupyter.formats.canvas_export import export_canvas
from kasal_jupyter.formats.crewai_export import export_project
from kasal_jupyter.formats.outline import Exported
from kasal_jupyter.formats.yaml_export import export_yaml
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import ExportFormat

_WRITERS = {"yaml": export_yaml, "crewai": export_project, "kasal": export_canvas}

_DATE = (1980, 1, 1, 0, 0, 0)
"""The date of every file in an archive: the same crew gives the same bytes."""


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
