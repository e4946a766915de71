"""Crews from and to whatever format they come in, or are wanted in."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Literal

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.bundle import MESSAGE
from kasal_jupyter.formats.canvas import export_canvas, is_canvas, read_canvas
from kasal_jupyter.formats.crew_jsonc import crew_file, read_crew_jsonc
from kasal_jupyter.formats.crewai_export import export_project
from kasal_jupyter.formats.crewai_project import has_project, read_project
from kasal_jupyter.formats.document import read_json
from kasal_jupyter.formats.found_crew import Imported
from kasal_jupyter.formats.outline import Exported, file_name, outline
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew
from kasal_jupyter.formats.yaml_text import parse_mapping
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import ExportFormat, Format, Remark

Wanted = Literal["auto", "yaml", "crewai", "jsonc", "kasal"]

_YAML = (".yaml", ".yml")
_JSON = (".json", ".jsonc")
_BREAKING = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def import_crew(
    files: Mapping[str, str],
    *,
    wanted: Wanted = "auto",
    name: str | None = None,
    tools: Collection[str] | None = None,
) -> Imported:
    """Read the one crew that some files hold.

    Parameters
    ----------
    files
        Their content by their paths.
    wanted
        What they are; found out where it is ``auto``.
    name
        The crew's name; else it stands in the files, or it is that of the file or the folder.
    tools
        The tools that there are here; None where that is not known.

    Raises
    ------
    InvalidRequest
        There is no crew, or more than one, or with every fault that it has, each with its file, its line and
        its field.
    """
    kind = wanted if wanted != "auto" else _kind(files)
    if kind == "crewai":
        return read_project(files, name=name, tools=tools)
    if kind == "jsonc":
        file = crew_file(files) or _one(files, _JSON, "crew.jsonc")
        return read_crew_jsonc(files, file, name=name, tools=tools)
    if kind == "kasal":
        file = _one(files, _JSON, "Kasal's export")
        return read_canvas(file, files[file], name=name, tools=tools)
    file = _one(files, (*_YAML, *_JSON) if wanted == "auto" else _YAML, "a crew's YAML")
    return Imported(_from_yaml(file, files[file], name), "yaml", [])


def _kind(files: Mapping[str, str]) -> Format:
    """Find out what some files are."""
    if has_project(files) and not _is_our_yaml(files):
        return "crewai"
    if crew_file(files) is not None:
        file = str(crew_file(files))
        return _kind_of_json(file, files[file])
    if len(files) == 1:
        ((path, text),) = files.items()
        if PurePosixPath(path).suffix.lower() in _JSON or text.lstrip().startswith("{"):
            return _kind_of_json(path, text)
        return "yaml"
    return "yaml" if not any(PurePosixPath(path).suffix.lower() in _JSON for path in files) else "kasal"


def _kind_of_json(path: str, text: str) -> Format:
    data = read_json(path, text).data
    if is_canvas(data):
        return "kasal"
    # CrewAI's tasks are a list; ours stand by name.
    return "yaml" if isinstance(data.get("tasks"), dict) else "jsonc"


def _is_our_yaml(files: Mapping[str, str]) -> bool:
    """Say whether a file is a whole crew, whatever it is called."""
    return (
        len(files) == 1
        and re.search(r"^(agents|tasks):", next(iter(files.values())), re.MULTILINE) is not None
    )


def _one(files: Mapping[str, str], endings: tuple[str, ...], what: str) -> str:
    if len(files) == 1:
        return next(iter(files))
    found = [path for path in files if PurePosixPath(path).suffix.lower() in endings]
    if len(found) == 1:
        return found[0]
    reason = (
        f"there is no file that could be {what}; a CrewAI project has agents.yaml and tasks.yaml"
        if not found
        else f"{len(found)} files could be {what}: {', '.join(sorted(found)[:5])}; give one"
    )
    raise InvalidRequest(f"{MESSAGE}: {reason}", faults=[Fault("files", reason)])


def _from_yaml(file: str, text: str, name: str | None) -> CrewCreate:
    if PurePosixPath(file).suffix.lower() in _JSON or text.lstrip().startswith("{"):
        # JSON is YAML but for comments, tabs, pairs of surrogates, and letters that break YAML's lines.
        text = json.dumps(read_json(file, text).data, ensure_ascii=False, indent=1)
        text = _BREAKING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        if name is None and "name" not in parse_mapping(text, "a crew begins with `agents:` and `tasks:`"):
            name = PurePosixPath(file).stem.replace("_", " ")
        return load_crew(text, name)
    except InvalidRequest as error:
        faults = [Fault(fault.field, f"{file}, {fault.reason}") for fault in error.faults]
        raise InvalidRequest(error.message, faults=faults) from None


# -- written --------------------------------------------------------------------------------------------

# Crews in whatever format they are wanted.

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
