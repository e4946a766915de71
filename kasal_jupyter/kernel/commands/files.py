"""`%kasal export, import`."""

from __future__ import annotations

import glob
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.kernel.cards import Shown
from kasal_jupyter.kernel.command_line import quoted
from kasal_jupyter.kernel.commands.crews import put_crew
from kasal_jupyter.kernel.crew_card import CrewCard
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.session import Session

if TYPE_CHECKING:
    from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails


def export_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Write a crew as YAML."""
    del cell
    from kasal_jupyter.formats.yaml_crew import dump_crew

    crew = session.crew(words.crew)
    if words.file is None:
        print(as_cell(crew))  # noqa: T201 - it is the answer
        return
    path = Path(words.file).expanduser()
    try:
        with path.open("w" if words.force else "x", encoding="utf-8") as file:
            file.write(dump_crew(crew))
    except FileExistsError:
        raise CellError(f"{path} is there already; name another file, or add --force") from None
    except OSError as error:
        raise CellError(f"{path} cannot be written: {error.strerror or error}") from None
    print(f"{crew.name} → {path}")  # noqa: T201 - it is the answer


def as_cell(crew: CrewDetails | CrewCreate) -> str:
    """Write a crew as the cell that makes it."""
    from kasal_jupyter.formats.yaml_crew import dump_crew
    from kasal_jupyter.formats.yaml_text import mark_names

    text = dump_crew(crew)
    # A prompt may hold {{name}} itself, which the cell would otherwise fill in.
    raw = " --raw" if mark_names(text) != text else ""
    # The name stands in the first line already; a long one goes on in indented lines.
    lines = text.splitlines()
    begin = next(at for at, line in enumerate(lines) if at and not line.startswith(" "))
    return "\n".join([f"%%kasal crew {quoted(crew.name)}{raw}", *lines[begin:]])


def import_command(session: Session, words: Namespace, cell: str | None) -> CrewCard | Shown:
    """Create or update the crews of some files: all, or none where one has a fault."""
    del cell
    paths = _paths(words.files)
    if words.name is not None and len(paths) > 1:
        raise CellError("--name is for one file; several are called by their `name`, else by the file's")
    faults: list[Fault] = []
    crews: list[CrewCreate] = []
    for path in paths:
        try:
            crews.append(read_crew_file(path, words.name))
        except InvalidRequest as error:
            faults += [Fault(f"{path}: {fault.field}", fault.reason) for fault in error.faults]
    for name in {crew.name for crew in crews}:
        if sum(crew.name == name for crew in crews) > 1:
            faults.append(Fault("name", f"Two of the files have a crew {name!r}"))
    if faults:
        first = faults[0]
        raise CellError(f"Nothing was imported: {first.field}: {first.reason}", faults=faults)
    done = [put_crew(session.client, crew) for crew in crews]
    if len(done) == 1:
        return CrewCard(*done[0])
    rows = [[crew.name, verb, crew.status, crew.id] for crew, verb in done]
    return Shown("", ["crew", "", "status", "id"], rows)


def read_crew_file(path: Path, name: str | None = None) -> CrewCreate:
    """Read a crew from a YAML file; without a name in it, the crew is called as the file is.

    Raises
    ------
    InvalidRequest
        With every fault, each with its line and its field.
    CellError
        There is no such file, or it is no text.
    """
    from kasal_jupyter.formats.yaml_crew import load_crew
    from kasal_jupyter.formats.yaml_text import parse_mapping

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CellError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise CellError(f"{path} cannot be read: {error.strerror or error}") from None
    if name is None and "name" not in parse_mapping(text, "a crew begins with `agents:` and `tasks:`"):
        name = path.stem.replace("_", " ")
    return load_crew(text, name)


def _paths(words: list[str]) -> list[Path]:
    found: list[Path] = []
    for word in words:
        path = Path(word).expanduser()
        # A file may be called so itself.
        if path.exists() or not glob.has_magic(word):
            matching = [path]
        else:
            matching = sorted(map(Path, glob.glob(str(path))))  # noqa: PTH207 - with folders in it
        if not matching:
            raise CellError(f"There is no file {word}")
        found += [each for each in matching if each not in found]
    return found
