"""Crews in files and folders of this machine, in every format: for the magics, the terminal and Python."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kasal_jupyter.formats.conversion import Wanted
    from kasal_jupyter.formats.found_crew import Imported
    from kasal_jupyter.formats.outline import Exported
    from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails
    from kasal_jupyter.schemas.exchange import ExportFormat, Remark

FORMATS = ("yaml", "crewai", "kasal")
"""What a crew can be written as; the contract's own, which is not imported for them."""

READ_FORMATS = ("auto", "yaml", "crewai", "jsonc", "kasal")
"""What one can be read from, likewise."""


def source_of(path: Path) -> Path:
    """Give the folder that a crew is in, where a path names one of its files; else the path itself."""
    from kasal_jupyter.formats.crew_jsonc import NAMES
    from kasal_jupyter.formats.crewai_project import AGENTS, TASKS

    if path.is_dir() or not path.exists():
        return path
    if path.name in {*AGENTS, *TASKS}:
        other = AGENTS if path.name in TASKS else TASKS
        if any((path.parent / name).exists() for name in other):
            return path.parent.parent if path.parent.name == "config" else path.parent
    if path.name in NAMES and (path.parent / "agents").is_dir():
        return path.parent
    return path


def read_crew(
    path: Path,
    *,
    name: str | None = None,
    wanted: Wanted = "auto",
    tools: Collection[str] | None = None,
) -> Imported:
    """Read the crew of a file, a folder or a zip file; nothing of it is executed.

    Parameters
    ----------
    path
        A file of YAML or JSON, a project's folder, or one packed as a zip file.
    name
        The crew's name; else the one that stands there, else the file's or the folder's.
    wanted
        The format; found out by itself where it is ``auto``.
    tools
        The names of the tools that there are; None where that is not known.

    Raises
    ------
    InvalidRequest
        With every fault, each with its file, its line and its field.
    """
    from kasal_jupyter.formats.bundle import files_of
    from kasal_jupyter.formats.conversion import import_crew

    source = source_of(path)
    return import_crew(files_of(source), wanted=wanted, name=name, tools=tools)


def placed(faults: Iterable[Fault], path: Path) -> list[Fault]:
    """Give faults whose fields say which of several crews they are of; its path is not told twice."""
    found = []
    for fault in faults:
        reason = fault.reason.removeprefix(f"{path.name}, ")
        found.append(Fault(f"{path}: {fault.field}" if fault.field != path.name else str(path), reason))
    return found


def export(crew: CrewCreate | CrewDetails, wanted: ExportFormat) -> Exported:
    """Write a crew in a format."""
    from kasal_jupyter.formats.conversion import export_crew
    from kasal_jupyter.formats.outline import whole_body
    from kasal_jupyter.schemas.crews import CrewDetails

    return export_crew(whole_body(crew) if isinstance(crew, CrewDetails) else crew, wanted)


def save(found: Exported, path: Path, *, force: bool = False) -> None:
    """Write an export to this machine: one file as a file, a project as a folder, or as a ``.zip`` file.

    Parameters
    ----------
    found
        The export.
    path
        Where to.
    force
        Whether to write over what is there.

    Raises
    ------
    InvalidRequest
        It is there already, or cannot be written; nothing is half there then.
    """
    from kasal_jupyter.formats.conversion import as_zip

    try:
        if path.suffix.lower() == ".zip":
            write_whole(path, as_zip(found.files, path.stem), new=not force)
        elif len(found.files) == 1:
            write_whole(path, found.only[1].encode(), new=not force)
        else:
            _write_folder(path, found.files, force=force)
    except FileExistsError:
        raise _refused(path, "is there already; name another file, or add --force") from None
    except OSError as error:
        raise _refused(path, f"cannot be written: {error.strerror or error}") from None


def remark_lines(remarks: Iterable[Remark]) -> list[str]:
    """Give what could not be carried over, a line each."""
    return [f"  {remark.field}: {remark.reason}" for remark in remarks]


def _write_folder(path: Path, files: Mapping[str, str], *, force: bool) -> None:
    if path.exists() and not force and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError
    # Whole or not at all: a project that lacks a file would run, and do something else.
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        for name, text in files.items():
            file = made / PurePosixPath(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8", newline="\n")
        made.chmod(0o755)
        if path.is_dir():
            shutil.copytree(made, path, dirs_exist_ok=True)
        else:
            made.rename(path)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _refused(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path} {reason}", faults=[Fault(str(path), reason)])
